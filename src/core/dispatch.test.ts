import { describe, expect, test } from "bun:test";
import { CoreStage } from "../../test/support/core-stage.ts";
import { settled } from "../../test/support/fake-clock.ts";
import { answer, notSent, refused, UNROUTED, unknown } from "../../test/support/scripted-upstream.ts";

/** Messages are held until the test answers them; the rest is answered at once. */
function heldStage(options: ConstructorParameters<typeof CoreStage>[0] = {}): CoreStage {
  const stage = new CoreStage(options);
  stage.upstream.script = ({ name }) => (name === "message" ? null : answer(204));
  return stage;
}

const count = (n: number, from = 1) => Array.from({ length: n }, (_unused, i) => `m${from + i}`);

describe("messages of one connection", () => {
  test("are posted one after the other, in order, each with an id of its own", async () => {
    const stage = heldStage();
    const { send } = stage.open();
    await send("a", "b", "c");
    expect(stage.upstream.labels).toEqual(["a"]);
    for (const rest of [
      ["a", "b"],
      ["a", "b", "c"],
    ]) {
      stage.upstream.settleFirst(answer(200));
      await settled();
      expect(stage.upstream.labels).toEqual(rest);
    }
    stage.upstream.settleFirst(answer(200));
    await settled();
    await send("d");
    expect(stage.upstream.calls.map(({ event }) => event.eventId)).toEqual(["c1.1", "c1.2", "c1.3", "c1.4"]);
    expect(stage.upstream.overlaps).toEqual([]);
  });

  test("carry bytes, type and the facts of the connection", async () => {
    const stage = heldStage();
    const { connection } = stage.open({ userId: "zoë" });
    const payload = Uint8Array.from([0, 255]);
    stage.lifecycle.received(connection, payload, payload);
    expect(stage.upstream.calls[0]?.event).toMatchObject({
      name: "message",
      payloadType: "binary",
      payload,
      facts: { userId: "zoë" },
    });
  });

  test("do not wait for those of another", async () => {
    const stage = heldStage();
    const [one, two] = [stage.open(), stage.open()];
    await one.send("a");
    await two.send("b");
    expect(stage.upstream.labels).toEqual(["a", "b"]);
  });

  test.each([200, 204, 302, 400, 404, 500, 503])(
    "an answer of status %d is delivered and the next one goes",
    async (status) => {
      const stage = new CoreStage();
      stage.upstream.script = () => answer(status, [], "re");
      const { send, socket } = stage.open();
      await send("a", "b");
      expect(socket.sent).toEqual(["re", "re"]);
      expect(stage.report.lost).toEqual([]);
    },
  );

  test("an empty answer sends nothing; octets go out as bytes", async () => {
    const stage = new CoreStage();
    const type = ["Content-Type", "application/octet-stream"] as const;
    stage.upstream.script = (event) => answer(200, [type], event.eventId === "c1.1" ? "" : Uint8Array.of(1, 2));
    const { send, socket } = stage.open();
    await send("a", "b");
    expect(socket.sent).toEqual([Uint8Array.of(1, 2)]);
  });

  test("an answer that the client does not make room for cuts it as a slow consumer", async () => {
    const stage = heldStage();
    const { send, socket } = stage.open();
    await send("a");
    socket.full = true;
    stage.upstream.settleFirst(answer(200, [], "re"));
    await settled();
    expect(socket.done).toEqual(["terminate"]);
    expect(stage.upstream.of("disconnect")[0]?.event).toMatchObject({ closeCode: 1013, closeReason: "slow consumer" });
  });
});

