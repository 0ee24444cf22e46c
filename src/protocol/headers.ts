/**
 * Header lines as they are on the wire: order, spelling and repeats are kept.
 *
 * Values have one char a byte, as they arrived or will be sent: `decodeHeaderValue` and `encodeHeaderValue` turn them into Unicode
 * and back.
 * Source: RFC 9110, sections 5 and 7.6.1; PROTOCOL.md, "Calling the upstream".
 */
export type HeaderLine = readonly [name: string, value: string];
export type HeaderLines = readonly HeaderLine[];

const SPACE = 0x20;
const TAB = 0x09;

/** Headers that concern one hop only and are never passed on. Lower case. Source: RFC 9110, section 7.6.1. */
export const HOP_BY_HOP_HEADERS: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/**
 * Takes the white space of HTTP off both ends of a header's value or list element: spaces and tabs, nothing else.
 *
 * `trim` takes U+00A0 and similar characters too, and would make another name of one that must be refused. Source: RFC 9110, section 5.6.3.
 */
export function trimOptionalSpace(value: string): string {
  return trimmed(value, 0, value.length);
}

/**
 * The elements of a header's list, in their order, without white space around them and without empty ones.
 *
 * Source: RFC 9110, section 5.6.1.
 */
export function splitList(value: string): string[] {
  const elements: string[] = [];
  for (let start = 0; start <= value.length; ) {
    const comma = value.indexOf(",", start);
    const end = comma === -1 ? value.length : comma;
    const element = trimmed(value, start, end);
    if (element !== "") elements.push(element);
    start = end + 1;
  }
  return elements;
}

/** By index: a search for white space in front of an end would begin anew at each of a thousand spaces. */
function trimmed(value: string, from: number, to: number): string {
  let [start, end] = [from, to];
  while (start < end && isOptionalSpace(value.charCodeAt(start))) start++;
  while (end > start && isOptionalSpace(value.charCodeAt(end - 1))) end--;
  return value.slice(start, end);
}

function isOptionalSpace(code: number): boolean {
  return code === SPACE || code === TAB;
}

/** All values under a name, in their order. `lowerCaseName` must be lower case. */
export function headerValues(lines: HeaderLines, lowerCaseName: string): string[] {
  const values: string[] = [];
  for (const [name, value] of lines) {
    if (name.length === lowerCaseName.length && name.toLowerCase() === lowerCaseName) values.push(value);
  }
  return values;
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads a header value whose bytes arrived as Latin-1 (one char a byte), as HTTP stacks hand them over.
 *
 * UTF-8 where the bytes are valid UTF-8, Latin-1 where they are not: senders of both kinds exist.
 */
export function decodeHeaderValue(latin1: string): string {
  let ascii = true;
  for (let i = 0; i < latin1.length; i++) {
    if (latin1.charCodeAt(i) > 0x7f) {
      ascii = false;
      break;
    }
  }
  if (ascii) return latin1;
  const bytes = Uint8Array.from(latin1, (char) => char.charCodeAt(0) & 0xff);
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return latin1;
  }
}

const ASCII = /^[\0-\x7f]*$/;

/** Whether each character is one byte in every coding that header values come in. */
export function isAscii(text: string): boolean {
  return ASCII.test(text);
}

/** Writes a Unicode value as the bytes in which it is sent, one char a byte: as UTF-8. */
export function encodeHeaderValue(text: string): string {
  return isAscii(text) ? text : Buffer.from(text, "utf8").toString("latin1");
}

/**
 * The moment of an answer by the clock of the server that sent it: Unix time in milliseconds; null where it does not say.
 *
 * Why:    a date in that answer is by the same clock, so the difference of the two is right, even if this machine's clock is wrong.
 * Source: RFC 9110, section 6.6.1.
 */
export function answeredAtMs(headers: HeaderLines): number | null {
  const [date = ""] = headerValues(headers, "date");
  const parsed = Date.parse(date);
  return Number.isNaN(parsed) ? null : parsed;
}
