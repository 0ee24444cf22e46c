import { Answer, type BodyFraming, type HeadBytes } from "./answer.ts";
import { ControlHeaders } from "./control-headers.ts";
import { endOfName, endOfValue, lineEndAt } from "./header-bytes.ts";

/** Longest head of an answer, interim answers before it and trailers behind it included. */
export const MAX_HEAD_BYTES = 65_536;
/** Most header lines of an answer. */
export const MAX_HEADER_LINES = 256;

/** Up to the reason, which is free text. */
const STATUS_LINE_START = "HTTP/1.";
const CR = 0x0d;
const LF = 0x0a;
const SPACE = 0x20;
const DIGIT_0 = 0x30;

/** Why an answer's head cannot be taken, in words that quote nothing of it. */
export interface HeadFault {
  readonly fault: string;
}

/** Parses the status of a status line, from `at` to `end` without its CRLF. Null if it is malformed. Source: RFC 9112, section 4. */
export function parseStatus(bytes: Uint8Array, at: number, end: number): number | null {
  for (let i = 0; i < STATUS_LINE_START.length; i++) {
    if (bytes[at + i] !== STATUS_LINE_START.charCodeAt(i)) return null;
  }
  const minor = digitAt(bytes, at + 7);
  const hundreds = digitAt(bytes, at + 9);
  const tens = digitAt(bytes, at + 10);
  const ones = digitAt(bytes, at + 11);
  const isWhole = at + 12 === end || (bytes[at + 12] === SPACE && endOfValue(bytes, at + 13, end) === end);
  if (at + 12 > end || minor > 1 || bytes[at + 8] !== SPACE || !isWhole) return null;
  if (hundreds < 1 || hundreds > 5 || tens > 9 || ones > 9) return null;
  return hundreds * 100 + tens * 10 + ones;
}

/** The digit's value; above 9 for any other byte. */
function digitAt(bytes: Uint8Array, at: number): number {
  const digit = (bytes[at] ?? 0) - DIGIT_0;
  return digit < 0 ? 10 : digit;
}

/**
 * Parses the head of an answer to a POST or GET.
 *
 * Shape:  status line and header lines from `start` to `end`, without the last line's CRLF and the empty line. `control` is what
 *         they are gathered in, and may be used for many heads.
 * Errors: what RFC 9112 lets a client refuse is refused: folded lines, lengths that differ or are invalid, a length together
 *         with a transfer coding, any transfer coding but `chunked`.
 * Cost:   every byte is judged at once, in one pass that makes no strings; the list of headers is made when somebody asks, and
 *         keeps `bytes` alive until then.
 * Source: RFC 9112, sections 4, 5, 6.3, 9.3.
 */
export function parseResponseHead(
  bytes: Uint8Array,
  start: number,
  end: number,
  control = new ControlHeaders(),
): Answer | HeadFault {
  const statusEnd = lineEndAt(bytes, start, end);
  const status = parseStatus(bytes, start, statusEnd);
  if (status === null) return { fault: "the answer begins with no HTTP/1 status line" };
  control.clear();
  let lineCount = 0;
  for (let at = statusEnd + 2; at < end; lineCount++) {
    if (lineCount === MAX_HEADER_LINES) return { fault: "the answer has too many header lines" };
    const colon = endOfName(bytes, at, end);
    const lineEnd = colon === -1 ? -1 : endOfValue(bytes, colon + 1, end);
    if (lineEnd === -1 || (lineEnd < end && (bytes[lineEnd] !== CR || bytes[lineEnd + 1] !== LF))) {
      return { fault: "the answer's head holds a line that is no header" };
    }
    control.take(bytes, at, colon, lineEnd);
    at = lineEnd + 2;
  }
  const isHttp10 = bytes[start + STATUS_LINE_START.length] === DIGIT_0;
  return interpret(status, isHttp10, control, { bytes, start: statusEnd + 2, end });
}

function interpret(status: number, isHttp10: boolean, control: ControlHeaders, head: HeadBytes): Answer | HeadFault {
  const bodiless = status < 200 || status === 204 || status === 304;
  const framing = bodiless ? 0 : frameBody(control, isHttp10);
  if (typeof framing === "object") return framing;
  const keeps = !control.saysClose && (!isHttp10 || control.saysKeepAlive);
  // A server that announces content for a 204 may send it, and it would look like the next answer's first bytes.
  const announces = status === 204 && (control.transferCodings.length > 0 || control.announcesLength);
  const persistent = keeps && framing !== "until-close" && status !== 101 && !announces;
  return new Answer(status, framing, persistent, control, head);
}

function frameBody(control: ControlHeaders, isHttp10: boolean): BodyFraming | HeadFault {
  const { transferCodings, length } = control;
  if (transferCodings.length > 0) {
    if (length !== null) return { fault: "the answer has both a length and a transfer coding" };
    if (isHttp10 || transferCodings.length > 1 || transferCodings[0] !== "chunked") {
      return { fault: "the answer's transfer coding is not chunked" };
    }
    return "chunked";
  }
  if (length === null) return "until-close";
  return length >= 0 ? length : { fault: "the answer's Content-Length is invalid, or there are two that differ" };
}
