import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { CoreStage } from "../../test/support/core-stage.ts";
import { depart, due } from "../../test/support/disconnects.ts";
import { answer, type Scripted } from "../../test/support/scripted-upstream.ts";
import { FIRST_DIALECT } from "../protocol/dialect-names.ts";

let stage: CoreStage;

beforeEach(() => {
  stage = new CoreStage();
});

afterEach(() => {
  stage.stop();
});

function always(outcome: Scripted): void {
  stage.upstream.script = () => outcome;
}

/** Who was tried, from the call with this number on. */
function triedFrom(number: number): string[] {
  return stage.upstream.calls.slice(number).map(({ connectionId }) => connectionId);
}

describe("after a restart", () => {
  test("what an earlier process left behind is sent, oldest first", async () => {
    for (const id of ["c1", "c2", "c3"]) await stage.journal.due(due(id));
    await stage.journal.due(due("c1"));
    stage.redelivery.start();
    await stage.clock.advance(1000);
    expect(stage.upstream.calls.map(({ connectionId }) => connectionId)).toEqual(["c2", "c3", "c1"]);
  });

  test("the time that earlier processes have tried counts, and the time between them does not", async () => {
    stage.options.retryForSeconds = 600;
    always(answer(503));
    await stage.journal.due(due("c1", { dueSinceMs: 0, triedForMs: 500_000 }));
    stage.redelivery.start();
    await stage.clock.advance(95_000);
    expect(stage.report.dead).toEqual([]);
    const stored = (await stage.journal.read("c1"))?.triedForMs ?? 0;
    expect(stored).toBeGreaterThan(550_000);
    expect(stored).toBeLessThan(600_000);
    await stage.clock.advance(40_000);
    expect(stage.report.dead).toMatchObject([{ connectionId: "c1" }]);
  });

  test("what turns up later, in front of what is held, is found by another start, and nothing is sent twice", async () => {
    always(answer(500));
    await depart(stage, "new");
    await stage.journal.due(due("old"));
    const waiting = stage.journal.waiting.bind(stage.journal);
    // Its place was given out by the earlier process.
    stage.journal.waiting = async (after) =>
      (await waiting(0, 10))
        .map((one) => (one.connectionId === "old" ? { ...one, place: 0.5 } : one))
        .filter(({ place }) => place > after);
    always(answer(200));
    stage.redelivery.start();
    await stage.clock.advance(2000);
    expect(triedFrom(1).sort()).toEqual(["new", "old"]);
    expect(stage.redelivery.waitingCount).toBe(0);
  });

  test("a start while a page is on its way begins anew", async () => {
    await stage.journal.due(due("c1"));
    await stage.journal.due(due("c2"));
    const waiting = stage.journal.waiting.bind(stage.journal);
    const gate = Promise.withResolvers<void>();
    let calls = 0;
    stage.journal.waiting = async (after, limit) => {
      const page = await waiting(after, limit);
      if (calls++ > 0) return page;
      await gate.promise;
      return page.filter(({ connectionId }) => connectionId === "c2");
    };
    stage.redelivery.start();
    stage.redelivery.start();
    gate.resolve();
    await stage.clock.advance(500);
    expect(triedFrom(0).sort()).toEqual(["c1", "c2"]);
  });

  test("a journal that cannot be read is asked once a second, and complained of once", async () => {
    await stage.journal.due(due("c1"));
    const waiting = stage.journal.waiting.bind(stage.journal);
    let calls = 0;
    stage.journal.waiting = (after, limit) => (calls++ < 5 ? Promise.reject(new Error("disk")) : waiting(after, limit));
    stage.redelivery.start();
    await stage.clock.advance(3900);
    expect([calls, stage.report.faults.length]).toEqual([4, 1]);
    await stage.clock.advance(3000);
    expect(triedFrom(0)).toEqual(["c1"]);
  });

  test("thousands are fetched page by page, and each is sent once", async () => {
    for (let index = 0; index < 2500; index++) await stage.journal.due(due(`c${index}`));
    stage.redelivery.start();
    await stage.clock.advance(20_000);
    expect(new Set(triedFrom(0)).size).toBe(2500);
    expect(stage.upstream.calls).toHaveLength(2500);
    expect(stage.redelivery.waitingCount).toBe(0);
  });

  test("a page is fetched while no more than half of 100,000 are held; the rest stays in the journal until then", async () => {
    const total = 60_000;
    const dueAt = (place: number) => ({
      connectionId: `c${place}`,
      hub: "chat",
      dialect: FIRST_DIALECT,
      place,
      triedForMs: 0,
      refusedForMs: 0,
    });
    stage.journal.waiting = async (after, limit) =>
      Array.from({ length: Math.min(limit, total - after) }, (_, index) => dueAt(after + index + 1));
    stage.journal.read = async (id) => due(id);
    stage.options.maxPerSecond = total;
    stage.upstream.script = () => null;
    stage.redelivery.start();
    await stage.clock.advance(1000);
    expect(stage.redelivery.waitingCount).toBe(51_000);
    always(answer(200));
    for (const call of stage.upstream.held) call.settle(answer(200));
    await stage.clock.advance(5000);
    expect([stage.redelivery.waitingCount, stage.upstream.calls.length]).toEqual([0, total]);
    expect(new Set(triedFrom(0)).size).toBe(total);
  });

  test("of those that fail 100,000 are held; one more waits in the journal, and is sent too", async () => {
    stage.options.maxPerSecond = 1_000_000;
    const failure = {
      kind: "retry",
      cause: "answered with status 503",
      waitMs: null,
      tried: true,
      isRefusal: false,
    } as const;
    const attempt = { entry: stage.upstream.entry, startedAtMs: stage.clock.now() };
    const add = (index: number) => stage.redelivery.add(due(`c${index}`), failure, attempt);
    for (let index = 0; index < 100_000; index++) await add(index);
    expect(stage.redelivery.waitingCount).toBe(100_000);
    await add(100_000);
    expect(stage.redelivery.waitingCount).toBe(100_000);
    await stage.clock.advance(10_000);
    expect([stage.redelivery.waitingCount, stage.upstream.calls.length]).toEqual([0, 100_001]);
    expect(new Set(triedFrom(0)).size).toBe(100_001);
  });

  test("those that fail meanwhile are neither lost nor sent twice", async () => {
    for (let index = 0; index < 1500; index++) await stage.journal.due(due(`old${index}`));
    const waiting = stage.journal.waiting.bind(stage.journal);
    const gate = Promise.withResolvers<void>();
    stage.journal.waiting = async (after, limit) => {
      const page = await waiting(after, limit);
      await gate.promise;
      return page;
    };
    stage.redelivery.start();
    always(answer(500));
    await depart(stage, "new1", "new2");
    always(answer(200));
    gate.resolve();
    await stage.clock.advance(20_000);
    expect(
      triedFrom(2)
        .filter((id) => id.startsWith("new"))
        .sort(),
    ).toEqual(["new1", "new2"]);
    expect(stage.redelivery.waitingCount).toBe(0);
    expect(await stage.journal.waiting(0, 10)).toEqual([]);
  });
});
