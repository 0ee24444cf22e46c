import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { CoreStage, connectRequest, someFacts } from "../../test/support/core-stage.ts";
import { settled } from "../../test/support/fake-clock.ts";
import { answer, type LateHead, type Scripted, unknown, userHeader } from "../../test/support/scripted-upstream.ts";
import { CLOSE } from "../protocol/close-causes.ts";

/** Connect timed out, its disconnect went out, and the backend answers connect after all. Source: decision 0038. */

const ACCEPTED: LateHead = { kind: "answer", status: 200, headers: [userHeader("ann")] };
const REFUSED: LateHead = { kind: "answer", status: 403, headers: [] };
const NONE: LateHead = { kind: "none" };

let stage: CoreStage;
let late: PromiseWithResolvers<LateHead>;

beforeEach(() => {
  stage = new CoreStage();
  late = Promise.withResolvers<LateHead>();
});

afterEach(() => {
  stage.stop();
});

/** A client whose connect event times out; disconnect events are answered by the script, and held where it gives null. */
async function timeOut(disconnects: () => Scripted | null = () => answer(204)): Promise<void> {
  stage.upstream.script = ({ name }) => (name === "connect" ? unknown({ late: late.promise }) : disconnects());
  const facts = someFacts({ connectionId: "c1" });
  const admitted = await stage.admission.connect(connectRequest(facts));
  expect(admitted).toMatchObject({ kind: "refuse", refusal: { status: 504 } });
  await settled();
}

async function lateIs(outcome: LateHead): Promise<void> {
  late.resolve(outcome);
  await settled();
}

/** Each disconnect event that was posted: its id, its user, and whether it says that connect's outcome is unknown. */
function posted(): string[] {
  return stage.upstream.of("disconnect").map(({ event, userId }) => {
    const isUnknown = event.name === "disconnect" && event.connectOutcomeUnknown;
    return `${event.eventId} ${userId ?? ""}${isUnknown ? "unknown" : ""}`;
  });
}

const FIRST = "c1.disconnect unknown";
const SECOND = "c1.disconnect.2 ann";

/** What the next process would send. */
async function owed(): Promise<string[]> {
  const waiting = await stage.journal.waiting(0, 10);
  const found = await Promise.all(waiting.map(({ connectionId }) => stage.journal.read(connectionId)));
  return found.map((due) => `${due?.facts.connectionId} ${due?.nth ?? "only"} ${due?.facts.userId ?? ""}`);
}

