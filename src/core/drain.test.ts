import { describe, expect, test } from "bun:test";
import { CoreStage, someFacts } from "../../test/support/core-stage.ts";
import { settled } from "../../test/support/fake-clock.ts";
import { answer } from "../../test/support/scripted-upstream.ts";
import { drain } from "./drain.ts";

/** Starts a drain and tells whether it is over. */
function draining(stage: CoreStage, drainTimeoutMs = 15_000) {
  const state: { left: number | null } = { left: null };
  const { admission, lifecycle, outstanding, clock } = stage;
  void drain({ admission, lifecycle, outstanding, clock, drainTimeoutMs }).then((left) => {
    state.left = left;
  });
  return state;
}

function heldStage(...names: readonly string[]): CoreStage {
  const stage = new CoreStage({ inboxDrainTimeoutMs: 60_000 });
  stage.upstream.script = ({ name }) => (names.includes(name) ? null : answer(204));
  return stage;
}

describe("drain", () => {
  test("with nobody there is over at once", async () => {
    const state = draining(new CoreStage());
    await settled();
    expect(state.left).toBe(0);
  });

  test("closes everybody with 1001, sends every disconnect, and leaves no timer of its own", async () => {
    const stage = new CoreStage();
    const clients = [stage.open(), stage.open(), stage.open()];
    const timers = stage.clock.timerCount;
    const state = draining(stage);
    await settled();
    expect(state.left).toBe(0);
    expect(clients.map(({ socket }) => socket.done)).toEqual(Array(3).fill(["close 1001 shutting down"]));
    expect(stage.upstream.of("disconnect").map(({ event }) => event)).toMatchObject(
      Array(3).fill({ closeCode: 1001, closeReason: "shutting down" }),
    );
    expect(stage.admission.reserve("a")?.code).toBe("shutting_down");
    expect(stage.clock.timerCount).toBe(timers);
  });

  test("waits for the answer in flight, which reaches the client before its 1001", async () => {
    const stage = heldStage("message");
    const { send, socket } = stage.open();
    await send("a");
    const state = draining(stage);
    await stage.clock.advance(9000);
    expect([socket.done, state.left]).toEqual([[], null]);
    stage.upstream.settleFirst(answer(200, [], "re"));
    await settled();
    expect(socket.sent).toEqual(["re"]);
    expect(socket.done).toEqual(["close 1001 shutting down"]);
    expect([stage.upstream.labels, state.left]).toEqual([["a", "disconnect"], 0]);
  });

  test("posts what waits behind it before the disconnect", async () => {
    const stage = heldStage("message");
    const { send } = stage.open();
    await send("a", "b", "c");
    const state = draining(stage);
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
    const state = draining(stage, 15_000);
    await stage.clock.advance(9999);
    expect(stage.upstream.abandonedTimes).toBe(0);
    await stage.clock.advance(1);
    await settled();
    expect(stage.upstream.abandonedTimes).toBe(1);
    expect(stage.upstream.labels).toEqual(["a", "disconnect"]);
    expect(socket.done).toEqual(["close 1001 shutting down"]);
    expect(stage.upstream.of("disconnect")[0]?.event).toMatchObject({ closeCode: 1001, closeReason: "shutting down" });
    expect(stage.report.lost.map(({ count }) => count)).toEqual([1, 1]);
    expect(state.left).toBe(0);
  });

  test("ends at the deadline and tells how many disconnects were not done with", async () => {
    const stage = heldStage("disconnect");
    stage.open();
    stage.open();
    const state = draining(stage, 15_000);
    await stage.clock.advance(14_999);
    expect(state.left).toBeNull();
    await stage.clock.advance(1);
    expect(state.left).toBe(2);
  });

  test("waits for a connect that is being asked, and for the disconnect that its 2xx calls for", async () => {
    const stage = heldStage("connect");
    const asked = stage.admission.connect({ facts: someFacts(), subprotocols: null, certThumbprint: null });
    const state = draining(stage);
    await stage.clock.advance(5000);
    expect(state.left).toBeNull();
    stage.upstream.settleFirst(answer(200, [["X-ASRS-User-Id", "bob"]]));
    expect((await asked).kind).toBe("refuse");
    await settled();
    expect([stage.upstream.labels, state.left]).toEqual([["connect", "disconnect"], 0]);
  });

  test("a deadline of 0 waits for nothing", async () => {
    const stage = heldStage("disconnect");
    stage.open();
    const state = draining(stage, 0);
    await stage.clock.advance(0);
    await stage.clock.advance(0);
    expect(state.left).toBe(1);
  });
});
