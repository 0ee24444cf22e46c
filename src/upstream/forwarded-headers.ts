import type { RequestHeaders } from "../protocol/events.ts";
import type { HeaderLine, HeaderLines } from "../protocol/headers.ts";

/** Characters that a value must not have; Bun lets DEL through, and an upstream may refuse a whole request for it. Source: RFC 9110, section 5.5. */
const CONTROL = /[\0-\x08\x0a-\x1f\x7f]/;

/**
 * A value of `Authorization` that logs in a whole TCP connection: a server takes what follows on it for the same user's. A kept socket
 * carries the events of many clients. Source: RFC 4559, section 6.
 */
const CONNECTION_LOGIN = /(?:^|,)[ \t]*(?:negotiate|ntlm)(?:[ \t,]|$)/i;

/**
 * The lines of a client's handshake that a connect event repeats.
 *
 * Shape:  names as the entry's `forwardHeaders` spells them, values byte for byte. A header that the entry itself sends is left out, and so
 *         is one with a control character in it, or with a login for a whole connection.
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
    if (value !== null && mayPass(name, value) && !hasName(own, name)) lines.push([name, value]);
  }
  return lines;
}

function mayPass(name: string, value: string): boolean {
  if (CONTROL.test(value)) return false;
  return name.toLowerCase() !== "authorization" || !CONNECTION_LOGIN.test(value);
}

/** Whether one of the lines has this name, in any case. */
export function hasName(lines: HeaderLines, name: string): boolean {
  const lower = name.toLowerCase();
  return lines.some(([other]) => other.toLowerCase() === lower);
}
