import type { RequestHeaders } from "../protocol/events.ts";
import type { HeaderLine, HeaderLines } from "../protocol/headers.ts";

/** Characters that a value must not have; Bun lets DEL through, and an upstream may refuse a whole request for it. Source: RFC 9110, section 5.5. */
const CONTROL = /[\0-\x08\x0a-\x1f\x7f]/;

/**
 * The lines of a client's handshake that a connect event repeats.
 *
 * Shape:  names as the entry's `forwardHeaders` spells them, values byte for byte. A header that the entry itself sends is left out, and so
 *         is one with a control character in it.
 * Source: PROTOCOL.md, "Headers of the client".
 */
export function forwardedLines(
  names: readonly string[],
  headers: RequestHeaders,
  own: HeaderLines,
): readonly HeaderLine[] {
  const lines: HeaderLine[] = [];
  for (const name of names) {
    const value = headers.get(name);
    if (value !== null && !CONTROL.test(value) && !hasName(own, name)) lines.push([name, value]);
  }
  return lines;
}

/** Whether one of the lines has this name, in any case. */
export function hasName(lines: HeaderLines, name: string): boolean {
  const lower = name.toLowerCase();
  return lines.some(([other]) => other.toLowerCase() === lower);
}
