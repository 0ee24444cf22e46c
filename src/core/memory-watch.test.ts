import { afterEach, describe, expect, test } from "bun:test";
import { RecordingSocket, someFacts } from "../../test/support/core-stage.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import type { ConnectionEnd } from "../protocol/close-causes.ts";
import { Connection } from "./connection.ts";
import { MemoryWatch } from "./memory-watch.ts";
import { Registry } from "./registry.ts";

const MIB = 1_048_576;
const START = 50 * MIB;
const MAX_BUFFERED = 200 * MIB;
/** 1.5 times the bound. */
const GROWTH = 300 * MIB;
const CONNECTION = 8192;
const LOOK_MS = 100;

let watch: MemoryWatch | null = null;

afterEach(() => {
  watch?.stop();
  watch = null;
});

interface Over {
  readonly isCompressed?: boolean;
  readonly told?: boolean;
  readonly clientQuery?: string;
  readonly claims?: string;
  readonly clientPath?: string;
}

function stage({ maxBufferedBytes = MAX_BUFFERED } = {}) {
  const clock = new FakeClock();
  const registry = new Registry();
  const closed: { connection: Connection; cause: ConnectionEnd }[] = [];
  const memory = {
    resident: START,
    garbage: 0,
    collections: 0,
    residentBytes: () => memory.resident + memory.garbage,
    collect: () => {
      memory.collections++;
      memory.garbage = 0;
    },
  };
  const close = (connection: Connection, cause: ConnectionEnd) => closed.push({ connection, cause });
  watch = new MemoryWatch({ options: { maxBufferedBytes, maxMessageBytes: MIB }, registry, memory, clock, close });
  const own = watch;
  /** A client of whose incomplete message so much has arrived, and whose last whole one came at this tick. */
  const open = (partialBytes: number, messageAtTick = 0, over: Over = {}) => {
    const { clientQuery = "", claims = "" } = over;
    const facts = someFacts({ connectionId: `c${registry.size}`, clientQuery, claims });
    const connection = new Connection(
      over.clientPath === undefined ? facts : { ...facts, rare: { clientPath: over.clientPath } },
    );
    const socket = new RecordingSocket();
    connection.frameBytes = 5000;
    connection.messageAtTick = messageAtTick;
    socket.isCompressed = over.isCompressed ?? false;
    if (over.told !== false) socket.traffic = { received: 5000 + partialBytes, delivered: 0, unsent: 0 };
    connection.socket = socket;
    registry.add(connection);
    return connection;
  };
  return { clock, memory, closed, watch: own, open, look: () => clock.advance(LOOK_MS) };
}

describe("the process's memory", () => {
  test("may grow by 1.5 times maxBufferedBytes and 8 KiB for each connection, and not by one byte more", async () => {
    const { memory, watch, open, look } = stage();
    open(0);
    open(0);
    memory.resident = START + GROWTH + 2 * CONNECTION;
    await look();
    expect(watch.isOver).toBe(false);
    memory.resident++;
    await look();
    expect(watch.isOver).toBe(true);
    memory.resident--;
    await look();
    expect(watch.isOver).toBe(false);
  });

  test("may grow by 128 MiB however small maxBufferedBytes is: garbage is not what waits", async () => {
    const { memory, watch, look } = stage({ maxBufferedBytes: 1 });
    memory.resident = START + 128 * MIB;
    await look();
    expect(watch.isOver).toBe(false);
    memory.resident++;
    await look();
    expect(watch.isOver).toBe(true);
  });

  test("is not over its bound by garbage, which is collected first", async () => {
    const { memory, watch, closed, open, look } = stage();
    open(MIB);
    memory.garbage = GROWTH + MIB;
    await look();
    expect([watch.isOver, memory.collections, closed.length]).toEqual([false, 1, 0]);
    memory.garbage = 0.75 * (GROWTH + CONNECTION) + 1;
    await look();
    expect(memory.collections).toBe(2);
    memory.garbage = 0.75 * (GROWTH + CONNECTION);
    await look();
    expect(memory.collections).toBe(2);
  });

  test("is collected seldom where that does not help: a hundredth of the time, a fifth where it helps", async () => {
    const { memory, clock } = stage();
    memory.collect = () => {
      memory.collections++;
      clock.skip(10);
    };
    memory.resident = START + 0.9 * GROWTH;
    await clock.advance(10_000);
    // 10 ms each, so one in a second.
    expect(memory.collections).toBeGreaterThanOrEqual(8);
    expect(memory.collections).toBeLessThanOrEqual(11);
  });

  test("is looked at as soon as a sixteenth of maxBufferedBytes has come in", () => {
    const { memory, watch } = stage();
    memory.resident = START + GROWTH + MIB;
    watch.arrived(MAX_BUFFERED / 16 - 1);
    expect(watch.isOver).toBe(false);
    watch.arrived(1);
    expect(watch.isOver).toBe(true);
  });
});

