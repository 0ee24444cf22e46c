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
  const { method, body } = request;
  // A GET has no content, and some servers balk at one that says so.
  const end = method === "GET" ? "\r\n" : `Content-Length: ${body.length}\r\n\r\n`;
  return join(NOTHING, formatStart(request, opening) + end, body);
}

/** Forms a request's bytes up to where its remaining headers are to stand. Errors: as `formatRequest`. */
export function formatRequestStart(request: Omit<HttpRequest, "body">, opening: string): Buffer {
  return Buffer.from(formatStart(request, opening), "utf8");
}

/** Forms a POST whose first part has been formed before. Errors: as `formatRequest`. */
export function formatRequestBehind(start: Uint8Array, headers: HeaderLines, body: Uint8Array): Buffer {
  return join(start, `${formatLines(headers)}Content-Length: ${body.length}\r\n\r\n`, body);
}

const NOTHING = new Uint8Array(0);

function formatStart({ method, target, headers }: Omit<HttpRequest, "body">, opening: string): string {
  return `${method} ${target} HTTP/1.1\r\n${opening}${formatLines(headers)}`;
}

function formatLines(headers: HeaderLines): string {
  let lines = "";
  for (const [name, value] of headers) {
    if (ENDS_A_LINE.test(value)) throw new Error(`the value of ${name} would end its header line`);
    lines += `${name}: ${value}\r\n`;
  }
  return lines;
}

function join(start: Uint8Array, text: string, body: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(start.length + Buffer.byteLength(text) + body.length);
  bytes.set(start);
  bytes.set(body, start.length + bytes.write(text, start.length));
  return bytes;
}

/** Forms the lines that every request to an origin begins with. */
export function formatOpening(host: string, userAgent: string): string {
  return `Host: ${host}\r\nUser-Agent: ${userAgent}\r\nAccept-Encoding: identity\r\n`;
}
