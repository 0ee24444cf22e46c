import { ownCopy } from "./own-copy.ts";
import { percentDecode, percentEncodeBytes } from "./percent.ts";

/** Characters that no URL may hold unescaped (RFC 3986, section 2; `[` and `]` are in every form library's queries and stay). */
const NOT_IN_A_URL = /[\u0000-\u0020"#<>\\^`{|}\u007f-\u{10ffff}]/gu;

/** The name under which a client hands its token over in the query. */
const TOKEN_NAME = "access_token";

/** A pair's place in a query, without the `&` on either side. */
interface Span {
  readonly start: number;
  readonly end: number;
}

/**
 * An expression that finds a name at the start of a pair, each of its characters as itself or escaped.
 *
 * Why not decode the names and compare: a client can send 8000 that are malformed, and each costs an exception. A name with a
 * malformed escape is not one of these.
 */
const SPELLINGS = {
  access_token:
    /(?:^|&)(?:a|%61)(?:c|%63)(?:c|%63)(?:e|%65)(?:s|%73)(?:s|%73)(?:_|%5[fF])(?:t|%74)(?:o|%6[fF])(?:k|%6[bB])(?:e|%65)(?:n|%6[eE])(?=[=&]|$)/g,
  hub: /(?:^|&)(?:h|%68)(?:u|%75)(?:b|%62)(?=[=&]|$)/g,
  hubs: /(?:^|&)(?:h|%68)(?:u|%75)(?:b|%62)(?:s|%73)(?=[=&]|$)/g,
  ttl: /(?:^|&)(?:t|%74)(?:t|%74)(?:l|%6[cC])(?=[=&]|$)/g,
  reason: /(?:^|&)(?:r|%72)(?:e|%65)(?:a|%61)(?:s|%73)(?:o|%6[fF])(?:n|%6[eE])(?=[=&]|$)/g,
  excluded: /(?:^|&)(?:e|%65)(?:x|%78)(?:c|%63)(?:l|%6[cC])(?:u|%75)(?:d|%64)(?:e|%65)(?:d|%64)(?=[=&]|$)/g,
} as const;

/** A name that means something to hubwire. */
export type QueryName = keyof typeof SPELLINGS;

/** The pairs of this name, in order, `most` at most. */
function findPairs(query: string, name: QueryName, most: number): Span[] {
  const found: Span[] = [];
  // As nearly always: a query that holds neither the name nor an escape need not be gone through.
  if (!query.includes(name) && !query.includes("%")) return found;
  for (const { 0: text, index } of query.matchAll(SPELLINGS[name])) {
    if (found.length >= most) break;
    const start = text.startsWith("&") ? index + 1 : index;
    const end = query.indexOf("&", start);
    found.push({ start, end: end === -1 ? query.length : end });
  }
  return found;
}

/**
 * The decoded values of the pairs of a query with this name, in order; null for one whose escapes are malformed.
 *
 * Shape: after `most` pairs of the name no more are looked for.
 */
export function queryValues(query: string, name: QueryName, most = Number.POSITIVE_INFINITY): (string | null)[] {
  return findPairs(query, name, most).map(({ start, end }) => {
    const pair = query.slice(start, end);
    const mark = pair.indexOf("=");
    return mark === -1 ? "" : percentDecode(pair.slice(mark + 1).replaceAll("+", " "));
  });
}

/** The tokens that a client's query holds, under any spelling of `access_token`: the first two, since one more than one is a fault. */
export function queryTokens(query: string): string[] {
  return queryValues(query, TOKEN_NAME, 2).map((value) => value ?? "");
}

/**
 * Formats `X-ASRS-Client-Query`: the query as the client sent it, without its token.
 *
 * Shape:  no `?`; every pair whose decoded name is `access_token` is left out; bytes that no URL may hold are `%XX`.
 *         A percent-encoded CR or LF is harmless in a header and stays as it came.
 * Source: the seed, `X-ASRS-Client-Query`; PROTOCOL.md, "Calling the upstream". The token never leaves the service.
 */
export function formatClientQuery(query: string): string {
  if (query === "") return "";
  let kept = "";
  let keptTo = 0;
  for (const { start, end } of findPairs(query, TOKEN_NAME, Number.POSITIVE_INFINITY)) {
    kept += query.slice(keptTo, start);
    keptTo = end + 1;
  }
  kept += query.slice(keptTo);
  // The `&` in front of a token that was at the end.
  if (keptTo > query.length && kept.endsWith("&")) kept = kept.slice(0, -1);
  // The connection keeps it for as long as it lives, and need not keep the token's text with it.
  return ownCopy(kept.replace(NOT_IN_A_URL, percentEncodeBytes));
}