describe("a process past its bound", () => {
  test("closes clients in the middle of a message, those longest without a whole one first, until it is made up for", async () => {
    const { memory, closed, open, look } = stage();
    const [recent, oldest, older] = [open(MIB / 2, 30), open(MIB / 2, 10), open(MIB / 2, 20)];
    memory.resident = START + GROWTH + 3 * CONNECTION + MIB;
    await look();
    expect(closed.map(({ connection }) => connection)).toEqual([oldest, older]);
    expect(closed.map(({ connection }) => connection)).not.toContain(recent);
    expect(closed[0]?.cause).toMatchObject({ code: 1013, reason: "buffer limit" });
  });

  test("leaves clients alone of whom no more than a handshake's size has come beyond whole messages", async () => {
    const { memory, watch, closed, open, look } = stage();
    open(16_383);
    const partial = open(16_384);
    memory.resident = START + GROWTH + 10 * MIB;
    await look();
    expect(watch.isOver).toBe(true);
    expect(closed.map(({ connection }) => connection)).toEqual([partial]);
  });

  test.each([
    ["compresses", { isCompressed: true }],
    ["of which the system tells nothing", { told: false }],
  ])("takes a client that %s for one in the middle of a message", async (_what, over) => {
    const { memory, closed, open, look } = stage();
    const client = open(0, 0, over);
    memory.resident = START + GROWTH + MIB;
    await look();
    expect(closed.map(({ connection }) => connection)).toEqual([client]);
  });

  test("then closes clients that keep the longest queries, claims and paths, and none whose are shorter than 4 KiB", async () => {
    const { memory, watch, closed, open, look } = stage();
    open(0, 0, { clientQuery: "q".repeat(2048), claims: "c".repeat(2047) });
    const least = open(0, 0, { clientQuery: "q".repeat(2048), claims: "c".repeat(2048) });
    const longest = open(0, 0, { clientQuery: "q".repeat(40_000), clientPath: `/${"p".repeat(7999)}` });
    const partial = open(MIB, 10);
    memory.resident = START + GROWTH + 4 * CONNECTION + MIB + 48_000;
    await look();
    expect(closed.map(({ connection }) => connection)).toEqual([partial, longest]);
    memory.resident += 10 * MIB;
    await look();
    expect(watch.isOver).toBe(true);
    expect(closed.map(({ connection }) => connection)).toContain(least);
    expect(closed[1]?.cause).toMatchObject({ code: 1013, reason: "buffer limit" });
  });

  test("closes no more for memory that was let go and is not given back yet, for a second", async () => {
    const { memory, closed, open, look, clock } = stage();
    for (let count = 0; count < 10; count++) open(MIB, count);
    memory.resident = START + GROWTH + 10 * CONNECTION + 2 * MIB;
    await look();
    expect(closed).toHaveLength(2);
    await clock.advance(1000 - LOOK_MS);
    expect(closed).toHaveLength(2);
    memory.resident += MIB;
    await look();
    expect(closed.length).toBeGreaterThan(2);
  });
});
