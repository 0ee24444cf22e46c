import { type Refusal, refusal } from "../protocol/error-codes.ts";
import { decodeHeaderValue } from "../protocol/headers.ts";

/** 16 bytes in base64: what a `Sec-WebSocket-Key` is. Source: RFC 6455 section 4.1. */
const WEBSOCKET_KEY = /^[A-Za-z0-9+/]{22}==$/;

const EXPECTED = { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13" };

/**
 * Checks that a request is a WebSocket handshake, before anybody is asked about it.
 *
 * Why not leave it to Bun: its `upgrade` comes after the upstream's answer, which is too late, takes a request with a
 * body (whose bytes it would then read as frames), and one without `Connection: upgrade`.
 * Errors: 426 where the request is no upgrade of version 13; 400 where it is one, but broken.
 * Source: RFC 6455 section 4.2.1; spec section 2.
 */
export function checkHandshake(method: string, headers: Headers): Refusal | null {
  if (method !== "GET" || !hasToken(headers, "upgrade", "websocket") || !hasToken(headers, "connection", "upgrade")) {
    return refusal(
      "upgrade_required",
      "this is a WebSocket endpoint: send a GET request with Connection: Upgrade and Upgrade: websocket",
      "Upgrade",
      EXPECTED,
    );
  }
  if (headers.get("sec-websocket-version") !== "13") {
    return refusal("upgrade_required", "only WebSocket version 13 is spoken here", "Sec-WebSocket-Version", EXPECTED);
  }
  if (!WEBSOCKET_KEY.test(headers.get("sec-websocket-key") ?? "")) {
    return refusal("bad_request", "Sec-WebSocket-Key must be 16 bytes in base64", "Sec-WebSocket-Key");
  }
  if (headers.has("transfer-encoding") || (headers.get("content-length") ?? "0") !== "0") {
    return refusal("bad_request", "a WebSocket handshake has no body", "Content-Length");
  }
  if (headers.get("sec-websocket-protocol")?.trim() === "") {
    return refusal("bad_request", "Sec-WebSocket-Protocol must not be blank", "Sec-WebSocket-Protocol");
  }
  return null;
}

function hasToken(headers: Headers, name: string, token: string): boolean {
  const value = headers.get(name);
  return value?.split(",").some((element) => element.trim().toLowerCase() === token) ?? false;
}

/** A request header as Unicode; null where it is absent. Several lines come joined by `, `. */
export function readHeader(headers: Headers, name: string): string | null {
  const value = headers.get(name);
  return value === null ? null : decodeHeaderValue(value);
}