describe("a connect event that timed out", () => {
  test("and is answered with 2xx: a second event with its own id and the late answer's user", async () => {
    await timeOut();
    expect(posted()).toEqual([FIRST]);
    await lateIs(ACCEPTED);
    expect(posted()).toEqual([FIRST, SECOND]);
    const [first, second] = stage.upstream.of("disconnect").map(({ event }) => event);
    if (first?.name !== "disconnect" || second?.name !== "disconnect") throw new Error("no disconnect event");
    expect([second.closeCode, second.closeReason]).toEqual([first.closeCode, first.closeReason]);
    expect([await owed(), stage.outstanding.count]).toEqual([[], 0]);
    expect(stage.report.lines).toEqual(["accepted late c1"]);
  });

  test("and is answered with a user in Latin-1: the second event has the same bytes", async () => {
    await timeOut();
    await lateIs({ kind: "answer", status: 200, headers: [userHeader("j\xf6rg")] });
    expect(stage.upstream.calls.at(-1)?.event.facts).toMatchObject({
      userId: "jörg",
      rare: { userIdCoding: "latin1" },
    });
  });

  test.each([
    ["refused", REFUSED],
    ["never answered", NONE],
  ])("and is %s: one event, and the journal forgets it", async (_what, outcome) => {
    await timeOut();
    expect(stage.outstanding.count).toBe(1);
    await lateIs(outcome);
    expect([posted(), await owed(), stage.outstanding.count]).toEqual([[FIRST], [], 0]);
    stage.redelivery.start();
    await stage.clock.advance(60_000);
    expect(posted()).toEqual([FIRST]);
  });

  test("keeps its journal entry while the answer may come: the next process sends the second event", async () => {
    await timeOut();
    expect(await owed()).toEqual(["c1 second "]);
    // This one does not: the answer has not come.
    stage.redelivery.start();
    await stage.clock.advance(60_000);
    expect(posted()).toEqual([FIRST]);
    await lateIs({ kind: "stopped" });
    expect(await owed()).toEqual(["c1 second "]);
    expect(stage.outstanding.count).toBe(0);
  });

  test("is answered with 2xx while the first event is under way: the second waits for its end", async () => {
    await timeOut(() => null);
    await lateIs(ACCEPTED);
    expect([posted(), await owed()]).toEqual([[FIRST], ["c1 first ann"]]);
    stage.redelivery.start();
    await stage.clock.advance(10_000);
    expect(posted()).toEqual([FIRST]);
    stage.upstream.settleFirst(answer(204));
    await settled();
    expect(posted()).toEqual([FIRST, SECOND]);
    stage.upstream.settleFirst(answer(204));
    await settled();
    expect([await owed(), stage.outstanding.count, stage.upstream.overlaps]).toEqual([[], 0, []]);
  });

  test("is answered with 2xx and its first try fails then: the first goes on, and then the second", async () => {
    await timeOut(() => null);
    await lateIs(ACCEPTED);
    stage.upstream.script = () => answer(204);
    stage.upstream.settleFirst(answer(503));
    await stage.clock.advance(2000);
    expect(posted()).toEqual([FIRST, "c1.disconnect ann", SECOND]);
    expect([await owed(), stage.redelivery.waitingCount, stage.outstanding.count]).toEqual([[], 0, 0]);
  });

  test("whose first event waits: the second follows it, however long that takes", async () => {
    await timeOut(() => answer(503));
    await lateIs(ACCEPTED);
    expect([await owed(), stage.outstanding.count]).toEqual([["c1 first ann"], 0]);
    await stage.clock.advance(60_000);
    expect(new Set(posted())).toEqual(new Set([FIRST, "c1.disconnect ann"]));
    const before = posted().length;
    stage.upstream.script = () => answer(204);
    await stage.clock.advance(40_000);
    expect(posted().slice(before)).toEqual(["c1.disconnect ann", SECOND]);
    expect(await owed()).toEqual([]);
  });

  test("whose first event is just tried again when the 2xx comes: the second follows, with the user", async () => {
    await timeOut(() => answer(503));
    stage.upstream.script = () => null;
    await stage.clock.advance(1000);
    await lateIs(ACCEPTED);
    stage.upstream.script = () => answer(204);
    stage.upstream.settleFirst(answer(204));
    await stage.clock.advance(1000);
    expect(posted()).toEqual([FIRST, FIRST, SECOND]);
    expect([await owed(), stage.redelivery.waitingCount]).toEqual([[], 0]);
  });

  test("whose first event waited and ended before the answer: the journal keeps the entry until it comes", async () => {
    await timeOut(() => answer(503));
    stage.upstream.script = () => answer(204);
    await stage.clock.advance(1000);
    expect([posted(), await owed()]).toEqual([[FIRST, FIRST], ["c1 second "]]);
    await lateIs(ACCEPTED);
    expect([posted(), await owed()]).toEqual([[FIRST, FIRST, SECOND], []]);
  });

  test("whose first event fails while the journal is being read is tried again before its answer comes", async () => {
    const waiting = stage.journal.waiting.bind(stage.journal);
    const gate = Promise.withResolvers<void>();
    stage.journal.waiting = async (after, limit) => {
      await gate.promise;
      return await waiting(after, limit);
    };
    stage.redelivery.start();
    await timeOut(() => answer(503));
    gate.resolve();
    stage.upstream.script = () => answer(204);
    await stage.clock.advance(1000);
    expect(posted()).toEqual([FIRST, FIRST]);
  });

  test("whose first event waits, and is not accepted: it goes on alone", async () => {
    await timeOut(() => answer(503));
    await lateIs(REFUSED);
    stage.upstream.script = () => answer(204);
    await stage.clock.advance(1000);
    expect([posted(), await owed()]).toEqual([[FIRST, FIRST], []]);
  });

  test("whose first event is unwanted (400) is followed by the second all the same", async () => {
    await timeOut(() => answer(400));
    await lateIs(ACCEPTED);
    expect(posted()).toEqual([FIRST, SECOND]);
    expect(stage.report.lost.map(({ eventId }) => eventId)).toEqual(["c1.connect", "c1.disconnect", "c1.disconnect.2"]);
    expect(await owed()).toEqual([]);
  });

  test("whose first event is a dead letter: a 2xx sends the second in its place, and nothing else removes it", async () => {
    stage.options.retryForSeconds = 0;
    await timeOut(() => answer(503));
    expect(await stage.redelivery.list(0, 9)).toHaveLength(1);
    stage.upstream.script = () => answer(204);
    await lateIs(ACCEPTED);
    expect([posted(), await stage.redelivery.list(0, 9)]).toEqual([[FIRST, SECOND], []]);
  });

  test("and whose dead letter nobody accepted late stays one", async () => {
    stage.options.retryForSeconds = 0;
    await timeOut(() => answer(503));
    await lateIs(NONE);
    expect(await stage.redelivery.list(0, 9)).toHaveLength(1);
  });

  test("whose second event fails: it waits, and a restart sends it with its own id", async () => {
    await timeOut();
    stage.upstream.script = () => answer(503);
    await lateIs(ACCEPTED);
    expect([await owed(), stage.outstanding.count]).toEqual([["c1 second ann"], 0]);
    stage.upstream.script = () => answer(204);
    await stage.clock.advance(1000);
    expect(posted()).toEqual([FIRST, SECOND, SECOND]);
    expect(await owed()).toEqual([]);
  });

  test("whose second event dies is a dead letter, and a retry sends that one", async () => {
    stage.options.retryForSeconds = 0;
    await timeOut();
    stage.upstream.script = () => answer(503);
    await lateIs(ACCEPTED);
    expect(stage.report.dead.map(({ eventId }) => eventId)).toEqual(["c1.disconnect.2"]);
    stage.upstream.script = () => answer(204);
    await stage.redelivery.retry(null);
    await stage.clock.advance(1000);
    expect(posted()).toEqual([FIRST, SECOND, SECOND]);
  });
});

