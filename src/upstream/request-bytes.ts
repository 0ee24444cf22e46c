import type { HeaderLines } from "../protocol/headers.ts";
import { Exchange, type ExchangeOwner } from "./exchange.ts";

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
  const text = formatStart(request, opening) + end;
  const bytes = Buffer.allocUnsafe(Buffer.byteLength(text) + body.length);
  bytes.set(body, bytes.write(text));
  return bytes;
}

/** Forms a request's bytes up to where its remaining headers are to stand. Errors: as `formatRequest`. */
export function formatRequestStart(request: Omit<HttpRequest, "body">, opening: string): Buffer {
  return Buffer.from(formatStart(request, opening), "utf8");
}

/** What a room holds: some hundred messages of usual size. */
const ROOM_BYTES = 262_144;

/** Where requests stand between their forming and the end of the turn, when they are written: no buffer is made for each. */
export class RequestRoom {
  readonly bytes = Buffer.allocUnsafeSlow(ROOM_BYTES);
  #used = 0;

  /** Where so many bytes may be put; -1 where there is no room for them. */
  take(length: number): number {
    const start = this.#used;
    if (start + length > ROOM_BYTES) return -1;
    this.#used = start + length;
    return start;
  }

  /** All that stands there has been written. */
  clear(): void {
    this.#used = 0;
  }
}

/**
 * Forms a POST whose first part has been formed before, in a room where it has some.
 *
 * Shape: `rest` is the remaining headers' lines, without line ends but those between them and with none at its end, of ASCII.
 */
export function formExchange(
  owner: ExchangeOwner,
  { start, rest, body, room }: { start: Uint8Array; rest: string; body: Uint8Array; room: RequestRoom },
): Exchange {
  const text = `${rest}\r\nContent-Length: ${body.length}\r\n\r\n`;
  const length = start.length + text.length + body.length;
  const place = room.take(length);
  const bytes = place === -1 ? Buffer.allocUnsafe(length) : room.bytes;
  const at = Math.max(0, place);
  bytes.set(start, at);
  bytes.write(text, at + start.length, "latin1");
  bytes.set(body, at + start.length + text.length);
  return new Exchange(owner, bytes, at, at + length);
}

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

/** Forms the lines that every request to an origin begins with. */
export function formatOpening(host: string, userAgent: string): string {
  return `Host: ${host}\r\nUser-Agent: ${userAgent}\r\nAccept-Encoding: identity\r\n`;
}
