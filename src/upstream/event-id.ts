import type { UpstreamEvent } from "../protocol/events.ts";
import { equalsText, wholeNumber } from "./header-bytes.ts";

const DOT = 0x2e;

/**
 * Whether bytes of an answer's head are the id of this event.
 *
 * Cost:   makes no string, and so not the id of a message either, which has one only where somebody reads it.
 * Source: PROTOCOL.md, "The event's id in the answer"; `messageEventId` for what a message's id is made of.
 */
export function isEventId(event: UpstreamEvent, bytes: Uint8Array, start: number, end: number): boolean {
  if (event.name !== "message") return equalsText(bytes, start, end, event.eventId);
  const { connectionId } = event.facts;
  const dotAt = start + connectionId.length;
  if (dotAt >= end || bytes[dotAt] !== DOT || wholeNumber(bytes, dotAt + 1, end) !== event.number) return false;
  return equalsText(bytes, start, dotAt, connectionId);
}
