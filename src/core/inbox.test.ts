import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { ClientCommand } from "../protocol/client-protocol.ts";
import { Inbox } from "./inbox.ts";

function message(byteCount: number, tag = 0) {
  return { payload: new Uint8Array(byteCount).fill(tag), payloadType: "text" } as const;
}

function filled(inbox: Inbox, ...byteCounts: readonly number[]): Inbox {
  for (const byteCount of byteCounts) inbox.push(message(byteCount));
  return inbox;
}

describe("Inbox", () => {
  test("is full at its bound in messages, not one below", () => {
    const inbox = filled(new Inbox({ maxMessages: 3, maxBytes: 100 }, 0), 0, 0);
    expect(inbox.isFull).toBe(false);
    expect(filled(inbox, 0).isFull).toBe(true);
  });

  test("is full at its bound in bytes, not one below", () => {
    expect(filled(new Inbox({ maxMessages: 9, maxBytes: 100 }, 0), 60, 39).isFull).toBe(false);
    expect(filled(new Inbox({ maxMessages: 9, maxBytes: 100 }, 0), 60, 40).isFull).toBe(true);
  });

  test("still takes what was read before the pause took hold", () => {
    const inbox = filled(new Inbox({ maxMessages: 2, maxBytes: 100 }, 0), 1, 1, 1, 200);
    expect(inbox.count).toBe(4);
  });

  test("is relaxed at half of both bounds, not one above either", () => {
    expect(filled(new Inbox({ maxMessages: 4, maxBytes: 100 }, 0), 25, 25).isRelaxed).toBe(true);
    expect(filled(new Inbox({ maxMessages: 4, maxBytes: 100 }, 0), 25, 26).isRelaxed).toBe(false);
    expect(filled(new Inbox({ maxMessages: 4, maxBytes: 100 }, 0), 0, 0, 0).isRelaxed).toBe(false);
    expect(filled(new Inbox({ maxMessages: 1, maxBytes: 1 }, 0)).isRelaxed).toBe(true);
  });

  test("an empty one gives nothing, and one drained is as it was at first", () => {
    const inbox = filled(new Inbox({ maxMessages: 2, maxBytes: 10 }, 0), 10);
    inbox.shift();
    expect(inbox.shift()).toBeUndefined();
    expect([inbox.count, inbox.isFull, inbox.isRelaxed]).toEqual([0, false, true]);
  });

  test("gives back everything in its order, with counts and bytes right all the way", () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.nat(20), { nil: null }), { maxLength: 600 }), (steps) => {
        const inbox = new Inbox({ maxMessages: 50, maxBytes: 200 }, 0);
        const model: ClientCommand[] = [];
        for (const [index, step] of steps.entries()) {
          if (step === null) {
            expect(inbox.shift()).toBe(model.shift());
          } else {
            const next = message(step, index % 256);
            inbox.push(next);
            model.push(next);
          }
          const byteCount = model.reduce((sum, { payload }) => sum + payload.length, 0);
          expect(inbox.count).toBe(model.length);
          expect(inbox.isFull).toBe(model.length >= 50 || byteCount >= 200);
          expect(inbox.isRelaxed).toBe(model.length <= 25 && byteCount <= 100);
        }
      }),
      { numRuns: 100 },
    );
  });

  test("stays first in, first out past the point where the spent front is cut off", () => {
    const inbox = new Inbox({ maxMessages: 10, maxBytes: 10 }, 0);
    let next = 0;
    for (let round = 0; round < 300; round++) {
      inbox.push(message(1, (2 * round) % 256));
      inbox.push(message(1, (2 * round + 1) % 256));
      expect(inbox.shift()?.payload[0]).toBe(next++ % 256);
    }
    expect(inbox.count).toBe(300);
    while (inbox.count > 0) expect(inbox.shift()?.payload[0]).toBe(next++ % 256);
    expect(next).toBe(600);
  });
});
