import { describe, expect, test } from "bun:test";
import { CoreStage } from "../../test/support/core-stage.ts";
import { settled } from "../../test/support/fake-clock.ts";
import { answer, unknown } from "../../test/support/scripted-upstream.ts";

/** What happens to the messages of a connection that has closed. Source: PROTOCOL.md, "Message". */

function heldStage(options: ConstructorParameters<typeof CoreStage>[0] = {}): CoreStage {
  const stage = new CoreStage(options);
  stage.upstream.script = ({ name }) => (name === "message" ? null : answer(204));
  return stage;
}

describe("after the connection has closed", () => {
  test("its queued messages are posted in order, their answers dropped, and the disconnect comes last and once", async () => {
    const stage = heldStage();
    const { send, leave, socket } = stage.open();
    await send("a", "b", "c");
    await leave({ code: 4001, reason: "bye" });
    for (const sofar of [["a"], ["a", "b"], ["a", "b", "c"]]) {
      expect(stage.upstream.labels).toEqual(sofar);
      stage.upstream.settleFirst(answer(500, [], "re"));
      await settled();
    }
    expect(stage.upstream.labels).toEqual(["a", "b", "c", "disconnect"]);
    expect(stage.upstream.of("disconnect")[0]?.event).toMatchObject({ closeCode: 4001, closeReason: "bye" });
    expect(socket.sent).toEqual([]);
    expect(stage.report.lost).toEqual([]);
    expect(stage.outstanding.count).toBe(0);
    await stage.clock.advance(600_000);
    expect(stage.upstream.labels).toHaveLength(4);
  });

  test("the first that gets no answer ends it, with either policy; the rest is one line with its count", async () => {
    for (const policy of ["close", "ignore"] as const) {
      const stage = heldStage();
      const { send, leave } = stage.open();
      await send("a", "b", "c", "d", "e");
      await leave();
      stage.upstream.settleFirst(answer(200));
      await settled();
      if (stage.upstream.entry !== null) stage.upstream.entry.onMessageFailure = policy;
      stage.upstream.settleFirst(unknown());
      await settled();
      expect(stage.upstream.labels).toEqual(["a", "b", "disconnect"]);
      expect(stage.report.lost.map(({ eventId, count }) => [eventId, count])).toEqual([
        ["c1.2", 1],
        ["c1.3", 3],
      ]);
    }
  });

  test("nothing more is posted once inboxDrainTimeoutMs has passed; what is left is counted", async () => {
    const stage = heldStage({ inboxDrainTimeoutMs: 10_000 });
    const { send, leave } = stage.open();
    await send("a", "b", "c", "d");
    await leave();
    await stage.clock.advance(9999);
    stage.upstream.settleFirst(answer(200));
    await settled();
    expect(stage.upstream.labels).toEqual(["a", "b"]);
    await stage.clock.advance(1);
    stage.upstream.settleFirst(answer(200));
    await settled();
    expect(stage.upstream.labels).toEqual(["a", "b", "disconnect"]);
    expect(stage.report.lost).toMatchObject([{ eventId: "c1.3", count: 2 }]);
  });

  test("a paused connection is no longer watched for progress", async () => {
    const stage = heldStage({ maxInboxMessages: 1, inboxPauseTimeoutMs: 4000, inboxDrainTimeoutMs: 60_000 });
    const { send, leave, connection } = stage.open();
    await send("a", "b");
    await leave({ code: 1006, reason: "" });
    await stage.clock.advance(30_000);
    stage.upstream.settleFirst(answer(200));
    await settled();
    stage.upstream.settleFirst(answer(200));
    await settled();
    expect(stage.upstream.labels).toEqual(["a", "b", "disconnect"]);
    expect(connection.end).toMatchObject({ code: 1006, reason: "" });
  });
});

describe("giving up the messages", () => {
  test("ends what is in flight, discards what waits, and the disconnects go out", async () => {
    const stage = heldStage();
    const { send, leave } = stage.open();
    await send("a", "b", "c");
    await leave();
    stage.lifecycle.abandonMessages();
    await settled();
    expect(stage.upstream.abandonedTimes).toBe(1);
    expect(stage.upstream.labels).toEqual(["a", "disconnect"]);
    expect(stage.report.lost.map(({ count }) => count)).toEqual([1, 2]);
    expect(stage.outstanding.count).toBe(0);
  });

  test("keeps a closed connection's next message from being posted, even after an answer", async () => {
    const stage = heldStage();
    const { send, leave } = stage.open();
    await send("a", "b");
    await leave();
    const [first] = stage.upstream.held;
    first?.settle(answer(200));
    stage.lifecycle.abandonMessages();
    await settled();
    expect(stage.upstream.labels).toEqual(["a", "disconnect"]);
  });
});
