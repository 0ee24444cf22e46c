import { expect, test } from "bun:test";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { Deadlines, SWEEP_INTERVAL_MS } from "./deadlines.ts";

function waitingUntil(deadlineMs: number, deadlines: Deadlines, expired: number[]) {
  const waiting = {
    deadlineMs,
    deadlineSlot: -1,
    expire() {
      expired.push(deadlineMs);
      deadlines.remove(waiting);
    },
  };
  deadlines.add(waiting);
  return waiting;
}

test("expires what is due within one sweep, and nothing earlier", () => {
  const clock = new FakeClock();
  const deadlines = new Deadlines(clock);
  const expired: number[] = [];
  const start = clock.now();
  waitingUntil(start + 2 * SWEEP_INTERVAL_MS, deadlines, expired);
  waitingUntil(start + 2 * SWEEP_INTERVAL_MS + 1, deadlines, expired);
  clock.advanceSync(2 * SWEEP_INTERVAL_MS - 1);
  expect(expired).toEqual([]);
  clock.advanceSync(1);
  expect(expired).toEqual([start + 2 * SWEEP_INTERVAL_MS]);
  clock.advanceSync(SWEEP_INTERVAL_MS);
  expect(expired).toHaveLength(2);
});

test("runs one sweep for all, and none while nothing waits", () => {
  const clock = new FakeClock();
  const deadlines = new Deadlines(clock);
  expect(clock.timerCount).toBe(0);
  const waiting = [1, 2, 3].map(() => waitingUntil(Number.POSITIVE_INFINITY, deadlines, []));
  expect(clock.timerCount).toBe(1);
  for (const each of waiting) deadlines.remove(each);
  clock.advanceSync(SWEEP_INTERVAL_MS);
  expect(clock.timerCount).toBe(0);
});

test("heeds a deadline that moves while it waits", () => {
  const clock = new FakeClock();
  const deadlines = new Deadlines(clock);
  const expired: number[] = [];
  const waiting = waitingUntil(Number.POSITIVE_INFINITY, deadlines, expired);
  clock.advanceSync(1000);
  waiting.deadlineMs = clock.now();
  clock.advanceSync(SWEEP_INTERVAL_MS);
  expect(expired).toHaveLength(1);
});

test("ends its sweep when it is stopped, and may be stopped twice", () => {
  const clock = new FakeClock();
  const deadlines = new Deadlines(clock);
  waitingUntil(Number.POSITIVE_INFINITY, deadlines, []);
  deadlines.stop();
  deadlines.stop();
  expect(clock.timerCount).toBe(0);
});

test("expires all that is due in one sweep, even if some are removed meanwhile", () => {
  const clock = new FakeClock();
  const deadlines = new Deadlines(clock);
  const expired: number[] = [];
  const due = clock.now() + 1;
  const [, b, , , e] = [due, due + 5000, due, due, due + 5000, due].map((at) => waitingUntil(at, deadlines, expired));
  if (b === undefined || e === undefined) throw new Error("there are six");
  const last = {
    deadlineMs: due,
    deadlineSlot: -1,
    expire() {
      deadlines.remove(b);
      deadlines.remove(last);
    },
  };
  deadlines.add(last);
  clock.advanceSync(SWEEP_INTERVAL_MS);
  expect(expired).toEqual([due, due, due, due]);
  expect(deadlines.all()).toEqual([e]);
});

test("leaves the others alone where what is removed does not wait, or no longer", () => {
  const deadlines = new Deadlines(new FakeClock());
  const [a, b, c] = [1, 2, 3].map((at) => waitingUntil(at, deadlines, []));
  if (a === undefined || b === undefined || c === undefined) throw new Error("there are three");
  deadlines.remove(a);
  deadlines.remove(a);
  expect(new Set(deadlines.all())).toEqual(new Set([b, c]));
  deadlines.stop();
  deadlines.remove(b);
  expect(deadlines.all()).toEqual([]);
  deadlines.add(b);
  expect(deadlines.all()).toEqual([b]);
});
