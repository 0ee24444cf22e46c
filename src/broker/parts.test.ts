import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { cutIntoParts, isPart, PartJoiner } from "./parts.ts";

class Stage {
  nowMs = 0;
  readonly lost: string[] = [];
  readonly joiner = new PartJoiner({ nowMs: () => this.nowMs, onLost: (reason) => void this.lost.push(reason) });

  /** Adds parts in order; what became whole. */
  add(...parts: readonly Uint8Array[]): string[] {
    return parts.flatMap((part) => {
      const whole = this.joiner.add("s", part);
      return whole === null ? [] : [Buffer.from(whole).toString()];
    });
  }
}

function cut(text: string, options: { publisher?: bigint; sequence?: number; maxBytes?: number } = {}): Uint8Array[] {
  const { publisher = 1n, sequence = 0, maxBytes = 24 } = options;
  return cutIntoParts(Buffer.from(text), { maxBytes, publisher, sequence });
}

test("however a message is cut, its parts fit and make it again", () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1, maxLength: 300 }), fc.integer({ min: 22, max: 400 }), (text, maxBytes) => {
      const stage = new Stage();
      const parts = cut(text, { maxBytes });
      for (const part of parts) expect([isPart(part), part.length <= maxBytes]).toEqual([true, true]);
      expect(stage.add(...parts)).toEqual([text]);
      expect([stage.joiner.size, stage.lost]).toEqual([0, []]);
    }),
  );
});

test("parts of several publishers, and of one on several subjects, do not mix", () => {
  const stage = new Stage();
  const [one, other] = [cut("from the one"), cut("from the other", { publisher: 2n })];
  const mixed = Array.from({ length: 10 }, (_empty, index) => [one[index], other[index]]).flat();
  expect(stage.add(...mixed.filter((part) => part !== undefined))).toEqual(["from the one", "from the other"]);
  const [first, ...rest] = cut("xyzxyzxyzxyz");
  if (first === undefined) throw new Error("there are parts");
  expect(stage.joiner.add("a", first)).toBeNull();
  for (const part of rest) expect(stage.joiner.add("b", part)).toBeNull();
  expect(stage.lost).toEqual(["the first parts of a message were lost"]);
});

describe("what does not come", () => {
  test("costs its message and no other", () => {
    const stage = new Stage();
    const parts = cut("lost on the way");
    expect(stage.add(...parts.slice(0, 2), ...parts.slice(3))).toEqual([]);
    expect(stage.add(...cut("the next", { sequence: 1 }))).toEqual(["the next"]);
    expect(stage.joiner.size).toBe(0);
    expect(stage.lost[0]).toBe("parts of a message were lost");
  });

  test("no message is made of the parts of two, or of one part twice", () => {
    const stage = new Stage();
    const [one, other] = [cut("123456789"), cut("abcdefghi", { sequence: 1 })];
    expect(stage.add(...one.slice(0, 2), ...other.slice(2))).toEqual([]);
    const again = cut("123456789", { sequence: 2 });
    expect(again).toHaveLength(3);
    expect(stage.add(...again.slice(0, 1), ...again.slice(2), ...again.slice(2))).toEqual([]);
    expect(stage.joiner.size).toBe(0);
  });

  test("what has become whole holds nothing any more", () => {
    const stage = new Stage();
    const large = "x".repeat(40 * 1024 * 1024);
    for (let sequence = 0; sequence < 2; sequence++) {
      expect(stage.add(...cut(large, { sequence, maxBytes: 30 * 1024 * 1024 }))).toHaveLength(1);
    }
    stage.add(...cut("unfinished", { sequence: 2 }).slice(0, 1));
    expect([stage.joiner.size, stage.lost]).toEqual([1, []]);
  });

  test("a message whose end is missing ends with the next of its publisher, or after ten seconds", () => {
    const stage = new Stage();
    stage.add(...cut("without its end").slice(0, -1));
    expect(stage.add(...cut("the next", { sequence: 1 }))).toEqual(["the next"]);
    expect(stage.lost).toHaveLength(1);
    stage.add(...cut("without its end", { sequence: 2 }).slice(0, -1));
    stage.nowMs = 9999;
    stage.joiner.sweep();
    expect(stage.joiner.size).toBe(1);
    stage.nowMs = 10_000;
    stage.joiner.sweep();
    expect([stage.joiner.size, stage.lost.length]).toEqual([0, 2]);
  });

  test("unfinished messages hold 64 MiB at most: the one that was heard of longest ago is given up", () => {
    const stage = new Stage();
    // A little is counted for each message besides its bytes.
    const piece = "x".repeat(16 * 1024 * 1024 - 1024);
    const begin = (publisher: bigint) => cut(piece + piece, { publisher, maxBytes: piece.length + 21 })[0];
    for (const publisher of [1n, 2n, 3n, 4n]) stage.add(begin(publisher) ?? new Uint8Array());
    expect([stage.joiner.size, stage.lost]).toEqual([4, []]);
    stage.add(begin(5n) ?? new Uint8Array());
    expect([stage.joiner.size, stage.lost.length]).toEqual([4, 1]);
  });
});

