import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { CoreStage } from "../../test/support/core-stage.ts";
import { depart, due } from "../../test/support/disconnects.ts";
import { answer, refused, type Scripted } from "../../test/support/scripted-upstream.ts";
import { FIRST_DIALECT } from "../protocol/dialect-names.ts";
import { HeldDisconnect } from "./held-disconnect.ts";
import { RetryLane } from "./retry-lane.ts";

/** Answers that a backend gives while it is deployed: PROTOCOL.md, "Disconnect", and decision 0037. */
const PASSING = [401, 403, 404, 405, 407, 410, 421];

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

/** The ids of all calls, in order. */
function tried(): string[] {
  return stage.upstream.calls.map(({ connectionId }) => connectionId);
}

describe.each(PASSING)("a disconnect event that is answered with %d", (status) => {
  test("is tried again until it is taken, with the same id", async () => {
    always(answer(status));
    await depart(stage, "c1");
    await stage.clock.advance(2000);
    always(answer(204));
    await stage.clock.advance(5000);
    const events = stage.upstream.calls.map(({ event }) => event);
    expect(events.length).toBeGreaterThan(2);
    for (const event of events) expect(event).toEqual(events[0] as (typeof events)[0]);
    expect(await stage.journal.read("c1")).toBeNull();
    expect([stage.report.lost, stage.report.dead, stage.redelivery.waitingCount]).toEqual([[], [], 0]);
  });

  test("for retryRefusedForSeconds is a dead letter that says why, and not before", async () => {
    stage.random = 0.999;
    always(answer(status));
    await depart(stage, "c1");
    await stage.clock.advance(299_800);
    expect(stage.report.dead).toEqual([]);
    await stage.clock.advance(400);
    expect(stage.report.dead).toMatchObject([{ connectionId: "c1", cause: `answered with status ${status}` }]);
    const [letter] = await stage.redelivery.list(0, 9);
    expect(letter).toMatchObject({ facts: { connectionId: "c1" }, cause: `answered with status ${status}` });
  });
});

test.each([400, 402, 406, 409, 411, 412, 413, 414, 415, 418, 422, 431, 451, 499])(
  "%d ends the event at once: no later try changes it",
  async (status) => {
    always(answer(status));
    await depart(stage, "c1");
    await stage.clock.advance(60_000);
    expect(tried()).toEqual(["c1"]);
    expect(stage.report.lost).toMatchObject([{ cause: `answered with status ${status}` }]);
    expect([await stage.journal.read("c1"), stage.report.dead]).toEqual([null, []]);
  },
);

test("with retryRefusedForSeconds 0 the first refusal is the end: a dead letter", async () => {
  stage.options.retryRefusedForSeconds = 0;
  always(answer(404));
  await depart(stage, "c1");
  await stage.clock.advance(60_000);
  expect(tried()).toEqual(["c1"]);
  expect(stage.report.dead).toMatchObject([{ cause: "answered with status 404" }]);
  expect(stage.redelivery.waitingCount).toBe(0);
});

test("a refused event waits alone: half a second, doubled to 30 s, and the others go out meanwhile", async () => {
  const starts: number[] = [];
  stage.upstream.script = ({ facts }) => {
    if (facts.connectionId !== "c1") return answer(204);
    starts.push(stage.clock.now());
    return answer(404);
  };
  await depart(stage, "c1");
  await stage.journal.due(due("c2"));
  stage.redelivery.start();
  await stage.clock.advance(200);
  expect(tried()).toEqual(["c1", "c2"]);
  await stage.clock.advance(60_000);
  const pauses = starts.slice(1).map((at, index) => at - (starts[index] ?? 0));
  for (const [index, shortest] of [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000].entries()) {
    expect(pauses[index]).toBeGreaterThanOrEqual(shortest);
    expect(pauses[index]).toBeLessThanOrEqual(shortest + 200);
  }
  expect(stage.report.lines).toEqual(["refused by upstreams[0]: answered with status 404"]);
});

