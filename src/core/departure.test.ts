import { expect, test } from "bun:test";
import { CoreStage, STAGE_BEGINS_MS, someFacts } from "../../test/support/core-stage.ts";
import { settled } from "../../test/support/fake-clock.ts";
import { answer, notSent, refused, UNROUTED, unknown } from "../../test/support/scripted-upstream.ts";

const END = { code: 4000, reason: "done" };

/** A stage with one connection in its journal, as admission leaves it. */
async function started(outcome: Parameters<CoreStage["upstream"]["settleFirst"]>[0] = answer(204)) {
  const stage = new CoreStage();
  const facts = someFacts({ connectionId: "c7", userId: "zoë" });
  await stage.journal.connecting(facts);
  stage.upstream.script = () => outcome;
  stage.outstanding.begin();
  return { stage, facts };
}

/** What the next start would find. */
async function leftBehind(stage: CoreStage) {
  await stage.journal.recover({ code: 1006, reason: "gateway restarted" }, 0);
  return stage.journal.waiting(0, 10);
}

test("a disconnect event says who has gone and how, and ends what was outstanding", async () => {
  const { stage, facts } = await started();
  await stage.departure.send(facts, END);
  expect(stage.upstream.calls.map(({ event }) => event)).toEqual([
    {
      name: "disconnect",
      eventId: "c7.disconnect",
      facts,
      closeCode: 4000,
      closeReason: "done",
      connectOutcomeUnknown: false,
    },
  ]);
  expect(stage.report.lost).toEqual([]);
  expect(stage.outstanding.count).toBe(0);
});

test.each([
  ["200", answer(200)],
  ["299", answer(299)],
  ["no entry for disconnects", UNROUTED],
])("%s: the journal forgets the connection", async (_what, outcome) => {
  const { stage, facts } = await started(outcome);
  await stage.departure.send(facts, END);
  await settled();
  expect(await leftBehind(stage)).toEqual([]);
  expect(stage.report.lost).toEqual([]);
});

test.each([400, 402, 413, 422, 499])("%d: is reported, and the journal forgets the connection", async (status) => {
  const { stage, facts } = await started(answer(status));
  await stage.departure.send(facts, END);
  await settled();
  expect(await leftBehind(stage)).toEqual([]);
  expect(stage.report.lost).toEqual([
    {
      kind: "undelivered",
      connectionId: "c7",
      hub: "chat",
      forwardedFor: facts.forwardedFor,
      event: "disconnect",
      eventId: "c7.disconnect",
      cause: `answered with status ${status}`,
      count: 1,
      tookMs: null,
    },
  ]);
  expect(stage.outstanding.count).toBe(0);
});

test.each([
  ["199", answer(199)],
  ["300", answer(300)],
  ["408", answer(408)],
  ["429", answer(429)],
  ["500", answer(500)],
  ["599", answer(599)],
  ["not sent", notSent()],
  ["unknown, though a 200 was seen", unknown({ status: 200 })],
  ["refused by the breaker", refused()],
  ["refused for want of a place", refused({ cause: "concurrency" })],
  ["refused since its address has its share", refused({ cause: "address-concurrency" })],
])("%s: waits in the journal with its own end, and nothing is outstanding any more", async (_what, outcome) => {
  const { stage, facts } = await started(outcome);
  await stage.departure.send(facts, END, true);
  expect(await stage.journal.read("c7")).toEqual({
    facts,
    end: END,
    connectOutcomeUnknown: true,
    dueSinceMs: STAGE_BEGINS_MS,
    triedForMs: 0,
    refusedForMs: 0,
  });
  expect(stage.redelivery.waitingCount).toBe(1);
  expect([stage.report.lost, stage.outstanding.count]).toEqual([[], 0]);
});