describe("unfinished messages of nearly nothing", () => {
  /** The first part of a message of two, of one byte. */
  const begin = (publisher: number) => cut("xx", { publisher: BigInt(publisher), maxBytes: 22 })[0] ?? new Uint8Array();

  test("are 4096 at most", () => {
    const stage = new Stage();
    for (let publisher = 0; publisher < 4096; publisher++) stage.add(begin(publisher));
    expect([stage.joiner.size, stage.lost]).toEqual([4096, []]);
    stage.add(begin(4096));
    expect([stage.joiner.size, stage.lost]).toEqual([4096, ["unfinished messages are more than 4096"]]);
    // The oldest was given up, and no other.
    expect(stage.add(...cut("xx", { publisher: 1n, maxBytes: 22 }).slice(1))).toEqual(["xx"]);
    expect(stage.add(...cut("xx", { publisher: 0n, maxBytes: 22 }).slice(1))).toEqual([]);
  });

  test("count for their keys and for themselves", () => {
    const stage = new Stage();
    const piece = "x".repeat(16_384);
    const [first] = cut(piece + piece, { maxBytes: piece.length + 21 });
    if (first === undefined) throw new Error("there are parts");
    const subject = "s".repeat(4000);
    for (let index = 0; index < 4096; index++) stage.joiner.add(`${subject}${index}`, first);
    // 64 MiB are 4096 of their bytes alone.
    expect(stage.joiner.size).toBeLessThan(3300);
    expect(stage.joiner.size).toBeGreaterThan(3000);
  });

  test("keep none of the bytes alive that they came with", () => {
    const stage = new Stage();
    const chunks = Array.from({ length: 50 }, (_empty, publisher) => {
      const chunk = new Uint8Array(1_048_576);
      chunk.set(begin(publisher), 1000);
      stage.joiner.add("s", chunk.subarray(1000, 1022));
      return new WeakRef(chunk.buffer);
    });
    expect(stage.joiner.size).toBe(50);
    // The collector may take a few for used that are still on the stack.
    Bun.gc(true);
    expect(chunks.filter((chunk) => chunk.deref() !== undefined).length).toBeLessThan(10);
  });

  test("a message of as many empty parts as there may be holds nothing but itself", () => {
    const stage = new Stage();
    const [first] = cut("x".repeat(65_536), { maxBytes: 22 });
    if (first === undefined) throw new Error("there are parts");
    const part = first.slice(0, 21);
    for (let index = 0; index < 65_535; index++) {
      new DataView(part.buffer).setUint32(13, index);
      stage.add(part);
    }
    expect([stage.joiner.size, stage.lost]).toEqual([1, []]);
  });
});

test("bytes that only look like a part are told of, and never throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      const stage = new Stage();
      stage.add(Uint8Array.of(255, ...bytes));
      expect(stage.joiner.size + stage.lost.length).toBeLessThanOrEqual(1);
    }),
  );
});
