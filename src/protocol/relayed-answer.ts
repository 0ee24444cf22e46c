import { type HeaderLines, HOP_BY_HOP_HEADERS, headerValues } from "./headers.ts";

/** Headers that speak to the service, or about a hop's framing, and never reach the client. Lower case. */
const WITHHELD_PREFIXES = ["x-asrs-", "x-hubwire-", "sec-websocket-"];

/**
 * The headers of an upstream's 4xx answer that the client gets.
 *
 * Shape:  all end-to-end lines in their order. Left out: hop-by-hop headers and those that `Connection` names,
 *         `Content-Length` (it is set anew), `X-ASRS-*`, `X-Hubwire-*`, `Upgrade`, `Sec-WebSocket-*`.
 * Source: the seed, "Response Status Codes"; spec section 5.1; RFC 9110 section 7.6.1.
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
