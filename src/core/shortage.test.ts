import { expect, test } from "bun:test";
import { MAX_SHORTAGE_MS, Shortage } from "./shortage.ts";

const TICK_MS = 500;

/** Sees the same for so long; returns whether it was a long shortage in the end. */
function see(shortage: Shortage, isShort: boolean, { fromMs, toMs }: { fromMs: number; toMs: number }): boolean {
  let isLong = false;
  for (let now = fromMs; now <= toMs; now += TICK_MS) isLong = shortage.see(isShort, now);
  return isLong;
}

test("a shortage is long after five seconds, not before, and no longer when it is over", () => {
  const shortage = new Shortage(0);
  expect(see(shortage, true, { fromMs: 0, toMs: MAX_SHORTAGE_MS - TICK_MS })).toBe(false);
  expect(see(shortage, true, { fromMs: MAX_SHORTAGE_MS, toMs: MAX_SHORTAGE_MS })).toBe(true);
  expect(shortage.see(false, MAX_SHORTAGE_MS + TICK_MS)).toBe(false);
});

test("one that comes a second after a long one is long after a quarter of that second, and within the next look", () => {
  const shortage = new Shortage(0);
  see(shortage, true, { fromMs: 0, toMs: MAX_SHORTAGE_MS });
  shortage.see(false, MAX_SHORTAGE_MS);
  expect(shortage.see(true, MAX_SHORTAGE_MS + 1000)).toBe(false);
  expect(shortage.see(true, MAX_SHORTAGE_MS + 1000 + TICK_MS)).toBe(true);
});

test("one is forgotten after four times as long as it lasted", () => {
  const shortage = new Shortage(0);
  see(shortage, true, { fromMs: 0, toMs: MAX_SHORTAGE_MS });
  shortage.see(false, MAX_SHORTAGE_MS);
  const againMs = 5 * MAX_SHORTAGE_MS;
  expect(see(shortage, true, { fromMs: againMs, toMs: againMs + MAX_SHORTAGE_MS - TICK_MS })).toBe(false);
  expect(shortage.see(true, againMs + MAX_SHORTAGE_MS)).toBe(true);
});
