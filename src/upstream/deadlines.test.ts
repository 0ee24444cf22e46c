import { expect, test } from "bun:test";
import { Deadlines, SWEEP_INTERVAL_MS } from "./deadlines.ts";
import { ManualClock } from "./testing/manual-clock.ts";

function waitingUntil(deadlineMs: number, deadlines: Deadlines, expired: number[]) {
  const waiting = {
    deadlineMs,
    expire() {
      expired.push(deadlineMs);
      deadlines.remove(waiting);
    },
  };
  deadlines.add(waiting);
  return waiting;
}

test("expires what is due within one sweep, and nothing earlier", () => {
  const clock = new ManualClock();
  const deadlines = new Deadlines(clock);
  const expired: number[] = [];
  const start = clock.now();
  waitingUntil(start + 2 * SWEEP_INTERVAL_MS, deadlines, expired);
  waitingUntil(start + 2 * SWEEP_INTERVAL_MS + 1, deadlines, expired);
  clock.advance(2 * SWEEP_INTERVAL_MS - 1);
  expect(expired).toEqual([]);
  clock.advance(1);
  expect(expired).toEqual([start + 2 * SWEEP_INTERVAL_MS]);
  clock.advance(SWEEP_INTERVAL_MS);
  expect(expired).toHaveLength(2);
});

test("runs one sweep for all, and none while nothing waits", () => {
  const clock = new ManualClock();
  const deadlines = new Deadlines(clock);
  expect(clock.timerCount).toBe(0);
  const waiting = [1, 2, 3].map(() => waitingUntil(Number.POSITIVE_INFINITY, deadlines, []));
  expect(clock.timerCount).toBe(1);
  for (const each of waiting) deadlines.remove(each);
  clock.advance(SWEEP_INTERVAL_MS);
  expect(clock.timerCount).toBe(0);
});

test("heeds a deadline that moves while it waits", () => {
  const clock = new ManualClock();
  const deadlines = new Deadlines(clock);
  const expired: number[] = [];
  const waiting = waitingUntil(Number.POSITIVE_INFINITY, deadlines, expired);
  clock.advance(1000);
  waiting.deadlineMs = clock.now();
  clock.advance(SWEEP_INTERVAL_MS);
  expect(expired).toHaveLength(1);
});

test("ends its sweep when it is stopped, and may be stopped twice", () => {
  const clock = new ManualClock();
  const deadlines = new Deadlines(clock);
  waitingUntil(Number.POSITIVE_INFINITY, deadlines, []);
  deadlines.stop();
  deadlines.stop();
  expect(clock.timerCount).toBe(0);
});
