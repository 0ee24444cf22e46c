import { beforeEach, describe, expect, test } from "bun:test";
import type { Msg } from "@nats-io/transport-node";
import fc from "fast-check";
import { Overlap } from "./overlap.ts";

let told: string[];
let nowMs: number;
let overlap: Overlap;

beforeEach(() => {
  told = [];
  nowMs = 0;
  overlap = new Overlap(
    (message) => void told.push(message.string()),
    () => nowMs,
  );
});

/** A message as far as an overlap looks at it. */
function messageOf(text: string, subject = "s", reply?: string): Msg {
  return { subject, reply, data: Buffer.from(text), string: () => text } as unknown as Msg;
}

function first(...texts: readonly string[]): void {
  for (const text of texts) overlap.fromFirst(messageOf(text));
}
function second(...texts: readonly string[]): void {
  for (const text of texts) overlap.fromSecond(messageOf(text));
}

describe("two connections with the same subscriptions", () => {
  test("what comes over both is told once, whichever is first", () => {
    first("a");
    second("a", "b");
    first("b");
    overlap.stopHolding();
    expect(told).toEqual(["a", "b"]);
  });

  test("what the second alone has brought is told behind all of the first, then at once", () => {
    second("a", "b", "c");
    first("a", "b");
    expect(told).toEqual(["a", "b"]);
    overlap.stopHolding();
    expect(told).toEqual(["a", "b", "c"]);
    second("d");
    expect(told).toEqual(["a", "b", "c", "d"]);
  });

  test("what the first has told last is not told again, though the second brings it late", () => {
    first("a");
    overlap.stopHolding();
    second("a", "b");
    expect(told).toEqual(["a", "b"]);
  });

  test("equal messages are as many as were sent", () => {
    first("a", "a", "a");
    second("a", "a", "a", "a");
    overlap.stopHolding();
    second("a");
    expect(told).toEqual(["a", "a", "a", "a", "a"]);
  });

  test("a message from before the second was subscribed takes no equal one away from it", () => {
    first("a");
    nowMs = 1;
    overlap.mark();
    first("a", "b");
    overlap.forgetMarked();
    second("a");
    overlap.stopHolding();
    second("a", "b");
    expect(told).toEqual(["a", "a", "b", "a"]);
  });

  test("a twin that does not come within two seconds is waited for no longer", () => {
    first("a", "b");
    overlap.stopHolding();
    nowMs = 2000;
    second("a");
    expect(told).toEqual(["a", "b"]);
    nowMs = 2001;
    second("b");
    expect(told).toEqual(["a", "b", "b"]);
  });

  test("messages are equal only where subject, reply and bytes are", () => {
    overlap.fromFirst(messageOf("a", "s"));
    overlap.fromSecond(messageOf("a", "t"));
    overlap.fromSecond(messageOf("a", "s", "inbox"));
    overlap.fromSecond(messageOf("b", "s"));
    overlap.stopHolding();
    expect(told).toEqual(["a", "a", "a", "b"]);
  });

  test("more than may wait ends the holding", () => {
    const long = "x".repeat(1024 * 1024);
    for (let count = 0; count < 16; count++) second(`${count} ${long}`);
    expect(told).toHaveLength(16);
    second("next");
    expect(told).toHaveLength(17);
  });

  test("any number of messages goes through while both keep up", () => {
    const count = 250_000;
    for (let number = 0; number < count; number++) {
      const text = `${number}`;
      for (const one of number % 2 === 0 ? [second, first] : [first, second]) one(text);
    }
    second("last");
    expect(told).toHaveLength(count);
    overlap.stopHolding();
    expect(told).toHaveLength(count + 1);
  });

  test("in any order of arrival, each publisher's messages are told once and in order", () => {
    // Messages 0 to n of a publisher; the second connection begins at `from`, and the first one ends at `to`.
    const shape = fc.record({ count: fc.nat(20), from: fc.nat(20), more: fc.nat(20), picks: fc.array(fc.boolean()) });
    fc.assert(
      fc.property(shape, ({ count, from, more, picks }) => {
        told = [];
        overlap = new Overlap(
          (message) => void told.push(message.string()),
          () => nowMs,
        );
        const all = Array.from({ length: count + more }, (_, number) => `${number}`);
        const left = all.slice(0, count);
        const right = all.slice(Math.min(from, count));
        for (const isFirst of picks) {
          const text = (isFirst ? left : right).shift();
          if (text !== undefined) (isFirst ? first : second)(text);
        }
        first(...left);
        overlap.stopHolding();
        second(...right);
        expect(told).toEqual(all);
      }),
    );
  });
});
