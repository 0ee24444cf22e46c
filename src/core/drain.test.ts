import { describe, expect, test } from "bun:test";
import { CoreStage, connectRequest, someFacts } from "../../test/support/core-stage.ts";
import { settled } from "../../test/support/fake-clock.ts";
import { answer, userHeader } from "../../test/support/scripted-upstream.ts";

function heldStage(...names: readonly string[]): CoreStage {
  const stage = new CoreStage({ inboxDrainTimeoutMs: 60_000 });
  stage.upstream.script = ({ name }) => (names.includes(name) ? null : answer(204));
  return stage;
}

describe("drain", () => {
  test("with nobody there is over at once", async () => {
    const state = new CoreStage().drain();
    await settled();
    expect(state.left).toBe(0);
  });

  test("closes everybody with 1012, sends every disconnect, and leaves no timer of its own", async () => {
    const stage = new CoreStage();
    const clients = [stage.open(), stage.open(), stage.open()];
    const timers = stage.clock.timerCount;
    const state = stage.drain();
    await settled();
    expect(state.left).toBe(0);
    expect(clients.map(({ socket }) => socket.done)).toEqual(Array(3).fill(["close 1012 shutting down"]));
    expect(stage.upstream.of("disconnect").map(({ event }) => event)).toMatchObject(
      Array(3).fill({ closeCode: 1012, closeReason: "shutting down" }),
    );
    expect(stage.admission.reserve("a")?.code).toBe("shutting_down");
    expect(stage.clock.timerCount).toBe(timers);
  });

  test("waits for the answer in flight, which reaches the client before its 1012", async () => {
    const stage = heldStage("message");
    const { send, socket } = stage.open();
    await send("a");
    const state = stage.drain();
    await stage.clock.advance(9000);
    expect([socket.done, state.left]).toEqual([[], null]);
    stage.upstream.settleFirst(answer(200, [], "re"));
    await settled();
    expect(socket.sent).toEqual(["re"]);
    expect(socket.done).toEqual(["close 1012 shutting down"]);
    expect([stage.upstream.labels, state.left]).toEqual([["a", "disconnect"], 0]);
  });

  test("posts what waits behind it before the disconnect", async () => {
    const stage = heldStage("message");
    const { send } = stage.open();
    await send("a", "b", "c");
    const state = stage.drain();
    while (stage.upstream.held.length > 0) {
      await stage.clock.advance(2000);
      stage.upstream.settleFirst(answer(200));
      await settled();
    }
    expect([stage.upstream.labels, state.left]).toEqual([["a", "b", "c", "disconnect"], 0]);
  });

  test("gives messages up at two thirds of the deadline, not before, so that the disconnects have the rest", async () => {
    const stage = heldStage("message");
    const { send, socket } = stage.open();
    await send("a", "b");
    const state = stage.drain();
    await stage.clock.advance(9999);
    expect(stage.upstream.abandonedTimes).toBe(0);
    await stage.clock.advance(1);
    await settled();
    expect(stage.upstream.abandonedTimes).toBe(1);
    expect(stage.upstream.labels).toEqual(["a", "disconnect"]);
    expect(socket.done).toEqual(["close 1012 shutting down"]);
    expect(stage.upstream.of("disconnect")[0]?.event).toMatchObject({ closeCode: 1012, closeReason: "shutting down" });
    expect(stage.report.lost.map(({ count }) => count)).toEqual([1, 1]);
    expect(state.left).toBe(0);
  });

  test("ends at the deadline and tells how many disconnects were not done with", async () => {
    const stage = heldStage("disconnect");
    stage.open();
    stage.open();
    const state = stage.drain();
    await stage.clock.advance(14_999);
    expect(state.left).toBeNull();
    await stage.clock.advance(1);
    expect(state.left).toBe(2);
  });

  test("waits for a connect that is being asked, and for the disconnect that its 2xx calls for", async () => {
    const stage = heldStage("connect");
    const asked = stage.admission.connect(connectRequest(someFacts()));
    await settled();
    const state = stage.drain();
    await stage.clock.advance(5000);
    expect(state.left).toBeNull();
    stage.upstream.settleFirst(answer(200, [userHeader("bob")]));
    expect((await asked).kind).toBe("refuse");
    await settled();
    expect([stage.upstream.labels, state.left]).toEqual([["connect", "disconnect"], 0]);
  });

  test("closes nobody and lets clients in until the delay is over", async () => {
    const stage = new CoreStage();
    const early = stage.open();
    const state = stage.drain({ delayMs: 3000 });
    await stage.clock.advance(2999);
    expect(stage.admission.reserve("a")).toBeNull();
    stage.admission.release("a");
    expect([state.accepting, early.socket.done]).toEqual([true, []]);
    const late = stage.open();
    await stage.clock.advance(1);
    expect(state).toEqual({ accepting: false, left: 0 });
    for (const { socket } of [early, late]) expect(socket.done).toEqual(["close 1012 shutting down"]);
  });

  test("closes evenly over the spread: the first at once, the last in its last step", async () => {
    const stage = new CoreStage();
    const clients = Array.from({ length: 100 }, () => stage.open());
    const closed = () => clients.filter(({ socket }) => socket.done.length > 0).length;
    const state = stage.drain({ spreadMs: 5000 });
    await settled();
    expect(closed()).toBe(1);
    await stage.clock.advance(2450);
    expect(closed()).toBe(50);
    await stage.clock.advance(2449);
    expect([closed(), state.left]).toEqual([98, null]);
    await stage.clock.advance(51);
    expect([closed(), state.left]).toEqual([100, 0]);
  });

  test("closes those who were let in just before it and open after it began", async () => {
    const stage = new CoreStage();
    const state = stage.drain();
    const late = stage.open();
    await settled();
    expect(late.socket.done).toEqual(["close 1012 shutting down"]);
    expect(state.left).toBe(0);
  });

  test("does not wait for a spread with nobody in it", async () => {
    const state = new CoreStage().drain({ spreadMs: 5000 });
    await settled();
    expect(state.left).toBe(0);
  });

  test("keeps delay, spread and rest within the deadline, however long they are said to be", async () => {
    const stage = heldStage("disconnect");
    for (let count = 0; count < 4; count++) stage.open();
    const state = stage.drain({ delayMs: 10_000, spreadMs: 10_000, drainTimeoutMs: 15_000 });
    await stage.clock.advance(14_999);
    expect(state.left).toBeNull();
    await stage.clock.advance(51);
    expect(state.left).toBe(4);
  });

  test("leaves to the journal what is undelivered at the deadline, with its own end", async () => {
    const stage = heldStage("disconnect");
    const { connection } = stage.open();
    await stage.journal.connecting(connection);
    const state = stage.drain();
    await stage.clock.advance(15_000);
    expect(state.left).toBe(1);
    expect(await stage.journal.read(connection.connectionId)).toMatchObject({
      end: { code: 1012, reason: "shutting down" },
      connectOutcomeUnknown: false,
    });
  });

  test("ends although the journal does not", async () => {
    const stage = heldStage("disconnect");
    stage.open();
    stage.journal.due = () => new Promise(() => {});
    const state = stage.drain({ drainTimeoutMs: 1000 });
    await stage.clock.advance(2100);
    expect(state.left).toBe(1);
  });

  test("a deadline of 0 waits for nothing", async () => {
    const stage = heldStage("disconnect");
    stage.open();
    const state = stage.drain({ drainTimeoutMs: 0 });
    await stage.clock.advance(0);
    await stage.clock.advance(0);
    expect(state.left).toBe(1);
  });
});
