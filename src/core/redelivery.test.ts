import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { CoreStage, STAGE_BEGINS_MS, someFacts } from "../../test/support/core-stage.ts";
import { depart, due, END } from "../../test/support/disconnects.ts";
import { settled } from "../../test/support/fake-clock.ts";
import { answer, notSent, refused, type Scripted, UNROUTED, unknown } from "../../test/support/scripted-upstream.ts";

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

describe("an event that was tried in vain", () => {
  test("is tried again with the same id, facts and end until it is answered with 2xx, then forgotten", async () => {
    always(answer(500));
    await depart(stage, "c1");
    await stage.clock.advance(5000);
    always(answer(204));
    await stage.clock.advance(30_000);
    const events = stage.upstream.calls.map(({ event }) => event);
    expect(events.length).toBeGreaterThan(2);
    for (const event of events) expect(event).toEqual(events[0] as (typeof events)[0]);
    expect(events[0]?.eventId).toBe("c1.disconnect");
    expect(await stage.journal.read("c1")).toBeNull();
    expect(stage.redelivery.waitingCount).toBe(0);
    expect(stage.report.lines).toEqual(["waiting upstreams[0]", "flowing upstreams[0]"]);
  });

  test.each([
    ["500", answer(500)],
    ["302", answer(302)],
    ["408", answer(408)],
    ["429", answer(429)],
    ["no answer", unknown()],
    ["not sent", notSent()],
  ])("%s: pauses of half a second, doubled to 30 s, each no shorter than its half", async (_what, outcome) => {
    always(outcome);
    await depart(stage, "c1");
    const starts: number[] = [];
    stage.upstream.script = () => {
      starts.push(stage.clock.now());
      return outcome;
    };
    const beganAtMs = stage.clock.now();
    await stage.clock.advance(120_000);
    // With random 0 every pause is its shortest; a tick of 100 ms may come on top.
    const pauses = starts.map((at, index) => at - (starts[index - 1] ?? beganAtMs));
    const expected = [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000];
    for (const [index, shortest] of expected.entries()) {
      expect(pauses[index]).toBeGreaterThanOrEqual(shortest);
      expect(pauses[index]).toBeLessThanOrEqual(shortest + 100);
    }
  });

  test("waits longer with a larger random number", async () => {
    always(answer(500));
    stage.random = 0.999;
    await depart(stage, "c1");
    await stage.clock.advance(450);
    expect(triedFrom(1)).toEqual([]);
    await stage.clock.advance(150);
    expect(triedFrom(1)).toEqual(["c1"]);
  });

  test("is ended by a 4xx that cannot pass, which is reported", async () => {
    always(answer(500));
    await depart(stage, "c1");
    always(answer(422));
    await stage.clock.advance(1000);
    expect(triedFrom(1)).toEqual(["c1"]);
    expect(stage.report.lost.map(({ cause }) => cause)).toEqual(["answered with status 422"]);
    expect(await stage.journal.read("c1")).toBeNull();
  });

  test("is a dead letter where no entry takes disconnects any more: a reload that is wrong deletes nothing", async () => {
    always(answer(500));
    await depart(stage, "c1");
    const { entry } = stage.upstream;
    stage.upstream.entry = null;
    stage.redelivery.reroute();
    await stage.clock.advance(1000);
    expect(stage.report.dead.map(({ cause }) => cause)).toEqual(["no entry of upstreams matches"]);
    expect(stage.redelivery.waitingCount).toBe(0);
    stage.upstream.entry = entry;
    always(answer(200));
    expect(await stage.redelivery.retry(null)).toBe(1);
    await stage.clock.advance(1000);
    expect(triedFrom(1)).toEqual(["c1"]);
  });
});

