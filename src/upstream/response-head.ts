import { decodeHeaderValue, type HeaderLine, type HeaderLines } from "../protocol/headers.ts";

/** Longest head of an answer, interim answers before it and trailers behind it included. */
export const MAX_HEAD_BYTES = 65_536;
/** Most header lines of an answer. */
export const MAX_HEADER_LINES = 256;

const STATUS_LINE = /^HTTP\/1\.([01]) ([1-5][0-9][0-9])(?: [^\u0000-\u0008\u000a-\u001f\u007f]*)?$/;
const FIELD_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const TOKEN_CHARACTER = /[!#$%&'*+\-.^_`|~0-9A-Za-z]/;
const COLON = 0x3a;
const TAB = 0x09;
const DELETE = 0x7f;
const NOT_IN_A_VALUE = /[\u0000-\u0008\u000a-\u001f\u007f]/;

/** How the end of an answer's body is found: after so many bytes, by chunks, or at the end of the connection. */
export type BodyFraming = number | "chunked" | "until-close";

/** The head of one answer, with what decides over its body and its connection worked out. */
export interface ResponseHead {
  readonly status: number;
  readonly headers: { readonly lines: HeaderLines };
  /** The first `Content-Type`; empty where there is none. */
  readonly contentType: string;
  readonly framing: BodyFraming;
  /** Whether the connection may carry another request after the body. */
  readonly persistent: boolean;
  /** `Keep-Alive: timeout=`; null where the server names none. */
  readonly keepAliveSeconds: number | null;
}

/** Why an answer's head cannot be taken, in words that quote nothing of it. */
export interface HeadFault {
  readonly fault: string;
}

/** Reads the status of a status line, without its CRLF. Null where it is none. */
export function parseStatus(line: string): number | null {
  const match = STATUS_LINE.exec(line);
  return match === null ? null : Number(match[2]);
}

/** Reads one header or trailer line, without its CRLF. Null where it is none; a folded line is none. */
export function parseHeaderLine(line: string): HeaderLine | null {
  const colon = line.indexOf(":");
  const name = line.slice(0, colon === -1 ? 0 : colon);
  if (!FIELD_NAME.test(name)) return null;
  const value = trimmed(line, colon + 1, line.length);
  return NOT_IN_A_VALUE.test(value) ? null : [name, decodeHeaderValue(value)];
}

/** A part of a text without the blanks at its ends. */
function trimmed(text: string, from: number, to: number): string {
  let start = from;
  let end = to;
  while (start < end && isBlank(text.charCodeAt(start))) start++;
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/**
 * Parses the head of an answer to a POST or GET.
 *
 * Shape:  status line and header lines joined by CRLF, one char a byte, without the empty line.
 * Errors: what RFC 9112 lets a client refuse is refused: folded lines, lengths that differ or are none, a length beside
 *         a transfer coding, any transfer coding but `chunked`.
 * Cost:   every line is judged at once, in one pass over its characters; the list of headers is made when somebody asks.
 * Source: RFC 9112 sections 4, 5, 6.3, 9.3; the content coding: spec section 5, "Accept-Encoding".
 */
export function parseResponseHead(head: string): ResponseHead | HeadFault {
  const statusEnd = lineEndAt(head, 0);
  const match = STATUS_LINE.exec(statusEnd === head.length ? head : head.slice(0, statusEnd));
  if (match === null) return { fault: "the answer begins with no HTTP/1 status line" };
  const control = new ControlHeaders();
  let lineCount = 0;
  for (let at = statusEnd + 2; at <= head.length; lineCount++) {
    if (lineCount === MAX_HEADER_LINES) return { fault: "the answer has too many header lines" };
    const end = lineEndAt(head, at);
    const colon = endOfName(head, at, end);
    if (colon === -1 || !isValue(head, colon + 1, end)) {
      return { fault: "the answer's head holds a line that is no header" };
    }
    control.take(head, at, colon, end);
    at = end + 2;
  }
  return interpret(Number(match[2]), match[1] === "0", { control, text: head, start: statusEnd + 2 });
}

function lineEndAt(text: string, at: number): number {
  const end = text.indexOf("\r\n", at);
  return end === -1 ? text.length : end;
}

/** Where a line's colon stands; -1 where what is in front of it is no name. */
function endOfName(text: string, at: number, end: number): number {
  for (let i = at; i < end; i++) {
    const code = text.charCodeAt(i);
    if (code === COLON) return i === at ? -1 : i;
    if (!isTokenCharacter(code)) return -1;
  }
  return -1;
}

/** RFC 9110 section 5.6.2, the letters first: most are. */
function isTokenCharacter(code: number): boolean {
  if ((code >= 0x61 && code <= 0x7a) || code === 0x2d || (code >= 0x41 && code <= 0x5a)) return true;
  return TOKEN_CHARACTER.test(String.fromCharCode(code));
}

function isValue(text: string, at: number, end: number): boolean {
  for (let i = at; i < end; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x20 ? code !== TAB : code === DELETE) return false;
  }
  return true;
}

interface HeadText {
  readonly control: ControlHeaders;
  readonly text: string;
  /** Where the first header line begins; beyond the text where there is none. */
  readonly start: number;
}

function interpret(status: number, isHttp10: boolean, { control, text, start }: HeadText): ResponseHead | HeadFault {
  const bodiless = status < 200 || status === 204 || status === 304;
  const framing = bodiless ? 0 : frameBody(control, isHttp10);
  if (typeof framing === "object") return framing;
  if (!bodiless && control.codings.some((coding) => coding !== "identity" && coding !== "")) {
    return { fault: "the answer's content is coded although identity was asked for" };
  }
  const { connection } = control;
  const keeps = !connection.includes("close") && (!isHttp10 || connection.includes("keep-alive"));
  // A server that announces content where there is none may send it all the same, as the next answer's first bytes.
  const announces =
    status === 204 && (control.transferCodings.length > 0 || control.lengths.some((text) => text !== "0"));
  const persistent = keeps && framing !== "until-close" && status !== 101 && !announces;
  const headers = new LazyHeaders(text, start);
  const { contentType } = control;
  return { status, headers, contentType, framing, persistent, keepAliveSeconds: keepAliveSeconds(control.keepAlive) };
}

/** The header lines of a head that has been judged, made when they are asked for. */
class LazyHeaders {
  readonly #text: string;
  readonly #start: number;
  #lines: HeaderLines | null = null;

  constructor(text: string, start: number) {
    this.#text = text;
    this.#start = start;
  }

  get lines(): HeaderLines {
    if (this.#lines !== null) return this.#lines;
    const lines: HeaderLine[] = [];
    for (let at = this.#start; at <= this.#text.length; ) {
      const end = lineEndAt(this.#text, at);
      const line = parseHeaderLine(this.#text.slice(at, end));
      if (line !== null) lines.push(line);
      at = end + 2;
    }
    this.#lines = lines;
    return lines;
  }
}

const NOTHING: readonly string[] = [];

/** The header lists that decide over framing and connection, lower-cased. */
class ControlHeaders {
  lengths = NOTHING;
  transferCodings = NOTHING;
  codings = NOTHING;
  connection = NOTHING;
  keepAlive = NOTHING;
  contentType = "";

  /** Most headers are none of these, and their length alone tells. */
  take(text: string, at: number, colon: number, end: number): void {
    const length = colon - at;
    if (length !== 10 && length !== 12 && length !== 14 && length !== 16 && length !== 17) return;
    const list = (known: readonly string[]) => [...known, ...listOf(trimmed(text, colon + 1, end))];
    switch (text.slice(at, colon).toLowerCase()) {
      case "content-type":
        if (this.contentType === "") this.contentType = decodeHeaderValue(trimmed(text, colon + 1, end));
        break;
      case "connection":
        this.connection = list(this.connection);
        break;
      case "keep-alive":
        this.keepAlive = list(this.keepAlive);
        break;
      case "content-length":
        this.lengths = list(this.lengths);
        break;
      case "content-encoding":
        this.codings = list(this.codings);
        break;
      case "transfer-encoding":
        this.transferCodings = list(this.transferCodings);
        break;
    }
  }
}

function listOf(value: string): string[] {
  if (!value.includes(",")) return [value.toLowerCase()];
  return value.split(",").map((element) => element.trim().toLowerCase());
}

function keepAliveSeconds(parameters: readonly string[]): number | null {
  for (const parameter of parameters) {
    const seconds = /(?:^|;|\s)timeout\s*=\s*"?(\d{1,9})/.exec(parameter)?.[1];
    if (seconds !== undefined) return Number(seconds);
  }
  return null;
}

function frameBody(control: ControlHeaders, isHttp10: boolean): BodyFraming | HeadFault {
  const { lengths, transferCodings } = control;
  if (transferCodings.length > 0) {
    if (lengths.length > 0) return { fault: "the answer has both a length and a transfer coding" };
    if (isHttp10 || transferCodings.length > 1 || transferCodings[0] !== "chunked") {
      return { fault: "the answer's transfer coding is not chunked" };
    }
    return "chunked";
  }
  if (lengths.length === 0) return "until-close";
  const length = Number(lengths[0]);
  const valid = lengths.every((text) => /^[0-9]+$/.test(text) && text === lengths[0]) && Number.isSafeInteger(length);
  return valid ? length : { fault: "the answer's Content-Length is none, or there are two that differ" };
}
