import type { HeaderLine, HeaderLines } from "../protocol/headers.ts";
import { headersWithoutBody } from "../protocol/relayed-answer.ts";

/**
 * Turns an upstream's 4xx answer into the client's. `headers` are already those that may be passed on, their values one char a
 * byte, which is how Bun writes them. `body` is null where it is left out.
 *
 * Shape:  repeated lines stay separate for Set-Cookie and are joined by `, ` otherwise, as RFC 9110, section 5.3 allows.
 */
export function relayedResponse(status: number, headers: HeaderLines, body: Uint8Array | null): Response {
  const lines = (body === null ? headersWithoutBody(headers) : headers).map(([name, value]): [string, string] => [
    name,
    value,
  ]);
  if (body !== null && body.length > 0 && !headers.some(isContentType)) {
    // Bun gives bytes a type that the upstream did not give, even next to an empty one; to a stream it gives none.
    lines.push(["Content-Length", String(body.length)]);
    return new Response(streamOf(body), { status, headers: lines });
  }
  return new Response((body ?? new Uint8Array()) as Uint8Array<ArrayBuffer>, { status, headers: lines });
}

/**
 * The headers of a 101 besides those that Bun makes. `passed` are the upstream's, their values one char a byte.
 *
 * Shape: an empty subprotocol sends no header; without it Bun would choose the first that was offered. Repeated lines as in
 *        `relayedResponse`.
 */
export function handshakeHeaders(subprotocol: string, passed: HeaderLines): Headers | Record<string, string> {
  if (passed.length === 0) return { "Sec-WebSocket-Protocol": subprotocol };
  const headers = new Headers({ "Sec-WebSocket-Protocol": subprotocol });
  for (const [name, value] of passed) headers.append(name, value);
  return headers;
}

function isContentType([name, value]: HeaderLine): boolean {
  return value !== "" && name.toLowerCase() === "content-type";
}

/** Bun sends a stream in chunks, even if its length is given, unless all of it fits under the high-water mark. */
function streamOf(body: Uint8Array): ReadableStream {
  const source = {
    start(controller: ReadableStreamDefaultController) {
      controller.enqueue(body);
      controller.close();
    },
  };
  return new ReadableStream(source, { highWaterMark: body.length + 1 });
}