test("after a restart in between, the first that is followed is sent, and then the second", async () => {
  const facts = someFacts({ connectionId: "c1", userId: "ann" });
  const ages = { triedForMs: 0, refusedForMs: 0, dueSinceMs: 0 };
  const end = CLOSE.handshakeFailed;
  await stage.journal.due({ facts, end, connectOutcomeUnknown: false, nth: "first", ...ages });
  stage.redelivery.start();
  await stage.clock.advance(1000);
  expect(posted()).toEqual(["c1.disconnect ann", SECOND]);
  expect(await owed()).toEqual([]);
});

test("a shutdown waits for the answer, and keeps what is owed where it does not come in time", async () => {
  await timeOut();
  const state = stage.drain({ drainTimeoutMs: 5000 });
  await stage.clock.advance(4000);
  expect(state.left).toBeNull();
  await stage.clock.advance(2000);
  expect(state.left).toBe(1);
  expect(await owed()).toEqual(["c1 second "]);
});

test("a late answer that meets a bug is reported; nothing is outstanding any more, and the second event is still owed", async () => {
  await timeOut();
  late.reject(new Error("a bug in the dialect"));
  await settled();
  expect(stage.report.faults.map(String)).toEqual(["Error: a bug in the dialect"]);
  expect(stage.outstanding.count).toBe(0);
  expect(await owed()).toEqual(["c1 second "]);
});
