import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { connectEvent, disconnectEvent, messageEvent } from "../../test/support/upstream/fixture.ts";
import { messageEventId, type UpstreamEvent } from "../protocol/events.ts";
import { isEventId } from "./event-id.ts";

/** Asks for a text in the middle of others, like a header's value. */
function holds(event: UpstreamEvent, text: string, behind = "\r\n9"): boolean {
  const bytes = Buffer.from(`x${text}${behind}`, "latin1");
  return isEventId(event, bytes, 1, 1 + text.length);
}

function messageOf(connectionId: string, number: number): UpstreamEvent {
  return { ...messageEvent("", { connectionId }), number, eventId: messageEventId(connectionId, number) };
}

describe("the id of an event", () => {
  test.each([connectEvent(), messageEvent(), disconnectEvent()])("of $name is known", (event) => {
    expect(holds(event, event.eventId)).toBe(true);
    for (const other of ["", "x", `${event.eventId} `, `${event.eventId}0`, event.eventId.slice(0, -1)]) {
      expect(holds(event, other)).toBe(false);
    }
  });

  test("of a message is told from that of a message with another number, or of another connection", () => {
    for (const number of [1, 9, 10, 123_456, 999_999_999_999_999]) {
      const event = messageOf("c0nnecti0n", number);
      expect(holds(event, `c0nnecti0n.${number}`)).toBe(true);
      for (const other of [`c0nnecti0n.${number + 1}`, `c0nnecti0n.0${number}`, `c0nnecti0N.${number}`]) {
        expect(holds(event, other)).toBe(false);
      }
      for (const other of ["c0nnecti0n.", "c0nnecti0n", `c0nnecti0n${number}`, `0nnecti0n.${number}`]) {
        expect(holds(event, other)).toBe(false);
      }
    }
  });

  test("is compared as its text would be", () => {
    const id = fc.stringMatching(/^[A-Za-z0-9_-]{1,4}$/);
    const number = fc.integer({ min: 1, max: 120 });
    const text = fc.oneof(
      fc.tuple(id, number).map(([a, n]) => messageEventId(a, n)),
      fc.stringMatching(/^[a-z.0-9]{0,6}$/),
    );
    fc.assert(
      fc.property(id, number, text, fc.stringMatching(/^[a-z.0-9\r]{0,3}$/), (connectionId, count, given, behind) => {
        const event = messageOf(connectionId, count);
        expect(holds(event, given, behind)).toBe(given === event.eventId);
        expect(holds(event, event.eventId, behind)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });
});
