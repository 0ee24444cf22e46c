import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { hearing, unexpected } from "../../test/support/notices.ts";
import { GroupRules } from "../core/group-rules.ts";
import { SqliteRuleStore } from "./sqlite.ts";

/** Clocks that are wrong at a start, or set meanwhile, over real files. */

const HOUR_MS = 3_600_000;
const DAYS_200_MS = 200 * 24 * HOUR_MS;

let dataDir: string;
let clock: FakeClock;
/** How far the clock of the machine is off. */
let offMs: number;
let warned: string[];
let events: string[];
let store: SqliteRuleStore;
let rules: GroupRules;

beforeEach(async () => {
  dataDir = mkdtempSync(join(tmpdir(), "hubwire-rule-time-"));
  clock = new FakeClock();
  offMs = 0;
  await start();
});
afterEach(async () => {
  rules.stop();
  await store.close();
  rmSync(dataDir, { recursive: true });
});

async function start(): Promise<void> {
  warned = [];
  events = [];
  const clocks = { now: () => clock.now(), wallMs: () => 1_800_000_000_000 + clock.now() + offMs };
  store = new SqliteRuleStore({
    dataDir,
    clocks,
    report: hearing({ "rules-clock-misfit": ({ reason }) => void warned.push(reason) }),
  });
  rules = new GroupRules({
    store,
    clock,
    report: unexpected,
    onBegun: (_hub, userId) => void events.push(`${userId} in`),
    onExpired: (_hub, userId) => void events.push(`${userId} out`),
  });
  await rules.load();
}

/** A stop of this length, and a start with the clock this much off. */
async function restart(stoppedMs: number, off: number): Promise<void> {
  rules.stop();
  await store.close();
  await clock.advance(stoppedMs);
  offMs = off;
  await start();
}

const put = (userId: string, hours: number) => rules.put("chat", userId, "red", hours * 3600);
const holds = (userId: string) => rules.has("chat", userId, "red");

async function pass(ms: number): Promise<void> {
  await clock.advance(ms);
  store.look();
  await clock.advance(1000);
}

describe("a start with a clock that is 200 days ahead", () => {
  beforeEach(async () => {
    await put("ann", 10);
    await restart(HOUR_MS, DAYS_200_MS);
  });

  test("warns, and rules hold again once the clock is set right, until their own end", async () => {
    expect(holds("ann")).toBe(false);
    expect(warned).toEqual([expect.stringContaining("the clock is 17283600 s ahead of the last run; 1 of 1 rules")]);
    await pass(300_000);
    offMs = 0;
    await pass(1000);
    expect(holds("ann")).toBe(true);
    expect(events).toEqual(["ann in"]);
    await pass(8 * HOUR_MS);
    expect(holds("ann")).toBe(true);
    await pass(HOUR_MS);
    expect(holds("ann")).toBe(false);
    expect(events).toEqual(["ann in", "ann out"]);
  });

  test("ends them for good where it is not set right within an hour", async () => {
    await pass(HOUR_MS);
    offMs = 0;
    await pass(1000);
    expect(holds("ann")).toBe(false);
    await restart(1000, 0);
    expect(holds("ann")).toBe(false);
    expect(events).toEqual([]);
  });

  test("a rule that is put meanwhile lives as long as it was told to, also through a restart", async () => {
    await put("bob", 2);
    await pass(60_000);
    offMs = 0;
    await pass(1000);
    expect([holds("ann"), holds("bob")]).toEqual([true, true]);
    await restart(1000, 0);
    expect(warned).toEqual([]);
    await pass(HOUR_MS);
    expect(holds("bob")).toBe(true);
    await pass(HOUR_MS);
    expect([holds("ann"), holds("bob")]).toEqual([true, false]);
  });

  test("and a restart before it is set right: a rule that was put meanwhile lives no longer for it", async () => {
    await put("bob", 2);
    await restart(1000, 0);
    expect(warned).toEqual([expect.stringContaining("behind the last run")]);
    expect(holds("bob")).toBe(true);
    await pass(2 * HOUR_MS);
    expect(holds("bob")).toBe(false);
  });
});

test("a start with a clock that is 200 days behind gives rules no time, and takes the stop off when it is set right", async () => {
  await put("ann", 10);
  await put("bob", 2);
  await restart(3 * HOUR_MS, -DAYS_200_MS);
  expect(warned).toEqual([expect.stringContaining("behind the last run; 0 of 2 rules")]);
  expect([holds("ann"), holds("bob")]).toEqual([true, true]);
  offMs = 0;
  await pass(1000);
  expect([holds("ann"), holds("bob")]).toEqual([true, false]);
  expect(events).toContain("bob out");
  await pass(7 * HOUR_MS);
  expect(holds("ann")).toBe(false);
});

test("a clock that is set while hubwire runs changes no rule, now or at the next start", async () => {
  await put("ann", 10);
  for (const set of [DAYS_200_MS, -DAYS_200_MS]) {
    offMs = set;
    await pass(HOUR_MS);
    expect(holds("ann")).toBe(true);
    await restart(HOUR_MS, set);
    expect([warned, holds("ann")]).toEqual([[], true]);
  }
  await pass(5 * HOUR_MS);
  expect(holds("ann")).toBe(true);
  await pass(HOUR_MS);
  expect(holds("ann")).toBe(false);
});

test("a stop of a few hours counts, and one of some seconds with a clock that was set back by as many warns of nothing", async () => {
  await put("ann", 10);
  await restart(3 * HOUR_MS, 0);
  await restart(1000, -4000);
  expect([warned, holds("ann")]).toEqual([[], true]);
  await pass(7 * HOUR_MS + 5000);
  expect(holds("ann")).toBe(false);
});

test("a stop of three days is a warning, and its rules are gone", async () => {
  await put("ann", 10);
  await put("bob", 100);
  await restart(72 * HOUR_MS, 0);
  expect(warned).toEqual([expect.stringContaining("1 of 2 rules have ended")]);
  await pass(2 * HOUR_MS);
  expect([holds("ann"), holds("bob")]).toEqual([false, true]);
});