describe("reading from the client", () => {
  test("pauses at the bound in messages and goes on at half", async () => {
    const stage = heldStage({ maxInboxMessages: 4 });
    const { send, socket } = stage.open();
    await send(...count(4));
    expect(socket.done).toEqual([]);
    await send("m5");
    expect(socket.done).toEqual(["pause"]);
    stage.upstream.settleFirst(answer(200));
    await settled();
    expect(socket.done).toEqual(["pause"]);
    stage.upstream.settleFirst(answer(200));
    await settled();
    expect(socket.done).toEqual(["pause", "resume"]);
  });

  test("pauses at the bound in bytes and goes on at half", async () => {
    const stage = heldStage({ maxInboxMessages: 100, maxInboxBytes: 100 });
    const { send, socket } = stage.open();
    await send("first", "x".repeat(49), "y".repeat(50));
    expect(socket.done).toEqual([]);
    await send("z");
    expect(socket.done).toEqual(["pause"]);
    stage.upstream.settleFirst(answer(200));
    await settled();
    expect(socket.done).toEqual(["pause"]);
    stage.upstream.settleFirst(answer(200));
    await settled();
    expect(socket.done).toEqual(["pause", "resume"]);
  });

  test("a bound of one message works like any other", async () => {
    const stage = heldStage({ maxInboxMessages: 1, maxInboxBytes: 1 });
    const { send, socket } = stage.open();
    await send("a", "b");
    expect(socket.done).toEqual(["pause"]);
    stage.upstream.settleFirst(answer(200));
    await settled();
    expect(socket.done).toEqual(["pause", "resume"]);
    stage.upstream.settleFirst(answer(200));
    await settled();
    await send("c");
    expect(stage.upstream.labels).toEqual(["a", "b", "c"]);
  });

  test("ten times the bound, arriving in bursts past every pause, loses and reorders nothing", async () => {
    const stage = heldStage({ maxInboxMessages: 8 });
    const { send, socket } = stage.open();
    const all = count(80);
    let sent = 0;
    while (stage.upstream.calls.length < all.length || stage.upstream.held.length > 0) {
      const isPaused = socket.done.findLast((what) => what === "pause" || what === "resume") === "pause";
      if (!isPaused && sent < all.length) {
        await send(...all.slice(sent, sent + 15));
        sent += 15;
      } else {
        stage.upstream.settleFirst(answer(200));
        await settled();
      }
    }
    expect(stage.upstream.labels).toEqual(all);
    expect(socket.done.filter((what) => what !== "pause" && what !== "resume")).toEqual([]);
    expect(socket.done.at(-1)).toBe("resume");
    expect(stage.upstream.overlaps).toEqual([]);
  });

  test("paused for inboxPauseTimeoutMs without progress ends the connection with 1013, not sooner", async () => {
    const stage = heldStage({ maxInboxMessages: 1, inboxPauseTimeoutMs: 30_000, pingAfterMs: 600_000 });
    const { send, socket } = stage.open();
    await send("a", "b");
    await stage.clock.advance(29_000);
    expect(socket.done).toEqual(["pause"]);
    await stage.clock.advance(2000);
    expect(socket.done).toEqual(["pause", "close 1013 inbox full"]);
    stage.upstream.settleFirst(answer(200));
    await settled();
    stage.upstream.settleFirst(answer(200));
    await settled();
    expect(stage.upstream.labels).toEqual(["a", "b", "disconnect"]);
    expect(stage.upstream.of("disconnect")[0]?.event).toMatchObject({ closeCode: 1013, closeReason: "inbox full" });
  });

  test("paused for much longer with progress ends nothing", async () => {
    const stage = heldStage({ maxInboxMessages: 20, inboxPauseTimeoutMs: 30_000 });
    const { send, socket } = stage.open();
    await send(...count(21));
    for (let i = 0; i < 9; i++) {
      await stage.clock.advance(29_000);
      stage.upstream.settleFirst(answer(200));
      await settled();
    }
    expect(socket.done).toEqual(["pause"]);
  });

  test("a pause that ended starts no deadline", async () => {
    const stage = heldStage({ maxInboxMessages: 2, inboxPauseTimeoutMs: 30_000, pingAfterMs: 600_000 });
    const { send, socket } = stage.open();
    await send("a", "b", "c");
    stage.upstream.settleFirst(answer(200));
    await settled();
    expect(socket.done).toEqual(["pause", "resume"]);
    await stage.clock.advance(120_000);
    expect(socket.done).toEqual(["pause", "resume"]);
  });
});

