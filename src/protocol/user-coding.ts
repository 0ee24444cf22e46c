import type { ConnectionFacts } from "./facts.ts";
import { encodeHeaderValue } from "./headers.ts";

/** What one byte can hold in each char. */
const BYTES = /^[\0-\xff]*$/;

/** Writes a connection's user id as the bytes in which it came, one char a byte; empty without a user. */
export function encodeUserId({ userId, rare }: ConnectionFacts): string {
  if (userId === null) return "";
  return rare?.userIdCoding === "latin1" && BYTES.test(userId) ? userId : encodeHeaderValue(userId);
}
