import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Pipe, type PipeSocket } from "./pipe.ts";

/** A kernel buffer that takes as much as the test lets it. */
class ShortSocket implements PipeSocket {
  room: number;
  readonly taken: number[] = [];
  readonly done: string[] = [];

  constructor(room: number) {
    this.room = room;
  }

  write(bytes: Uint8Array): number {
    if (this.room < 0) return -1;
    const count = Math.min(this.room, bytes.length);
    this.taken.push(...bytes.subarray(0, count));
    this.room -= count;
    return count;
  }

  end(): void {
    this.done.push("end");
  }

  pause(): void {
    this.done.push("pause");
  }

  resume(): void {
    this.done.push("resume");
  }
}

const source = () => new ShortSocket(0);

describe("Pipe", () => {
  test("writes straight through while the socket takes everything, and holds nobody back", () => {
    const socket = new ShortSocket(100);
    const from = source();
    const pipe = new Pipe(socket);
    pipe.write(Uint8Array.of(1, 2), from);
    pipe.write(Uint8Array.of(3), from);
    expect([socket.taken, from.done]).toEqual([[1, 2, 3], []]);
  });

  test("keeps what is not taken, holds the source back, and lets it go on once all is written", () => {
    const socket = new ShortSocket(2);
    const from = source();
    const pipe = new Pipe(socket);
    pipe.write(Uint8Array.of(1, 2, 3, 4), from);
    expect([socket.taken, from.done]).toEqual([[1, 2], ["pause"]]);
    socket.room = 1;
    pipe.drained();
    expect([socket.taken, from.done]).toEqual([[1, 2, 3], ["pause"]]);
    socket.room = 10;
    pipe.drained();
    expect([socket.taken, from.done]).toEqual([
      [1, 2, 3, 4],
      ["pause", "resume"],
    ]);
  });

  test("keeps a copy: the buffer that was read into is used again", () => {
    const socket = new ShortSocket(1);
    const pipe = new Pipe(socket);
    const buffer = Uint8Array.of(1, 2);
    pipe.write(buffer, source());
    buffer.fill(9);
    const second = Uint8Array.of(3);
    pipe.write(second, source());
    second.fill(9);
    socket.room = 10;
    pipe.drained();
    expect(socket.taken).toEqual([1, 2, 3]);
  });

  test("lets nothing overtake what waits, even where there is room again", () => {
    const socket = new ShortSocket(1);
    const pipe = new Pipe(socket);
    pipe.write(Uint8Array.of(1, 2), source());
    socket.room = 9;
    pipe.write(Uint8Array.of(3), source());
    expect(socket.taken).toEqual([1]);
    pipe.drained();
    expect(socket.taken).toEqual([1, 2, 3]);
  });

  test("ends at once where nothing waits, else behind what does", () => {
    const idle = new ShortSocket(9);
    new Pipe(idle).end();
    expect(idle.done).toEqual(["end"]);
    const busy = new ShortSocket(0);
    const pipe = new Pipe(busy);
    pipe.write(Uint8Array.of(1), source());
    pipe.end();
    expect(busy.done).toEqual([]);
    busy.room = 9;
    pipe.drained();
    expect([busy.taken, busy.done]).toEqual([[1], ["end"]]);
  });

  test("keeps nothing for a socket that has closed", () => {
    const socket = new ShortSocket(-1);
    const from = source();
    const pipe = new Pipe(socket);
    pipe.write(Uint8Array.of(1), from);
    expect(from.done).toEqual([]);
    socket.room = 9;
    pipe.drained();
    expect(socket.taken).toEqual([]);
  });

  test("gives early bytes back once, as they came", () => {
    const pipe = new Pipe(new ShortSocket(9));
    const buffer = Uint8Array.of(1, 2);
    pipe.keepEarly(buffer);
    buffer.fill(9);
    pipe.keepEarly(Uint8Array.of(3));
    expect(pipe.takeEarly().map((bytes) => [...bytes])).toEqual([[1, 2], [3]]);
    expect(pipe.takeEarly()).toEqual([]);
  });

  test("brings every byte over in order, however short the writes are", () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("write" as const), size: fc.nat(20) }),
      fc.record({ kind: fc.constant("room" as const), size: fc.nat(30) }),
    );
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        const socket = new ShortSocket(0);
        const from = source();
        const pipe = new Pipe(socket);
        let next = 0;
        for (const { kind, size } of steps) {
          if (kind === "write") {
            pipe.write(
              Uint8Array.from({ length: size }, () => next++ & 255),
              from,
            );
          } else {
            socket.room = size;
            pipe.drained();
          }
        }
        pipe.end();
        socket.room = 1e6;
        pipe.drained();
        expect(socket.taken).toEqual(Array.from({ length: next }, (_unused, i) => i & 255));
        expect(socket.done).toContain("end");
        expect(from.done.at(-1) ?? "resume").toBe("resume");
      }),
    );
  });
});