describe("a message that brings no answer", () => {
  test("since its client's address has its share of the places, closes with a reason that names the limit", async () => {
    const stage = new CoreStage();
    const outcome = refused({ cause: "address-concurrency" });
    stage.upstream.script = ({ name }) => (name === "message" ? outcome : answer(204));
    const { send, socket } = stage.open();
    await send("a");
    expect(socket.done).toEqual(["close 1011 maxConcurrencyPerAddress"]);
    expect(stage.report.lost).toMatchObject([
      { event: "message", cause: expect.stringContaining("maxConcurrencyPerAddress") },
    ]);
  });

  test.each([
    ["not sent", notSent()],
    ["unknown", unknown({ status: 200 })],
    ["refused", refused()],
  ])("is not repeated here where it is %s, and closes the connection", async (_what, outcome) => {
    const stage = new CoreStage();
    stage.upstream.script = ({ name }) => (name === "message" ? outcome : answer(204));
    const { send, socket } = stage.open();
    await send("a");
    await stage.clock.advance(5000);
    expect(stage.upstream.labels).toEqual(["a", "disconnect"]);
    expect(socket.done).toEqual(["close 1011 upstream unavailable"]);
    expect(stage.report.lost).toMatchObject([
      { connectionId: "c1", hub: "chat", event: "message", eventId: "c1.1", count: 1 },
    ]);
  });

  test("is passed over where the entry says ignore", async () => {
    const stage = new CoreStage();
    stage.upstream.script = ({ eventId }) => (eventId === "c1.1" ? unknown() : answer(200, [], "re"));
    if (stage.upstream.entry !== null) stage.upstream.entry.onMessageFailure = "ignore";
    const { send, socket } = stage.open();
    await send("a", "b");
    expect([stage.upstream.labels, socket.sent, socket.done]).toEqual([["a", "b"], ["re"], []]);
    expect(stage.report.lost).toMatchObject([{ eventId: "c1.1", count: 1 }]);
  });

  test("closes the connection where no entry matches", async () => {
    const stage = new CoreStage();
    stage.upstream.script = ({ name }) => (name === "message" ? UNROUTED : answer(204));
    const { send, socket } = stage.open();
    await send("a");
    expect(socket.done).toEqual(["close 1011 no upstream for messages"]);
  });

  test("does not keep those behind it from being discarded with their count in one line", async () => {
    const stage = heldStage();
    const { send } = stage.open();
    await send("a", "b", "c", "d");
    stage.upstream.settleFirst(unknown());
    await settled();
    expect(stage.upstream.labels).toEqual(["a", "disconnect"]);
    expect(stage.report.lost.map(({ eventId, count: lost }) => [eventId, lost])).toEqual([
      ["c1.1", 1],
      ["c1.2", 3],
    ]);
  });
});

test("a bug in a call closes that connection with 1011 and is reported; others go on", async () => {
  const stage = new CoreStage();
  stage.upstream.script = ({ facts }) => {
    if (facts.connectionId === "c1") throw new Error("a bug");
    return answer(200, [], "re");
  };
  const [one, two] = [stage.open(), stage.open()];
  await one.send("a");
  await two.send("b");
  expect(one.socket.done).toEqual(["close 1011 internal error"]);
  expect(stage.report.faults.map(String)).toContain("Error: a bug");
  expect(two.socket.sent).toEqual(["re"]);
  await two.leave();
  expect(stage.outstanding.count).toBe(0);
});

test("a close that waits behind a backlog changes nothing of what is posted: the first without an answer ends it", async () => {
  const stage = new CoreStage();
  stage.upstream.script = ({ name }) => (name === "message" ? null : answer(204));
  const { send, socket, leave } = stage.open();
  socket.close = (code, reason) => void socket.done.push(`closing ${code} ${reason}`);
  await send("a", "b", "c");
  stage.upstream.settleFirst(unknown());
  await settled();
  expect(socket.done).toEqual(["closing 1011 upstream unavailable"]);
  expect(stage.upstream.labels).toEqual(["a"]);
  await leave({ code: 1006, reason: "" });
  expect(stage.upstream.labels).toEqual(["a", "disconnect"]);
});
