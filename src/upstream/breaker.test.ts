import { describe, expect, test } from "bun:test";
import { Breaker, type BreakerResult, type BreakerSettings, PROBE_INTERVAL_MS } from "./breaker.ts";

const SETTINGS: BreakerSettings = { failureRatio: 0.5, minCalls: 4, windowMs: 10_000 };

function settle(breaker: Breaker, results: readonly BreakerResult[], nowMs: number): void {
  for (const result of results) breaker.settle(result, { isProbe: false, nowMs });
}

function opened(nowMs: number): Breaker {
  const breaker = new Breaker(SETTINGS);
  settle(breaker, ["failure", "failure", "failure", "failure"], nowMs);
  expect(breaker.isOpen).toBe(true);
  return breaker;
}

describe("Breaker", () => {
  test("opens at the ratio, once there are enough calls", () => {
    const breaker = new Breaker(SETTINGS);
    settle(breaker, ["success", "success", "failure"], 0);
    expect(breaker.isOpen).toBe(false);
    settle(breaker, ["failure"], 0);
    expect(breaker.isOpen).toBe(true);
  });

  test("stays closed below the ratio", () => {
    const breaker = new Breaker(SETTINGS);
    settle(breaker, ["success", "success", "success", "failure", "failure"], 0);
    expect(breaker.isOpen).toBe(false);
  });

  test("stays closed for fewer calls than say something, though all fail", () => {
    const breaker = new Breaker(SETTINGS);
    settle(breaker, ["failure", "failure", "failure"], 0);
    expect(breaker.isOpen).toBe(false);
  });

  test("never opens with a ratio of 0", () => {
    const breaker = new Breaker({ ...SETTINGS, failureRatio: 0 });
    settle(breaker, ["failure", "failure", "failure", "failure"], 0);
    expect(breaker.isOpen).toBe(false);
  });

  test("forgets calls that are older than the window", () => {
    const breaker = new Breaker(SETTINGS);
    settle(breaker, ["failure", "failure", "failure"], 0);
    settle(breaker, ["failure"], SETTINGS.windowMs);
    expect(breaker.isOpen).toBe(false);
    settle(breaker, ["failure", "failure", "failure"], SETTINGS.windowMs + 1);
    expect(breaker.isOpen).toBe(true);
  });

  test("remembers calls of the whole window but its oldest tenth", () => {
    const breaker = new Breaker(SETTINGS);
    settle(breaker, ["failure", "failure", "failure"], 0);
    settle(breaker, ["failure"], SETTINGS.windowMs - 1);
    expect(breaker.isOpen).toBe(true);
  });

  test("says nothing of an outcome that says nothing of the upstream", () => {
    const breaker = new Breaker(SETTINGS);
    settle(breaker, ["none", "none", "none", "none", "none"], 0);
    expect(breaker.isOpen).toBe(false);
  });

  test("refuses for a second when open, then lets one through at a time", () => {
    const breaker = opened(0);
    expect(breaker.admit(PROBE_INTERVAL_MS - 1)).toBe("refuse");
    expect(breaker.admit(PROBE_INTERVAL_MS)).toBe("probe");
    expect(breaker.admit(PROBE_INTERVAL_MS)).toBe("refuse");
    expect(breaker.wouldRefuse(PROBE_INTERVAL_MS * 9)).toBe(true);
  });

  test("closes by the probe's success and starts counting anew", () => {
    const breaker = opened(0);
    breaker.admit(PROBE_INTERVAL_MS);
    breaker.settle("success", { isProbe: true, nowMs: PROBE_INTERVAL_MS + 1 });
    expect(breaker.admit(PROBE_INTERVAL_MS + 1)).toBe("pass");
    settle(breaker, ["failure", "failure", "failure"], PROBE_INTERVAL_MS + 1);
    expect(breaker.isOpen).toBe(false);
  });

  test("waits another second after a probe that failed", () => {
    const breaker = opened(0);
    breaker.admit(PROBE_INTERVAL_MS);
    breaker.settle("failure", { isProbe: true, nowMs: 5000 });
    expect(breaker.admit(5000 + PROBE_INTERVAL_MS - 1)).toBe("refuse");
    expect(breaker.admit(5000 + PROBE_INTERVAL_MS)).toBe("probe");
  });

  test("lets another try at once after a probe that was given up", () => {
    const breaker = opened(0);
    breaker.admit(PROBE_INTERVAL_MS);
    breaker.settle("none", { isProbe: true, nowMs: PROBE_INTERVAL_MS });
    expect(breaker.admit(PROBE_INTERVAL_MS)).toBe("probe");
  });

  test("is not closed by calls that were under way when it opened", () => {
    const breaker = opened(0);
    settle(breaker, ["success", "success", "success", "success"], 1);
    expect(breaker.isOpen).toBe(true);
  });
});
