import type { HeaderLine } from "../protocol/headers.ts";

const COLON = 0x3a;
const TAB = 0x09;
const SPACE = 0x20;
const CR = 0x0d;
const LF = 0x0a;
const DELETE = 0x7f;
const DIGIT_0 = 0x30;
/** So many digits always make a safe integer. */
const MAX_DIGITS = 15;

/** The bytes that a header's name may have. Source: RFC 9110, section 5.6.2. */
const IS_TOKEN = Uint8Array.from({ length: 256 }, (_empty, code) =>
  /[!#$%&'*+\-.^_`|~0-9A-Za-z]/.test(String.fromCharCode(code)) ? 1 : 0,
);

/** The place of a header line's colon; -1 where the text in front of it is not a name. */
export function endOfName(bytes: Uint8Array, at: number, end: number): number {
  let i = at;
  while (i < end && IS_TOKEN[bytes[i] ?? 0] === 1) i++;
  return i > at && i < end && bytes[i] === COLON ? i : -1;
}

/** The first byte from `at` on that a value cannot have, or `end`. Source: RFC 9110, section 5.5. */
export function endOfValue(bytes: Uint8Array, at: number, end: number): number {
  let i = at;
  while (i < end) {
    const code = bytes[i] ?? 0;
    if (code < SPACE ? code !== TAB : code === DELETE) break;
    i++;
  }
  return i;
}

/** Whether a name, or a whole value, is this one in any case; `lowerCase` has letters, digits and hyphens only. */
export function equalsLowerCase(bytes: Uint8Array, at: number, end: number, lowerCase: string): boolean {
  if (end - at !== lowerCase.length) return false;
  // In letters this is the case; hyphens and digits have it set, and no other byte of a token becomes one of these.
  for (let i = 0; i < lowerCase.length; i++)
    if (((bytes[at + i] ?? 0) | 0x20) !== lowerCase.charCodeAt(i)) return false;
  return true;
}

/** Whether a value is this text; false where it is not of ASCII, since bytes beyond that are not characters. */
export function equalsText(bytes: Uint8Array, at: number, end: number, text: string): boolean {
  if (end - at !== text.length) return false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f || bytes[at + i] !== code) return false;
  }
  return true;
}

/** Whether two ranges of the same bytes hold the same. */
export function equalsBytes(bytes: Uint8Array, at: number, end: number, otherAt: number, otherEnd: number): boolean {
  if (end - at !== otherEnd - otherAt) return false;
  for (let i = 0; i < end - at; i++) if (bytes[at + i] !== bytes[otherAt + i]) return false;
  return true;
}

/** The number whose digits these bytes are, without leading zeros; -1 where they are not such digits, or too many. */
export function wholeNumber(bytes: Uint8Array, start: number, end: number): number {
  if (start === end || end - start > MAX_DIGITS || (bytes[start] === DIGIT_0 && end - start > 1)) return -1;
  let number = 0;
  for (let i = start; i < end; i++) {
    const digit = (bytes[i] ?? 0) - DIGIT_0;
    if (digit < 0 || digit > 9) return -1;
    number = number * 10 + digit;
  }
  return number;
}

/** The first byte of a value that is not a blank. */
export function startOfValue(bytes: Uint8Array, at: number, end: number): number {
  let start = at;
  while (start < end && isBlank(bytes[start])) start++;
  return start;
}

/** The place behind the last byte of a value that is not a blank. */
export function trimmedEnd(bytes: Uint8Array, start: number, end: number): number {
  let last = end;
  while (last > start && isBlank(bytes[last - 1])) last--;
  return last;
}

/** A value without the blanks at its ends, one char a byte. */
export function trimmedText(bytes: Uint8Array, at: number, end: number): string {
  const start = startOfValue(bytes, at, end);
  return textOf(bytes, start, trimmedEnd(bytes, start, end));
}

/** Bytes as text, one char a byte. */
export function textOf(bytes: Uint8Array, at: number, end: number): string {
  return asBuffer(bytes).toString("latin1", at, end);
}

/** Sockets give Buffers: to ask one for its `buffer` would cost more than all the rest of a short answer. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function isBlank(code: number | undefined): boolean {
  return code === SPACE || code === TAB;
}

/**
 * Parses one header or trailer line, from `at` to `end` without its CRLF; the value as it arrived, one char a byte. Null if it is
 * malformed, as a folded line is.
 */
export function parseHeaderLine(bytes: Uint8Array, at: number, end: number): HeaderLine | null {
  const colon = endOfName(bytes, at, end);
  if (colon === -1 || endOfValue(bytes, colon + 1, end) !== end) return null;
  return [textOf(bytes, at, colon), trimmedText(bytes, colon + 1, end)];
}

/** Where the line that begins at `at` ends; its CRLF may be the end. */
export function lineEndAt(bytes: Uint8Array, at: number, end: number): number {
  for (let i = at; i < end; i++) if (bytes[i] === CR && bytes[i + 1] === LF) return i;
  return end;
}