test("many refused events are one line in the log, and each has its turn", async () => {
  always(answer(404));
  const ids = Array.from({ length: 50 }, (_, index) => `c${index}`);
  await depart(stage, ...ids);
  await stage.clock.advance(2000);
  expect(stage.report.lines).toEqual(["refused by upstreams[0]: answered with status 404"]);
  always(answer(204));
  await stage.clock.advance(3000);
  expect(new Set(tried().slice(-50))).toEqual(new Set(ids));
  expect(stage.redelivery.waitingCount).toBe(0);
});

test("another outcome meanwhile ends the count of refusals, and one that was not tried does not", async () => {
  always(answer(404));
  await depart(stage, "c1");
  await stage.clock.advance(200_000);
  always(answer(503));
  await stage.clock.advance(40_000);
  expect(await stage.journal.read("c1")).toMatchObject({ refusedForMs: 0 });
  always(answer(404));
  await stage.clock.advance(200_000);
  always(refused());
  await stage.clock.advance(40_000);
  expect(stage.report.dead).toEqual([]);
  always(answer(404));
  await stage.clock.advance(130_000);
  expect(stage.report.dead).toMatchObject([{ connectionId: "c1" }]);
});

test("an event that was refused, and waits for a breaker to close, has its turn first: only another refusal ends it", async () => {
  always(answer(404));
  await depart(stage, "c1");
  if (stage.upstream.entry !== null) stage.upstream.entry.isBreakerOpen = true;
  always(refused());
  await stage.clock.advance(400_000);
  expect(stage.report.dead).toEqual([]);
  if (stage.upstream.entry !== null) stage.upstream.entry.isBreakerOpen = false;
  always(answer(204));
  await stage.clock.advance(31_000);
  expect([stage.report.dead, stage.redelivery.waitingCount]).toEqual([[], 0]);
});

test("an event whose address has its share of the places is tried about once a second, and never given up for that", async () => {
  stage.options.retryRefusedForSeconds = 0;
  always(refused({ cause: "address-concurrency", retryAfterSeconds: 1 }));
  await depart(stage, "c1");
  await stage.clock.advance(10_000);
  expect(tried().length).toBeWithin(8, 13);
  expect([stage.report.dead, stage.redelivery.waitingCount]).toEqual([[], 1]);
});

test("the time that an earlier process was refused counts, and the time between them does not", async () => {
  always(answer(404));
  await stage.journal.due(due("c1", { dueSinceMs: 0, triedForMs: 500_000, refusedForMs: 200_000 }));
  stage.redelivery.start();
  await stage.clock.advance(99_000);
  expect(stage.report.dead).toEqual([]);
  const stored = await stage.journal.read("c1");
  expect(stored?.refusedForMs).toBeGreaterThan(260_000);
  expect(stored?.triedForMs).toBeGreaterThan(560_000);
  await stage.clock.advance(1500);
  expect(stage.report.dead).toMatchObject([{ connectionId: "c1" }]);
});

test("a clock that is set meanwhile changes nothing", async () => {
  always(answer(404));
  await depart(stage, "c1");
  stage.clockSetByMs = 200 * 86_400_000;
  await stage.clock.advance(290_000);
  expect(stage.report.dead).toEqual([]);
  await stage.clock.advance(11_000);
  expect(stage.report.dead).toHaveLength(1);
});

test("a reload tries refused events at once: it may have mended what was refused", async () => {
  always(answer(404));
  await depart(stage, "c1");
  await stage.clock.advance(100_000);
  const count = tried().length;
  always(answer(204));
  stage.redelivery.reroute();
  await stage.clock.advance(200);
  expect(tried()).toHaveLength(count + 1);
  expect(stage.redelivery.waitingCount).toBe(0);
});

test("a lane whose only event is at rest is not forgotten", () => {
  const lane = new RetryLane(
    { label: "upstreams[0]", maxConcurrency: 8, isBreakerOpen: false, onMessageFailure: "close" },
    10,
    0,
  );
  const one = new HeldDisconnect(
    { connectionId: "c1", hub: "chat", dialect: FIRST_DIALECT },
    { triedForMs: 0, refusedForMs: 0 },
    0,
  );
  lane.rest(one, 950);
  expect([lane.canBeForgotten(0), lane.take(900)]).toEqual([false, null]);
  expect(lane.take(1000)).toBe(one);
});
