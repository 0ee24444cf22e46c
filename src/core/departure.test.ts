import { expect, test } from "bun:test";
import { CoreStage, someFacts } from "../../test/support/core-stage.ts";
import { answer, notSent, refused, UNROUTED, unknown } from "../../test/support/scripted-upstream.ts";

const END = { code: 4000, reason: "done" };

test("a disconnect event says who has gone and how, and ends what was outstanding", async () => {
  const stage = new CoreStage();
  stage.outstanding.begin();
  await stage.departure.send(someFacts({ connectionId: "c7", userId: "zoë" }), END);
  expect(stage.upstream.calls.map(({ event }) => event)).toEqual([
    {
      name: "disconnect",
      eventId: "c7.disconnect",
      facts: someFacts({ connectionId: "c7", userId: "zoë" }),
      closeCode: 4000,
      closeReason: "done",
      connectOutcomeUnknown: false,
    },
  ]);
  expect(stage.report.lost).toEqual([]);
  expect(stage.outstanding.count).toBe(0);
});

test.each([
  ["200", answer(200), 0],
  ["299", answer(299), 0],
  ["no entry for disconnects", UNROUTED, 0],
  ["199", answer(199), 1],
  ["300", answer(300), 1],
  ["404", answer(404), 1],
  ["500", answer(500), 1],
  ["not sent", notSent(), 1],
  ["unknown", unknown({ status: 200 }), 1],
  ["refused", refused(), 1],
])("%s: %#", async (_what, outcome, lines) => {
  const stage = new CoreStage();
  stage.upstream.script = () => outcome;
  stage.outstanding.begin();
  await stage.departure.send(someFacts({ connectionId: "c7" }), END);
  expect(stage.report.lost).toHaveLength(lines);
  if (lines === 1) {
    expect(stage.report.lost[0]).toMatchObject({
      event: "disconnect",
      eventId: "c7.disconnect",
      connectionId: "c7",
      count: 1,
    });
    expect(stage.report.lost[0]?.cause).not.toBe("");
  }
  expect(stage.outstanding.count).toBe(0);
});

test("a fault of ours is reported and rejects nobody's promise", async () => {
  const stage = new CoreStage();
  stage.upstream.script = () => {
    throw new Error("a bug");
  };
  stage.outstanding.begin();
  await stage.departure.send(someFacts(), END);
  expect(stage.report.faults.map(String)).toEqual(["Error: a bug"]);
  expect(stage.outstanding.count).toBe(0);
});
