import { ownCopy } from "./own-copy.ts";
import { percentDecode, percentEncodeBytes } from "./percent.ts";

/** What no URL may hold unescaped (RFC 3986 section 2; `[` and `]` are in every form library's queries and stay). */
const NOT_IN_A_URL = /[\u0000-\u0020"#<>\\^`{|}\u007f-\u{10ffff}]/gu;

/** The name under which a client hands its token over in the query. */
const TOKEN_NAME = "access_token";

/** The decoded name of one `name=value` pair: `+` is a space; a malformed escape is left as it is. */
function pairName(pair: string): string {
  const end = pair.indexOf("=");
  const raw = (end === -1 ? pair : pair.slice(0, end)).replaceAll("+", " ");
  return percentDecode(raw) ?? raw;
}

/** The decoded values of every pair of a query with this name, in order; null for one whose escapes are malformed. */
export function queryValues(query: string, name: string): (string | null)[] {
  if (query === "") return [];
  const values: (string | null)[] = [];
  for (const pair of query.split("&")) {
    if (pairName(pair) !== name) continue;
    const end = pair.indexOf("=");
    values.push(end === -1 ? "" : percentDecode(pair.slice(end + 1).replaceAll("+", " ")));
  }
  return values;
}

/** The tokens that a client's query holds, under whatever spelling of `access_token`. */
export function queryTokens(query: string): string[] {
  return queryValues(query, TOKEN_NAME).map((value) => value ?? "");
}

/**
 * Formats `X-ASRS-Client-Query`: the query as the client sent it, without its token.
 *
 * Shape:  no `?`; every pair whose decoded name is `access_token` is left out; bytes that no URL may hold are `%XX`.
 *         A percent-encoded CR or LF is harmless in a header and stays as it came.
 * Source: the seed, `X-ASRS-Client-Query`; spec section 5. The token never leaves the service.
 */
export function formatClientQuery(query: string): string {
  if (query === "") return "";
  const pairs = query.split("&").filter((pair) => pairName(pair) !== TOKEN_NAME);
  // The connection keeps it for as long as it lives, and need not keep the token's text with it.
  return ownCopy(pairs.join("&").replace(NOT_IN_A_URL, percentEncodeBytes));
}