test("a bug in hubwire is reported, rejects no promise, and the event is tried again", async () => {
  const { stage, facts } = await started();
  stage.upstream.script = () => {
    throw new Error("a bug");
  };
  await stage.departure.send(facts, END);
  expect(stage.report.faults.map(String)).toEqual(["Error: a bug"]);
  expect(stage.outstanding.count).toBe(0);
  stage.upstream.script = () => answer(200);
  await stage.clock.advance(1100);
  expect(stage.upstream.labels).toEqual(["disconnect", "disconnect"]);
  expect(stage.redelivery.waitingCount).toBe(0);
});

test("the failure of an entry that was replaced meanwhile holds up nothing at the new one", async () => {
  const { stage, facts } = await started();
  stage.upstream.script = () => null;
  void stage.departure.send(facts, END);
  await settled();
  stage.upstream.entry = {
    label: "upstreams[1]",
    maxConcurrency: 8,
    isBreakerOpen: false,
    onMessageFailure: "close",
  };
  stage.upstream.settleFirst(answer(503, [["Retry-After", "600"]]));
  stage.upstream.script = () => answer(200);
  await stage.clock.advance(200);
  expect(stage.upstream.labels).toEqual(["disconnect", "disconnect"]);
});

test("what is under way when the process ends is kept as it is", async () => {
  const { stage, facts } = await started();
  stage.upstream.script = () => null;
  void stage.departure.send(facts, END);
  await settled();
  await stage.departure.keepUnderWay();
  expect(await stage.journal.read("c7")).toMatchObject({ end: END, dueSinceMs: STAGE_BEGINS_MS });
  stage.upstream.settleFirst(answer(200));
  await settled();
  expect(await stage.journal.read("c7")).toBeNull();
});

test.each([400, 413, 431])(
  "%i to a disconnect with a long query: it is sent once more without query and reason",
  async (status) => {
    const { stage, facts } = await started();
    const long = { ...facts, clientQuery: "q".repeat(1024) };
    stage.upstream.script = ({ facts: { clientQuery } }) => answer(clientQuery === "" ? 204 : status);
    await stage.departure.send(long, END);
    await settled();
    expect(stage.upstream.calls.map(({ event }) => event)).toMatchObject([
      { eventId: "c7.disconnect", facts: long, closeCode: 4000, closeReason: "done" },
      { eventId: "c7.disconnect", facts: { ...facts, clientQuery: "" }, closeCode: 4000, closeReason: "" },
    ]);
    expect(await leftBehind(stage)).toEqual([]);
    expect(stage.report.lost).toEqual([]);
  },
);

test("431 to a disconnect with a long path: it is sent once more without path and reason, and keeps a query that is short", async () => {
  const { stage, facts } = await started();
  const clientPath = `/ocpp/${"p".repeat(1018)}`;
  const long = { ...facts, clientQuery: "q=1", rare: { clientPath, news: 1 } };
  stage.upstream.script = ({ facts: { rare } }) => answer(rare?.clientPath === undefined ? 204 : 431);
  await stage.departure.send(long, END);
  await settled();
  const sent = stage.upstream.calls.map(({ event }) => event);
  expect(sent.map((event) => event.facts)).toEqual([long, { ...long, rare: { news: 1 } }]);
  expect(sent[1]).toMatchObject({ eventId: "c7.disconnect", closeReason: "" });
  expect(stage.report.lost).toEqual([]);
});

test("of a short path a long query is left out alone", async () => {
  const { stage, facts } = await started(answer(431));
  const long = { ...facts, clientQuery: "q".repeat(1024), rare: { clientPath: "/ocpp/CP1" } };
  await stage.departure.send(long, END);
  await settled();
  expect(stage.upstream.calls.map(({ event }) => event.facts)).toEqual([long, { ...long, clientQuery: "" }]);
});

test.each([
  ["a shorter query", 431, 1023],
  ["another refusal", 422, 1024],
])("%s: a refused disconnect is not sent again", async (_what, status, queryChars) => {
  const { stage, facts } = await started(answer(status));
  await stage.departure.send({ ...facts, clientQuery: "q".repeat(queryChars) }, END);
  await settled();
  expect(stage.upstream.calls).toHaveLength(1);
  expect(stage.report.lost).toHaveLength(1);
});