describe("Retry-After", () => {
  const ask = (value: string, status = 429) => always(answer(status, [["Retry-After", value]]));

  test.each([
    ["seconds", "7", 7000],
    ["a date", new Date(STAGE_BEGINS_MS + 9000).toUTCString(), 9000],
    ["more than an hour, which counts as an hour", "999999999", 3_600_000],
  ])("%s", async (_what, value, waitMs) => {
    ask(value);
    await depart(stage, "c1");
    await stage.clock.advance(waitMs - 1);
    expect(triedFrom(1)).toEqual([]);
    await stage.clock.advance(101);
    expect(triedFrom(1)).toEqual(["c1"]);
  });

  test.each([200, -200])("a date is by the backend's clock, which is %i days off", async (days) => {
    const [date, later] = [0, 9000].map((ms) => new Date(STAGE_BEGINS_MS + days * 86_400_000 + ms).toUTCString());
    const lines = Object.entries({ Date: date ?? "", "Retry-After": later ?? "" });
    always(answer(429, lines));
    await depart(stage, "c1");
    await stage.clock.advance(8999);
    expect(triedFrom(1)).toEqual([]);
    await stage.clock.advance(101);
    expect(triedFrom(1)).toEqual(["c1"]);
  });

  test.each(["", "soon", "-5", "1.5", "0", new Date(STAGE_BEGINS_MS - 9000).toUTCString()])(
    "%p leaves the usual pause",
    async (value) => {
      ask(value, 503);
      await depart(stage, "c1");
      await stage.clock.advance(249);
      expect(triedFrom(1)).toEqual([]);
      await stage.clock.advance(101);
      expect(triedFrom(1)).toEqual(["c1"]);
    },
  );
});

