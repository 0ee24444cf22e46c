import { type Refusal, refusal } from "../protocol/error-codes.ts";
import { splitList } from "../protocol/headers.ts";

/** 16 bytes in base64: what a `Sec-WebSocket-Key` is. Source: RFC 6455, section 4.1. */
const WEBSOCKET_KEY = /^[A-Za-z0-9+/]{22}==$/;

/** Bounds of each header of a handshake that is a list; a client needs a handful of elements. */
const MAX_LIST_ELEMENTS = 64;
const MAX_LIST_BYTES = 8192;
const LISTS = ["Connection", "Upgrade", "Sec-WebSocket-Protocol", "X-Forwarded-For"] as const;

/** Bytes that no value may hold; Bun refuses all of them but DEL. Source: RFC 9110, section 5.5. */
const CONTROL = /[\0-\x08\x0a-\x1f\x7f]/;

const EXPECTED = { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13" };

/**
 * Checks that a request is a WebSocket handshake, before the upstream is asked about it.
 *
 * Why not leave it to Bun: its `upgrade` comes after the upstream's answer, which is too late, takes a request with a
 * body (whose bytes it would then read as frames), and one without `Connection: upgrade`.
 * Errors: 400 for a header whose list is too long; 426 where the request is not an upgrade of version 13; 400 where it is one, but
 *         broken.
 * Source: RFC 6455, section 4.2.1; PROTOCOL.md, "Client endpoint".
 */
export function checkHandshake(method: string, headers: Headers): Refusal | null {
  for (const name of LISTS) {
    const fault = listFault(headers.get(name));
    if (fault !== null) return refusal("bad_request", `${name} has more than ${fault}`, name);
  }
  if (method !== "GET" || !hasToken(headers, "upgrade", "websocket") || !hasToken(headers, "connection", "upgrade")) {
    return refusal(
      "upgrade_required",
      "this is a WebSocket endpoint: send a GET request with Connection: Upgrade and Upgrade: websocket",
      "Upgrade",
      EXPECTED,
    );
  }
  if (headers.get("sec-websocket-version") !== "13") {
    return refusal("upgrade_required", "only WebSocket version 13 is supported", "Sec-WebSocket-Version", EXPECTED);
  }
  if (!WEBSOCKET_KEY.test(headers.get("sec-websocket-key") ?? "")) {
    return refusal("bad_request", "Sec-WebSocket-Key must be 16 bytes in base64", "Sec-WebSocket-Key");
  }
  if (headers.has("transfer-encoding") || (headers.get("content-length") ?? "0") !== "0") {
    return refusal("bad_request", "a WebSocket handshake must not have a body", "Content-Length");
  }
  const subprotocols = headers.get("sec-websocket-protocol");
  if (subprotocols === null) return null;
  const fault = CONTROL.test(subprotocols)
    ? "must not hold control characters"
    : splitList(subprotocols).length === 0
      ? "must name a subprotocol"
      : null;
  return fault === null ? null : refusal("bad_request", `Sec-WebSocket-Protocol ${fault}`, "Sec-WebSocket-Protocol");
}

/** Which bound a header's list is past; null where it keeps both. */
function listFault(value: string | null): string | null {
  // As nearly always: so short a list cannot have too many elements.
  if (value === null || value.length <= 2 * MAX_LIST_ELEMENTS) return null;
  if (value.length > MAX_LIST_BYTES) return `${MAX_LIST_BYTES} bytes`;
  return splitList(value).length > MAX_LIST_ELEMENTS ? `${MAX_LIST_ELEMENTS} elements` : null;
}

function hasToken(headers: Headers, name: string, token: string): boolean {
  const value = headers.get(name);
  return value?.split(",").some((element) => element.trim().toLowerCase() === token) ?? false;
}
