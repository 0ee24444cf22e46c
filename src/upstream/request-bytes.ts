import type { HeaderLines } from "../protocol/headers.ts";

/** What must never stand in a request line or header value: it would begin another line. */
const ENDS_A_LINE = /[\r\n\0]/;

/** One HTTP request, whole. */
export interface HttpRequest {
  readonly method: "POST" | "GET";
  /** Path and query, as they stand in the request line. */
  readonly target: string;
  readonly headers: HeaderLines;
  readonly body: Uint8Array;
}

/**
 * Forms a request's bytes, head and body in one piece, so that one write sends both.
 *
 * Shape:  `opening` holds the header lines that every request of an origin begins with, `Host` first, each with its
 *         CRLF. A POST always has a `Content-Length`. Values go out as UTF-8.
 * Errors: throws where a value would end its line; whoever made it should have refused it (a bug of ours).
 * Source: RFC 9112 sections 3 and 6.2; spec section 5.
 */
export function formatRequest(request: HttpRequest, opening: string): Buffer {
  let head = `${request.method} ${request.target} HTTP/1.1\r\n${opening}`;
  for (const [name, value] of request.headers) {
    if (ENDS_A_LINE.test(value)) throw new Error(`the value of ${name} would end its header line`);
    head += `${name}: ${value}\r\n`;
  }
  // A GET has no content, and some servers balk at one that says so.
  head += request.method === "GET" ? "\r\n" : `Content-Length: ${request.body.length}\r\n\r\n`;
  const bytes = Buffer.allocUnsafe(Buffer.byteLength(head) + request.body.length);
  bytes.set(request.body, bytes.write(head));
  return bytes;
}

/** Forms the lines that every request to an origin begins with. */
export function formatOpening(host: string, userAgent: string): string {
  return `Host: ${host}\r\nUser-Agent: ${userAgent}\r\nAccept-Encoding: identity\r\n`;
}