describe("many that wait for one entry", () => {
  test("have one try at a time between them while it fails, in turn", async () => {
    always(answer(500));
    await depart(stage, "c1", "c2", "c3");
    await stage.clock.advance(10_000);
    const tried = triedFrom(3);
    expect(tried.length).toBeGreaterThanOrEqual(4);
    expect(tried.length).toBeLessThanOrEqual(6);
    expect(tried.slice(0, 4)).toEqual(["c1", "c2", "c3", "c1"]);
  });

  test("failures that were under way together count once", async () => {
    stage.upstream.script = () => null;
    stage.outstanding.begin();
    stage.outstanding.begin();
    stage.outstanding.begin();
    for (const id of ["c1", "c2", "c3"]) void stage.departure.send(someFacts({ connectionId: id }), END);
    await stage.clock.advance(1000);
    for (const call of stage.upstream.held) call.settle(answer(500));
    await settled();
    always(answer(500));
    await stage.clock.advance(350);
    expect(triedFrom(3)).toEqual(["c1"]);
  });

  test("use a quarter of its places, at least one, once it takes them again", async () => {
    if (stage.upstream.entry !== null) stage.upstream.entry.maxConcurrency = 8;
    always(answer(500));
    await depart(stage, ...Array.from({ length: 10 }, (_, index) => `c${index}`));
    stage.upstream.script = () => null;
    await stage.clock.advance(1000);
    expect(stage.upstream.held).toHaveLength(1);
    stage.upstream.settleFirst(answer(200));
    await settled();
    expect(stage.upstream.held).toHaveLength(2);
    await stage.clock.advance(1000);
    expect(stage.upstream.held).toHaveLength(2);
    if (stage.upstream.entry !== null) stage.upstream.entry.maxConcurrency = 3;
    stage.upstream.settleFirst(answer(200));
    await settled();
    expect(stage.upstream.held).toHaveLength(1);
    stage.upstream.settleFirst(answer(200));
    await settled();
    expect(stage.upstream.held).toHaveLength(1);
  });

  test("are tried no faster than maxPerSecond", async () => {
    stage.stop();
    stage = new CoreStage({ maxPerSecond: 10 });
    for (let index = 0; index < 100; index++) await stage.journal.due(due(`c${index}`));
    stage.redelivery.start();
    await stage.clock.advance(100);
    // One second's worth at once, then ten a second.
    expect(stage.upstream.calls.length).toBeLessThanOrEqual(11);
    await stage.clock.advance(3000);
    expect(stage.upstream.calls.length).toBeGreaterThanOrEqual(38);
    expect(stage.upstream.calls.length).toBeLessThanOrEqual(42);
    await stage.clock.advance(7000);
    expect(stage.upstream.calls.length).toBe(100);
    expect(stage.redelivery.waitingCount).toBe(0);
  });

  test("have their turn while live events are refused again and again", async () => {
    await stage.journal.due(due("c1"));
    stage.upstream.script = ({ facts }) =>
      facts.connectionId === "c1" ? answer(200) : refused({ cause: "concurrency" });
    await depart(stage, "live");
    stage.redelivery.start();
    await depart(stage, "live2");
    await stage.clock.advance(300);
    expect(await stage.journal.read("c1")).toBeNull();
  });

  test("of an address that has its share of the places hold up no other", async () => {
    for (const id of ["c1", "c2", "c3", "c4"]) await stage.journal.due(due(id));
    if (stage.upstream.entry !== null) stage.upstream.entry.maxConcurrency = 1;
    stage.upstream.script = ({ facts }) =>
      facts.connectionId === "c4" ? answer(200) : refused({ cause: "address-concurrency" });
    stage.redelivery.start();
    await stage.clock.advance(300);
    expect(await stage.journal.read("c4")).toBeNull();
    expect(triedFrom(0)).toEqual(["c1", "c2", "c3", "c4"]);
    always(answer(200));
    await stage.clock.advance(10_000);
    expect(stage.redelivery.waitingCount).toBe(0);
  });

  test("use no more than a quarter over reloads", async () => {
    if (stage.upstream.entry !== null) stage.upstream.entry.maxConcurrency = 8;
    for (let index = 0; index < 20; index++) await stage.journal.due(due(`c${index}`));
    stage.upstream.script = () => null;
    stage.redelivery.start();
    await stage.clock.advance(500);
    for (let reload = 0; reload < 5; reload++) {
      stage.redelivery.reroute();
      await stage.clock.advance(200);
    }
    expect(stage.upstream.held).toHaveLength(2);
  });

  test("get a new maxPerSecond at once", async () => {
    stage.stop();
    stage = new CoreStage({ maxPerSecond: 1 });
    for (let index = 0; index < 50; index++) await stage.journal.due(due(`c${index}`));
    stage.redelivery.start();
    await stage.clock.advance(2000);
    expect(stage.upstream.calls.length).toBeLessThanOrEqual(3);
    stage.options.maxPerSecond = 100;
    stage.redelivery.reroute();
    await stage.clock.advance(1000);
    expect(stage.redelivery.waitingCount).toBe(0);
  });

  test("one that alone is not wanted holds up nobody", async () => {
    stage.upstream.script = ({ facts }) => answer(facts.connectionId === "bad" ? 500 : 200);
    await stage.journal.due(due("bad"));
    for (let index = 0; index < 20; index++) await stage.journal.due(due(`c${index}`));
    stage.redelivery.start();
    await stage.clock.advance(2000);
    expect(stage.redelivery.waitingCount).toBe(1);
    expect(await stage.journal.read("bad")).not.toBeNull();
  });
});

