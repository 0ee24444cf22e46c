import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { CoreStage, STAGE_BEGINS_MS } from "../../test/support/core-stage.ts";
import { depart, due, END } from "../../test/support/disconnects.ts";
import { answer, notSent, type Scripted } from "../../test/support/scripted-upstream.ts";

const DAY_MS = 86_400_000;

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

describe("after retryForSeconds", () => {
  test("an event that fails is a dead letter with its last cause, and is not tried again", async () => {
    stage.options.retryForSeconds = 60;
    always(answer(503));
    await depart(stage, "c1");
    await stage.clock.advance(59_000);
    expect(stage.report.dead).toEqual([]);
    await stage.clock.advance(40_000);
    expect(stage.report.dead).toMatchObject([
      { connectionId: "c1", event: "disconnect", cause: "answered with status 503" },
    ]);
    const calls = stage.upstream.calls.length;
    await stage.clock.advance(100_000);
    expect(stage.upstream.calls).toHaveLength(calls);
    expect(await stage.redelivery.list(0, 10)).toMatchObject([
      { facts: { connectionId: "c1" }, end: END, dueSinceMs: STAGE_BEGINS_MS, cause: "answered with status 503" },
    ]);
  });

  test.each([200 * DAY_MS, -200 * DAY_MS])("a clock that is set by %d ms meanwhile changes nothing", async (byMs) => {
    stage.options.retryForSeconds = 3600;
    always(answer(503));
    await depart(stage, "c1");
    await stage.clock.advance(60_000);
    stage.clockSetByMs = byMs;
    await depart(stage, "c2");
    await stage.clock.advance(3_500_000);
    expect(stage.report.dead).toEqual([]);
    await stage.clock.advance(160_000);
    expect(stage.report.dead.map(({ connectionId }) => connectionId).sort()).toEqual(["c1", "c2"]);
    expect(await stage.redelivery.list(0, 10)).toHaveLength(2);
    await stage.clock.advance(700_000);
    expect(await stage.redelivery.list(0, 10)).toHaveLength(2);
  });

  test("those whose turn has not come are dead letters as well", async () => {
    stage.options.retryForSeconds = 60;
    if (stage.upstream.entry !== null) stage.upstream.entry.isBreakerOpen = true;
    always(answer(500));
    await depart(stage, ...Array.from({ length: 200 }, (_, index) => `c${index}`));
    await stage.clock.advance(75_000);
    expect(stage.report.dead).toHaveLength(200);
    expect(stage.redelivery.waitingCount).toBe(0);
  });

  test("an event that no request can be made of is a dead letter as well, and no fault of the journal's ends one", async () => {
    stage.options.retryForSeconds = 60;
    always(answer(503));
    await depart(stage, "c1", "c2", "c3");
    // Others are taken, so the entry is not failing.
    stage.upstream.script = ({ facts }) => {
      if (facts.connectionId === "c1") throw new Error("the value of a header would end its line");
      return answer(200);
    };
    const read = stage.journal.read.bind(stage.journal);
    stage.journal.read = (id) => (id === "c2" ? Promise.reject(new Error("disk")) : read(id));
    await stage.clock.advance(59_000);
    expect(stage.report.dead).toEqual([]);
    await stage.clock.advance(60_000);
    expect(stage.report.dead).toMatchObject([{ connectionId: "c1", cause: "a fault of the gateway, see its log" }]);
    const calls = stage.upstream.calls.length;
    await stage.clock.advance(60_000);
    expect(triedFrom(calls)).toEqual([]);
  });

  test("0: an event that fails once is a dead letter", async () => {
    stage.options.retryForSeconds = 0;
    always(notSent());
    await depart(stage, "c1");
    expect(stage.report.dead).toHaveLength(1);
    expect(stage.redelivery.waitingCount).toBe(0);
  });

  test("those that waited longer while the process was down are sent, however many, where the upstream takes them", async () => {
    const longAgo = { dueSinceMs: STAGE_BEGINS_MS - 2 * DAY_MS };
    for (let index = 0; index < 2000; index++) await stage.journal.due(due(`c${index}`, longAgo));
    stage.options.maxPerSecond = 50;
    stage.redelivery.start();
    await stage.clock.advance(45_000);
    expect(stage.report.dead).toEqual([]);
    expect(stage.upstream.calls).toHaveLength(2000);
  });

  test("one that waited longer while the process was down is tried once more", async () => {
    await stage.journal.due(due("c1", { dueSinceMs: STAGE_BEGINS_MS - 2 * DAY_MS }));
    stage.redelivery.start();
    await stage.clock.advance(200);
    expect(triedFrom(0)).toEqual(["c1"]);
    expect(stage.report.dead).toEqual([]);
  });
});

describe("dead letters", () => {
  beforeEach(async () => {
    stage.options.retryForSeconds = 0;
    always(notSent());
    await depart(stage, "c1", "c2", "c3");
    stage.options.retryForSeconds = 60;
    always(answer(200));
  });

  test("are sent again when asked for, one or all", async () => {
    expect(await stage.redelivery.retry(["c2", "unknown"])).toBe(1);
    await stage.clock.advance(1000);
    expect(triedFrom(3)).toEqual(["c2"]);
    expect(await stage.redelivery.retry(null)).toBe(2);
    await stage.clock.advance(1000);
    expect(triedFrom(4)).toEqual(["c1", "c3"]);
    expect(await stage.redelivery.list(0, 10)).toEqual([]);
  });

  test("have their whole time again", async () => {
    always(answer(500));
    await stage.clock.advance(3_000_000);
    await stage.redelivery.retry(null);
    await stage.clock.advance(50_000);
    expect(await stage.redelivery.list(0, 10)).toEqual([]);
    await stage.clock.advance(60_000);
    expect(await stage.redelivery.list(0, 10)).toHaveLength(3);
  });

  test("are forgotten when dropped, and after 30 days", async () => {
    expect(await stage.redelivery.drop(["c1"])).toBe(1);
    expect(await stage.redelivery.list(0, 10)).toHaveLength(2);
    const minuteMs = 60_000;
    await stage.journal.due(due("old"));
    await stage.journal.died("old", {
      diedAtMs: STAGE_BEGINS_MS,
      cause: "another node's",
      keptForMs: 30 * DAY_MS - 60 * minuteMs,
    });
    stage.redelivery.start();
    await stage.clock.advance(59 * minuteMs);
    expect(await stage.redelivery.list(0, 10)).toHaveLength(3);
    await stage.clock.advance(2 * minuteMs);
    expect((await stage.redelivery.list(0, 10)).map(({ facts }) => facts.connectionId)).toEqual(["c2", "c3"]);
  });
});
