import { decodeHeaderValue, type HeaderLine, type HeaderLines } from "../protocol/headers.ts";

/** Longest head of an answer, interim answers before it and trailers behind it included. */
export const MAX_HEAD_BYTES = 65_536;
/** Most header lines of an answer. */
export const MAX_HEADER_LINES = 256;

const STATUS_LINE = /^HTTP\/1\.([01]) ([1-5][0-9][0-9])(?: [^\u0000-\u0008\u000a-\u001f\u007f]*)?$/;
const FIELD_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const NOT_IN_A_VALUE = /[\u0000-\u0008\u000a-\u001f\u007f]/;

/** How the end of an answer's body is found: after so many bytes, by chunks, or at the end of the connection. */
export type BodyFraming = number | "chunked" | "until-close";

/** The head of one answer, with what decides over its body and its connection worked out. */
export interface ResponseHead {
  readonly status: number;
  readonly headers: HeaderLines;
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
  let start = colon + 1;
  let end = line.length;
  while (start < end && isBlank(line.charCodeAt(start))) start++;
  while (end > start && isBlank(line.charCodeAt(end - 1))) end--;
  const value = line.slice(start, end);
  return NOT_IN_A_VALUE.test(value) ? null : [name, decodeHeaderValue(value)];
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
 * Source: RFC 9112 sections 4, 5, 6.3, 9.3; the content coding: spec section 5, "Accept-Encoding".
 */
export function parseResponseHead(head: string): ResponseHead | HeadFault {
  const lines = head.split("\r\n");
  const match = STATUS_LINE.exec(lines[0] ?? "");
  if (match === null) return { fault: "the answer begins with no HTTP/1 status line" };
  if (lines.length - 1 > MAX_HEADER_LINES) return { fault: "the answer has too many header lines" };
  const headers: HeaderLine[] = [];
  for (let i = 1; i < lines.length; i++) {
    const line = parseHeaderLine(lines[i] ?? "");
    if (line === null) return { fault: "the answer's head holds a line that is no header" };
    headers.push(line);
  }
  return interpret(Number(match[2]), match[1] === "0", headers);
}

function interpret(status: number, isHttp10: boolean, headers: HeaderLines): ResponseHead | HeadFault {
  const control = controlHeaders(headers);
  const bodiless = status < 200 || status === 204 || status === 304;
  const framing = bodiless ? 0 : frameBody(control, isHttp10);
  if (typeof framing === "object") return framing;
  if (!bodiless && control.codings.some((coding) => coding !== "identity" && coding !== "")) {
    return { fault: "the answer's content is coded although identity was asked for" };
  }
  const keeps = isHttp10 ? control.connection.includes("keep-alive") : !control.connection.includes("close");
  const persistent = keeps && framing !== "until-close" && status !== 101;
  return { status, headers, framing, persistent, keepAliveSeconds: keepAliveSeconds(control.keepAlive) };
}

/** The header lists that decide over framing and connection, lower-cased. */
interface ControlHeaders {
  readonly lengths: string[];
  readonly transferCodings: string[];
  readonly codings: string[];
  readonly connection: string[];
  readonly keepAlive: string[];
}

function controlHeaders(headers: HeaderLines): ControlHeaders {
  const control: ControlHeaders = { lengths: [], transferCodings: [], codings: [], connection: [], keepAlive: [] };
  for (const [name, value] of headers) controlList(control, name)?.push(...listOf(value));
  return control;
}

/** Where the values of a header go; most go nowhere, and their length alone tells. */
function controlList(control: ControlHeaders, name: string): string[] | null {
  switch (name.length) {
    case 10: {
      const lowerCase = name.toLowerCase();
      if (lowerCase === "connection") return control.connection;
      return lowerCase === "keep-alive" ? control.keepAlive : null;
    }
    case 14:
      return name.toLowerCase() === "content-length" ? control.lengths : null;
    case 16:
      return name.toLowerCase() === "content-encoding" ? control.codings : null;
    case 17:
      return name.toLowerCase() === "transfer-encoding" ? control.transferCodings : null;
    default:
      return null;
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