describe("while the breaker is open", () => {
  test("one waiting event a second is the probe, however long the entry has failed, and its success frees the others", async () => {
    if (stage.upstream.entry !== null) stage.upstream.entry.isBreakerOpen = true;
    always(answer(500));
    await depart(stage, ...Array.from({ length: 50 }, (_, index) => `c${index}`));
    const before = stage.upstream.calls.length;
    await stage.clock.advance(30_000);
    const probes = stage.upstream.calls.length - before;
    expect(probes).toBeGreaterThanOrEqual(27);
    expect(probes).toBeLessThanOrEqual(30);
    stage.upstream.script = () => {
      if (stage.upstream.entry !== null) stage.upstream.entry.isBreakerOpen = false;
      return answer(200);
    };
    await stage.clock.advance(1100);
    expect(stage.redelivery.waitingCount).toBe(0);
  });

  test("the next probe comes a second after the end of the last one, as the breaker counts", async () => {
    if (stage.upstream.entry !== null) stage.upstream.entry.isBreakerOpen = true;
    always(answer(500));
    await depart(stage, "c1", "c2");
    stage.upstream.script = () => null;
    await stage.clock.advance(1100);
    expect(stage.upstream.held).toHaveLength(1);
    await stage.clock.advance(700);
    stage.upstream.settleFirst(answer(500));
    await stage.clock.advance(900);
    expect(stage.upstream.held).toHaveLength(0);
    await stage.clock.advance(200);
    expect(stage.upstream.held).toHaveLength(1);
  });

  test("that opens during a long pause, one is the probe within the second; one that closes ends the pause", async () => {
    always(answer(500));
    await depart(stage, "c1", "c2");
    await stage.clock.advance(60_000);
    if (stage.upstream.entry !== null) stage.upstream.entry.isBreakerOpen = true;
    const before = stage.upstream.calls.length;
    await stage.clock.advance(900);
    expect(stage.upstream.calls.length).toBe(before + 1);
    always(answer(200));
    if (stage.upstream.entry !== null) stage.upstream.entry.isBreakerOpen = false;
    await stage.clock.advance(200);
    expect(stage.redelivery.waitingCount).toBe(0);
  });

  test("an event that the breaker refuses was not tried: it neither dies nor counts as a failure", async () => {
    stage.options.retryForSeconds = 0;
    always(refused({ retryAfterSeconds: 1 }));
    await depart(stage, "c1");
    await stage.clock.advance(5000);
    expect([stage.report.dead, stage.report.lines]).toEqual([[], []]);
    expect(stage.redelivery.waitingCount).toBe(1);
    always(answer(200));
    await stage.clock.advance(1100);
    expect(stage.redelivery.waitingCount).toBe(0);
  });
});

test("a failure of the journal to read is reported, and the event is tried again", async () => {
  always(answer(500));
  await depart(stage, "c1");
  const read = stage.journal.read.bind(stage.journal);
  let failures = 0;
  stage.journal.read = (id) => (failures++ === 0 ? Promise.reject(new Error("disk")) : read(id));
  always(answer(200));
  await stage.clock.advance(3000);
  expect(stage.report.faults.map(String)).toEqual(["Error: disk"]);
  expect(stage.redelivery.waitingCount).toBe(0);
});

test("an unrouted try ends the event", async () => {
  always(answer(500));
  await depart(stage, "c1");
  always(UNROUTED);
  await stage.clock.advance(1000);
  expect([stage.redelivery.waitingCount, await stage.journal.read("c1")]).toEqual([0, null]);
});

test("nothing ticks while nothing waits, and stop ends every timer and every further try", async () => {
  const idle = stage.clock.timerCount;
  always(answer(500));
  await depart(stage, "c1");
  expect(stage.clock.timerCount).toBe(idle + 1);
  always(answer(200));
  await stage.clock.advance(1000);
  expect(stage.clock.timerCount).toBe(idle);
  always(answer(500));
  await depart(stage, "c2");
  stage.upstream.script = () => null;
  await stage.clock.advance(1000);
  const lines = stage.report.lines.length;
  stage.stop();
  stage.redelivery.stop();
  const calls = stage.upstream.calls.length;
  stage.options.retryForSeconds = 0;
  stage.upstream.settleFirst(unknown({ cause: "abandoned" }));
  await stage.clock.advance(60_000);
  expect([stage.clock.timerCount, stage.upstream.calls.length]).toEqual([0, calls]);
  // What the stop itself cut off says nothing of the upstream, and moves nothing to another place.
  expect([stage.report.lines.slice(lines), stage.report.dead]).toEqual([[], []]);
  expect(stage.redelivery.waitingCount).toBe(1);
  expect(await stage.journal.read("c2")).not.toBeNull();
});
