import { type HeaderLines, HOP_BY_HOP_HEADERS, headerValues } from "./headers.ts";

/** Headers for hubwire itself, or about a hop's framing, that never reach the client. Lower case. */
const WITHHELD_PREFIXES = ["x-asrs-", "x-hubwire-", "sec-websocket-"];

/** Headers that are true of a body's bytes, and of no other bytes. Lower case. Source: RFC 9110, sections 8.4 and 14.4; RFC 9530. */
const BODY_HEADERS: ReadonlySet<string> = new Set([
  "content-digest",
  "content-encoding",
  "content-md5",
  "content-range",
  "digest",
]);

/** The headers without those that would be wrong where the body has been left out: a client must not decode or check an empty body. */
export function headersWithoutBody(headers: HeaderLines): HeaderLines {
  return headers.filter(([name]) => !BODY_HEADERS.has(name.toLowerCase()));
}

/**
 * The lines of an upstream's 2xx answer to connect that the client gets with its 101, their values as they arrived.
 *
 * Shape: those under one of the names, which are in lower case, that `relayedHeaders` takes too.
 */
export function passedHeaders(headers: HeaderLines, lowerCaseNames: readonly string[]): HeaderLines {
  return relayedHeaders(headers).filter(([name]) => lowerCaseNames.includes(name.toLowerCase()));
}

/**
 * The headers of an upstream's 4xx answer that the client gets, their values as they arrived.
 *
 * Shape:  all end-to-end lines in their order. Left out: hop-by-hop headers and those that `Connection` names,
 *         `Content-Length` (it is set anew), `X-ASRS-*`, `X-Hubwire-*`, `Upgrade`, `Sec-WebSocket-*`.
 * Source: the seed, "Response Status Codes"; RFC 9110, section 7.6.1.
 */
export function relayedHeaders(headers: HeaderLines): HeaderLines {
  const named = new Set(
    headerValues(headers, "connection").flatMap((value) => value.split(",").map((name) => name.trim().toLowerCase())),
  );
  return headers.filter(([name]) => {
    const lower = name.toLowerCase();
    if (lower === "content-length" || HOP_BY_HOP_HEADERS.has(lower) || named.has(lower)) return false;
    return !WITHHELD_PREFIXES.some((prefix) => lower.startsWith(prefix));
  });
}
