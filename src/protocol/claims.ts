import { percentEncodeForHeader } from "./percent.ts";

/** Longest `X-ASRS-User-Claims` value, in bytes; a token with more is refused with 431. Source: PROTOCOL.md, "Client endpoint". */
export const MAX_CLAIMS_BYTES = 8192;

const SEPARATOR = ", ";

/** One scalar of a valid array, with the separators in front of it. Sticky, as is the next: no place is looked at twice. */
const SCALAR = /[,\s]*("(?:[^"\\]|\\.)*"|[^,\s"]+)/gy;

/** A string or any other text between white space in valid JSON, kept as `$1`; or white space. */
const TOKEN_OR_SPACE = /("(?:[^"\\]|\\.)*"|[^"\s]+)|\s+/gy;

/** A claim as the token wrote it. `json` is its own JSON text, so that 1.0 and 20-digit numbers stay as they are. */
export interface Claim {
  readonly type: string;
  readonly value: unknown;
  readonly json: string;
}

/**
 * Formats `X-ASRS-User-Claims`.
 *
 * Shape:  `type: value` pairs joined by `, `, in the token's order; an array of scalars gives one pair an element;
 *         numbers, booleans, null and objects are JSON. Characters that would break the list are percent-encoded.
 * Errors: null where it would be over `MAX_CLAIMS_BYTES`. It stops there: an array repeats its claim's name for each element.
 * Source: the seed, `X-ASRS-User-Claims`; PROTOCOL.md, "Calling the upstream".
 */
export function formatClaims(claims: readonly Claim[]): string | null {
  const pairs: string[] = [];
  // Percent-encoding leaves ASCII only, so characters are bytes.
  let byteCount = -SEPARATOR.length;
  for (const claim of claims) {
    const type = percentEncodeForHeader(claim.type);
    for (const value of claimValues(claim)) {
      const pair = `${type}: ${percentEncodeForHeader(value)}`;
      byteCount += pair.length + SEPARATOR.length;
      if (byteCount > MAX_CLAIMS_BYTES) return null;
      pairs.push(pair);
    }
  }
  return pairs.join(SEPARATOR);
}

function claimValues(claim: Claim): string[] {
  if (typeof claim.value === "string") return [claim.value];
  if (!Array.isArray(claim.value) || claim.value.some((element) => typeof element === "object" && element !== null)) {
    return [claim.json];
  }
  const elements = splitScalars(claim.json);
  return claim.value.map((element, index) => (typeof element === "string" ? element : (elements[index] ?? "null")));
}

/** The JSON texts of an array's scalar elements. */
function splitScalars(jsonArray: string): string[] {
  return Array.from(jsonArray.slice(1, -1).matchAll(SCALAR), ([, scalar = ""]) => scalar);
}

/**
 * Reads a token's payload into claims: own order, own number spelling.
 *
 * Why not `JSON.parse` alone: it moves names like `1` to the front, drops repeated ones and rounds long numbers, and the
 * backend is promised the token's claims in their order. Errors: null where the text is not a JSON object.
 */
export function parseClaims(json: string): Claim[] | null {
  const whole = parseJson(json);
  if (typeof whole !== "object" || whole === null || Array.isArray(whole)) return null;
  // The text is valid JSON from here on, so a scanner that only finds the ends of things is enough.
  const claims: Claim[] = [];
  let at = skipSpace(json, json.indexOf("{") + 1);
  while (json[at] !== "}") {
    const typeEnd = skipValue(json, at);
    const type = JSON.parse(json.slice(at, typeEnd)) as string;
    const valueStart = skipSpace(json, skipSpace(json, typeEnd) + 1);
    const valueEnd = skipValue(json, valueStart);
    const text = json.slice(valueStart, valueEnd);
    claims.push({ type, value: JSON.parse(text), json: compact(text) });
    at = skipSpace(json, valueEnd);
    if (json[at] === ",") at = skipSpace(json, at + 1);
  }
  return claims;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function skipSpace(json: string, start: number): number {
  let at = start;
  while (json[at] === " " || json[at] === "\n" || json[at] === "\r" || json[at] === "\t") at++;
  return at;
}

/** The index behind the JSON value that begins at `start`. */
function skipValue(json: string, start: number): number {
  let depth = 0;
  let at = start;
  do {
    const char = json[at];
    if (char === '"') {
      at++;
      while (json[at] !== '"') at += json[at] === "\\" ? 2 : 1;
      at++;
    } else if (char === "{" || char === "[") {
      depth++;
      at++;
    } else if (char === "}" || char === "]") {
      depth--;
      at++;
    } else if (depth > 0) {
      at++;
    } else {
      while (at < json.length && !/[\s,\]}]/.test(json[at] ?? "")) at++;
    }
  } while (depth > 0);
  return at;
}

/** Drops the white space between JSON tokens, so that a header line stays one line. */
function compact(json: string): string {
  return json.replace(TOKEN_OR_SPACE, "$1");
}
