import { createHmac, timingSafeEqual } from "node:crypto";
import { type Claim, parseClaims } from "../protocol/claims.ts";
import { type Refusal, refusal } from "../protocol/error-codes.ts";
import type { AccessKeys } from "./access-keys.ts";

/** Leeway for `exp` and `nbf`: the clocks of issuer and gateway may differ. Source: PROTOCOL.md, "Authentication of the client". */
const LEEWAY_SECONDS = 60;

const utf8Reader = new TextDecoder("utf-8", { fatal: true });

/** Three parts of base64url, nothing else: decoders forgive padding and spaces, and one token would have many spellings. */
const JWS = /^[\w-]+\.[\w-]+\.[\w-]*$/;

/** The last of the 43 base64url characters of a SHA-256: its two lowest bits are padding, and must be zero. */
const LAST_OF_SIGNATURE = /[AEIMQUYcgkosw048]$/;
const SIGNATURE_CHARS = 43;
const SIGNATURE_BYTES = 32;

/** A token whose signature is good: its claims, and when it holds. */
export interface SignedToken {
  readonly claims: readonly Claim[];
  /** Unix seconds. */
  readonly expiresAt: number;
  /** Unix seconds; negative infinity where the token does not say. */
  readonly notBefore: number;
}

/** Which check of a token failed. */
export type TokenFault =
  | "token_malformed"
  | "token_signature"
  | "token_claims"
  | "token_expired"
  | "token_not_yet_valid"
  | "token_audience";

/**
 * Verifies form, algorithm and signature of a token, and that its claims of time are numbers. It does not look at the time.
 *
 * Order:  synchronous. A REST call that has to wait for its token cannot be answered before the next pipelined request is read, and
 *         Bun closes such a connection (PROTOCOL.md, "Pipelined calls").
 * Source: PROTOCOL.md, "Authentication of the client": HS256, keyed with the UTF-8 bytes of the primary or
 *         secondary access key; `exp` is required.
 */
export function verifySignedToken(token: string, keys: AccessKeys): SignedToken | TokenFault {
  const payload = verifySignature(token, keys);
  if (typeof payload === "string") return payload;
  const claims = readClaims(payload);
  if (claims === null) return "token_malformed";
  const expiresAt = claimValue(claims, "exp");
  const given = claimValue(claims, "nbf");
  const notBefore = given === undefined ? Number.NEGATIVE_INFINITY : given;
  if (typeof expiresAt !== "number" || typeof notBefore !== "number") return "token_claims";
  // A time that no clock will ever show is a mistake, or a way round the end that is required.
  if (expiresAt > Number.MAX_SAFE_INTEGER) return "token_claims";
  return { claims, expiresAt, notBefore };
}

/** Whether a token holds at a time, in Unix seconds; null where it does. */
export function timeFault(token: Pick<SignedToken, "expiresAt" | "notBefore">, nowSeconds: number): TokenFault | null {
  if (token.expiresAt + LEEWAY_SECONDS <= nowSeconds) return "token_expired";
  return token.notBefore - LEEWAY_SECONDS > nowSeconds ? "token_not_yet_valid" : null;
}

/** A claim's value; of a repeated claim the last, as JSON parsers have it. */
export function claimValue(claims: readonly Claim[], type: string): unknown {
  return claims.findLast((claim) => claim.type === type)?.value;
}

/** The payload's bytes, or the code of what is wrong. */
function verifySignature(token: string, keys: AccessKeys): Uint8Array | "token_malformed" | "token_signature" {
  if (!JWS.test(token)) return "token_malformed";
  const [header = "", payload = "", signature = ""] = token.split(".");
  if (!isWellFormed(signature) || !isHeaderAccepted(header)) return "token_malformed";
  const payloadBytes = decodeBase64Url(payload);
  if (payloadBytes === null) return "token_malformed";
  const given = Buffer.from(signature, "base64url");
  const signed = token.slice(0, header.length + 1 + payload.length);
  for (const key of [keys.primary, keys.secondary]) {
    if (key !== null && isSignature(given, signed, key)) return payloadBytes;
  }
  return "token_signature";
}

/** Compares in constant time: how long it takes must not tell how many bytes of a guess are right. */
function isSignature(given: Uint8Array, signed: string, key: string): boolean {
  return given.length === SIGNATURE_BYTES && timingSafeEqual(given, createHmac("sha256", key).update(signed).digest());
}

function isWellFormed(signature: string): boolean {
  return signature.length % 4 !== 1 && (signature.length !== SIGNATURE_CHARS || LAST_OF_SIGNATURE.test(signature));
}

/**
 * Whether the header names HS256 and nothing that a verifier must understand: hubwire knows no extension, and RFC 7797 forbids
 * its one known use in a JWT. Source: RFC 7515, sections 4.1.1 and 4.1.11.
 */
function isHeaderAccepted(encoded: string): boolean {
  const bytes = decodeBase64Url(encoded);
  if (bytes === null) return false;
  try {
    const header: unknown = JSON.parse(utf8Reader.decode(bytes));
    if (typeof header !== "object" || header === null || Array.isArray(header)) return false;
    return "alg" in header && header.alg === "HS256" && !("crit" in header);
  } catch {
    return false;
  }
}

/** Null where the text has a length that no bytes have. Its alphabet has been checked. */
function decodeBase64Url(text: string): Uint8Array | null {
  return text.length % 4 === 1 ? null : Buffer.from(text, "base64url");
}

function readClaims(payload: Uint8Array): Claim[] | null {
  try {
    return parseClaims(utf8Reader.decode(payload));
  } catch {
    return null;
  }
}

const SENTENCES: Readonly<Record<TokenFault, readonly [message: string, target: string]>> = {
  token_malformed: ["the access token is not a JWT signed with HS256", "access_token"],
  token_signature: ["the access token was not signed with an access key in force", "access_token"],
  token_claims: [
    "the access token lacks a claim, or one is of the wrong type: exp and aud are required",
    "access_token",
  ],
  token_expired: ["the access token has expired", "exp"],
  token_not_yet_valid: ["the access token is not valid yet", "nbf"],
  token_audience: ["the access token was made for another endpoint or hub", "aud"],
};

/** The 401 for a fault; it holds neither token, claim nor key. */
export function tokenRefusal(fault: TokenFault): Refusal {
  const [message, target] = SENTENCES[fault];
  return refusal(fault, message, target);
}
