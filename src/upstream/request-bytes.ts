import type { MessageEvent } from "../protocol/events.ts";
import type { HeaderLines } from "../protocol/headers.ts";
import { Exchange, type ExchangeOwner } from "./exchange.ts";

/** Characters that no header value may hold: they would begin another line, or do not fit into a byte. */
const NOT_OF_A_VALUE = /[\r\n\0\u0100-\uffff]/;

/** One HTTP request, whole. */
export interface HttpRequest {
  readonly method: "POST" | "GET";
  /** Path and query, as the request line has them. */
  readonly target: string;
  readonly headers: HeaderLines;
  readonly body: Uint8Array;
}

/**
 * Forms a request's bytes, head and body in one piece, so that one write sends both.
 *
 * Shape:  `opening` holds the header lines that every request of an origin begins with, `Host` first, each with its
 *         CRLF. A POST always has a `Content-Length`. Values have one char a byte.
 * Errors: throws if a value would end its line or is not of bytes: a bug in hubwire, since the value was checked before.
 * Source: RFC 9112, sections 3 and 6.2; PROTOCOL.md, "Calling the upstream".
 */
export function formatRequest(request: HttpRequest, opening: string): Buffer {
  const { method, body } = request;
  // A GET has no content, and some servers refuse one that announces a length.
  const end = method === "GET" ? "\r\n" : `Content-Length: ${body.length}\r\n\r\n`;
  const text = formatStart(request, opening) + end;
  const bytes = Buffer.allocUnsafe(text.length + body.length);
  bytes.set(body, bytes.write(text, "latin1"));
  return bytes;
}

/** Forms a request's bytes up to the place of its remaining headers. Errors: as `formatRequest`. */
export function formatRequestStart(request: Omit<HttpRequest, "body">, opening: string): Buffer {
  return Buffer.from(formatStart(request, opening), "latin1");
}

const DIGIT_0 = 0x30;
/** The bytes between the two numbers of a message's head, and those behind them. */
const LENGTH_LINE = Buffer.from("\r\nContent-Length: ");
const HEAD_END = Buffer.from("\r\n\r\n");

/** What a room holds: some hundred messages of usual size. */
const ROOM_BYTES = 262_144;

/** Holds requests from their forming to the end of the turn, when they are written: no buffer is made for each. */
export class RequestRoom {
  readonly bytes = Buffer.allocUnsafeSlow(ROOM_BYTES);
  #used = 0;

  /** The place where so many bytes may be put; -1 where there is no room for them. */
  #take(length: number): number {
    const start = this.#used;
    if (start + length > ROOM_BYTES) return -1;
    this.#used = start + length;
    return start;
  }

  /**
   * Forms a message's POST here, or where there is no room in bytes of its own.
   *
   * Shape: `start` is everything up to the message's number, `tail` what follows the number in the head, in ASCII.
   */
  form(
    owner: ExchangeOwner,
    start: Uint8Array,
    { number, payload }: Pick<MessageEvent, "number" | "payload">,
    tail: string,
  ): Exchange {
    const numberDigits = digitCount(number);
    const lengthDigits = digitCount(payload.length);
    const headLength = start.length + numberDigits + tail.length + LENGTH_LINE.length + lengthDigits + HEAD_END.length;
    const length = headLength + payload.length;
    const place = this.#take(length);
    const bytes = place === -1 ? Buffer.allocUnsafe(length) : this.bytes;
    const from = Math.max(0, place);
    bytes.set(start, from);
    let at = from + start.length + numberDigits;
    writeDecimal(bytes, at, number);
    if (tail !== "") at += bytes.write(tail, at, "latin1");
    bytes.set(LENGTH_LINE, at);
    at += LENGTH_LINE.length + lengthDigits;
    writeDecimal(bytes, at, payload.length);
    bytes.set(HEAD_END, at);
    bytes.set(payload, from + headLength);
    return new Exchange(owner, bytes, from, from + length);
  }

  /** All requests in it have been written. */
  clear(): void {
    this.#used = 0;
  }
}

/** How many digits a whole number from 0 on has. */
function digitCount(value: number): number {
  let count = 1;
  for (let limit = 10; value >= limit; limit *= 10) count++;
  return count;
}

/** Writes a whole number from 0 on in decimal, so that it ends at a place. */
function writeDecimal(bytes: Uint8Array, end: number, value: number): void {
  let rest = value;
  let place = end;
  do {
    const next = Math.floor(rest / 10);
    place--;
    bytes[place] = DIGIT_0 + (rest - next * 10);
    rest = next;
  } while (rest > 0);
}

function formatStart({ method, target, headers }: Omit<HttpRequest, "body">, opening: string): string {
  return `${method} ${target} HTTP/1.1\r\n${opening}${formatLines(headers)}`;
}

function formatLines(headers: HeaderLines): string {
  let lines = "";
  for (const [name, value] of headers) {
    if (NOT_OF_A_VALUE.test(value))
      throw new Error(`the value of ${name} holds a character that a header line cannot have`);
    lines += `${name}: ${value}\r\n`;
  }
  return lines;
}

/**
 * Forms the lines that every request to an origin begins with.
 *
 * Shape:  with `isLast` the server is told that no other request follows on the connection (RFC 9112, section 9.6), so that a
 *         worker that serves one connection at a time is free at once. Null for `userAgent` where the request has its own.
 */
export function formatOpening(host: string, userAgent: string | null, { isLast = false } = {}): string {
  const connection = isLast ? "Connection: close\r\n" : "";
  const agent = userAgent === null ? "" : `User-Agent: ${userAgent}\r\n`;
  return `Host: ${host}\r\n${connection}${agent}Accept-Encoding: identity\r\n`;
}
