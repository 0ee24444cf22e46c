import type { ConnectionFacts } from "./events.ts";
import { encodeHeaderValue } from "./headers.ts";

/** `ConnectionFacts.others` of a connection whose user id came as Latin-1 bytes, so that it goes back as the same bytes. */
export const LATIN1_USER = JSON.stringify({ userIdCoding: "latin1" });

/** What one byte can hold in each char. */
const BYTES = /^[\0-\xff]*$/;

/** Writes a connection's user id as the bytes in which it came, one char a byte. */
export function encodeUserId({ userId, others }: ConnectionFacts): string {
  const isLatin1 = others !== undefined && BYTES.test(userId) && codingOf(others) === "latin1";
  return isLatin1 ? userId : encodeHeaderValue(userId);
}

/** Of facts that a newer version stored, nothing is expected but that they are JSON. */
function codingOf(others: string): unknown {
  try {
    return (JSON.parse(others) as { userIdCoding?: unknown } | null)?.userIdCoding;
  } catch {
    return undefined;
  }
}
