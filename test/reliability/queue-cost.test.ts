import { expect, test } from "bun:test";
import { cutIntoParts, PartJoiner } from "../../src/broker/parts.ts";
import { Limiter } from "../../src/upstream/limiter.ts";
import type { PlaceSeeker } from "../../src/upstream/waiting-line.ts";
import { CoreStage } from "../support/core-stage.ts";
import { IS_LONG, recordFigure } from "./support/form.ts";

/**
 * Queues whose length strangers choose: a step costs the same, however long the queue is.
 *
 * The long form measures the CPU of many steps at two lengths; the short one only makes the steps, and counts.
 */

const LENGTHS = { short: 1000, long: 16_000 };
const STEPS = 20_000;
const ROUNDS = 5;
/** A queue that is searched for its first gives up to 16. */
const MAX_RATIO = 6;

interface Queue {
  /** Takes the first out and puts another one in; returns how many wait. */
  step(): number;
}

/** Calls of addresses in turns, behind those that have all places. */
function fillLimiter(length: number, bounds: { places: number; placesPerAddress: number; addresses: number }): Queue {
  const limiter = new Limiter(bounds);
  const holders: PlaceSeeker[] = [];
  let came = 0;
  let waiting = 0;
  const come = () => {
    const call: PlaceSeeker = {
      clientBlock: `address ${came++ % bounds.addresses}`,
      placeIndex: -1,
      share: null,
      onPlace: () => {
        waiting--;
        holders.push(call);
      },
    };
    if (limiter.tryEnter(call)) {
      holders.push(call);
      return;
    }
    waiting++;
    limiter.queue(call);
  };
  while (waiting < length) come();
  return {
    step: () => {
      const ended = holders.shift();
      if (ended !== undefined) limiter.release(ended);
      come();
      return waiting;
    },
  };
}

/** Clients for whom bytes wait, none of them too slow, so many that nobody else is let in. */
function fillOutboxes(length: number): Queue {
  const stage = new CoreStage({ maxBufferedBytes: 1000 * length, maxOutboxBytes: 1_000_000 });
  for (let i = 0; i < length; i++) stage.open().socket.waitingBytes = 450;
  stage.pressure.moved(1_000_000);
  return { step: () => (stage.pressure.shortage() === null ? 0 : length) };
}

const QUEUES: readonly (readonly [name: string, fill: (length: number) => Queue])[] = [
  [
    "calls that wait for a place at an upstream",
    (length) => fillLimiter(length, { places: 1, placesPerAddress: 1, addresses: 1 }),
  ],
  [
    "calls that wait for a place of their address",
    (length) => fillLimiter(length, { places: 8, placesPerAddress: 3, addresses: 2 }),
  ],
  [
    "addresses that wait for a place at an upstream",
    (length) => fillLimiter(length, { places: 2, placesPerAddress: 1, addresses: length }),
  ],
  ["clients with a backlog, while a new one is refused", fillOutboxes],
  [
    "unfinished messages between nodes",
    (length) => {
      const joiner = new PartJoiner({ nowMs: () => 0, onLost: () => {} });
      let publisher = 0n;
      const begin = () => {
        const [first] = cutIntoParts(Buffer.from("xx"), { maxBytes: 22, publisher: publisher++, sequence: 0 });
        if (first !== undefined) joiner.add("s", first);
      };
      for (let i = 0; i < length; i++) begin();
      return {
        step: () => {
          begin();
          return joiner.size;
        },
      };
    },
  ],
];

function cpuUsOfSteps(queue: Queue): number {
  const before = process.cpuUsage();
  for (let i = 0; i < STEPS; i++) queue.step();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / STEPS;
}

test.each(QUEUES)("%s", (name, fill) => {
  for (const length of Object.values(LENGTHS)) {
    const queue = fill(length);
    const counts = new Set(Array.from({ length: 100 }, () => queue.step()));
    // One in, one out; unfinished messages are 4096 at most, and grow up to there.
    expect(counts.size === 1 || Math.max(...counts) <= 4096).toBe(true);
  }
  if (!IS_LONG) return;
  const costsUs = { short: Number.POSITIVE_INFINITY, long: Number.POSITIVE_INFINITY };
  for (let round = 0; round < ROUNDS; round++) {
    for (const length of ["short", "long"] as const) {
      costsUs[length] = Math.min(costsUs[length], cpuUsOfSteps(fill(LENGTHS[length])));
    }
  }
  const ratio = costsUs.long / costsUs.short;
  recordFigure(
    `CPU of one step, ${name}: ${LENGTHS.short}, ${LENGTHS.long}`,
    `${costsUs.short.toFixed(2)} µs, ${costsUs.long.toFixed(2)} µs: × ${ratio.toFixed(1)}`,
    `× ${MAX_RATIO}`,
  );
  expect(ratio).toBeLessThan(MAX_RATIO);
});
