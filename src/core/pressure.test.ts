import { describe, expect, test } from "bun:test";
import { type Client, CoreStage } from "../../test/support/core-stage.ts";
import { Inbox } from "./inbox.ts";

/** Lets a connection hold bytes for a client that does not read. */
function fill(client: Client, outboxBytes: number): Client {
  client.socket.waitingBytes = outboxBytes;
  return client;
}

describe("one client's outbox", () => {
  test("at its bound stays, past it is cut as a slow consumer, and nobody else is", async () => {
    const stage = new CoreStage({ maxOutboxBytes: 1000 });
    const atBound = fill(stage.open(), 1000);
    const past = fill(stage.open(), 1001);
    stage.pressure.moved(1);
    await stage.clock.advance(500);
    expect(past.connection.end).toEqual({ code: 1013, reason: "slow consumer" });
    expect(past.socket.done).toEqual(["terminate"]);
    expect(atBound.connection.end).toBeNull();
  });

  test("is looked at before the half second is over once a quarter of the bound was sent", () => {
    const stage = new CoreStage({ maxOutboxBytes: 1000 });
    const past = fill(stage.open(), 1001);
    stage.pressure.moved(248);
    expect(past.connection.end).toBeNull();
    stage.pressure.moved(2);
    expect(past.connection.end?.reason).toBe("slow consumer");
  });
});

describe("the whole process", () => {
  const options = { maxOutboxBytes: 1000, maxBufferedBytes: 1000 };

  test("takes new clients up to 80 % and refuses them past that", async () => {
    const stage = new CoreStage(options);
    const client = fill(stage.open(), 800);
    stage.pressure.moved(1);
    await stage.clock.advance(500);
    expect(stage.pressure.isHigh).toBe(false);
    expect(stage.admission.reserve("a")).toBeNull();
    fill(client, 801);
    await stage.clock.advance(500);
    expect(stage.pressure.isHigh).toBe(true);
    expect(stage.admission.reserve("a")).toMatchObject({ status: 503, code: "buffer_limit" });
    fill(client, 0);
    await stage.clock.advance(500);
    expect(stage.admission.reserve("a")).toBeNull();
  });

  test("at its bound nobody is closed; past it the largest holders are, until it is not", async () => {
    const stage = new CoreStage(options);
    const [small, large, middle] = [300, 400, 300].map((bytes) => fill(stage.open(), bytes));
    stage.pressure.moved(1);
    await stage.clock.advance(500);
    expect([small, large, middle].map((client) => client?.connection.end)).toEqual([null, null, null]);
    if (middle !== undefined) fill(middle, 301);
    await stage.clock.advance(500);
    expect(large?.connection.end).toEqual({ code: 1013, reason: "slow consumer" });
    expect([small, middle].map((client) => client?.connection.end)).toEqual([null, null]);
  });

  test("counts inboxes, and closes a connection whose inbox is what is large as such", async () => {
    const stage = new CoreStage(options);
    const { connection } = stage.open();
    connection.inbox = new Inbox({ maxMessages: 10, maxBytes: 10_000 });
    connection.inbox.push({ payload: new Uint8Array(1001), binary: true });
    stage.pressure.moved(1);
    await stage.clock.advance(500);
    expect(connection.end).toEqual({ code: 1013, reason: "inbox full" });
  });

  test("counts bodies and answers on their way while they are held", () => {
    const stage = new CoreStage(options);
    stage.pressure.hold(801);
    expect(stage.pressure.isHigh).toBe(true);
    stage.pressure.hold(-801);
    expect(stage.pressure.isHigh).toBe(false);
  });

  test("a fan-out counts for every receiver: a twentieth of the bound, and the sockets are looked at", () => {
    const stage = new CoreStage({ maxOutboxBytes: 100_000, maxBufferedBytes: 1000 });
    const client = fill(stage.open(), 900);
    stage.pressure.moved(4, 10);
    expect(stage.pressure.isHigh).toBe(false);
    stage.pressure.moved(0);
    expect(stage.pressure.isHigh).toBe(true);
    expect(client.connection.end).toBeNull();
  });
});

test("while nothing moves and nothing waits, no socket is looked at", async () => {
  const stage = new CoreStage();
  const { socket } = stage.open();
  let looks = 0;
  Object.defineProperty(socket, "waitingBytes", {
    get: () => {
      looks++;
      return 0;
    },
  });
  await stage.clock.advance(5000);
  expect(looks).toBe(0);
  stage.pressure.moved(1);
  await stage.clock.advance(5000);
  expect(looks).toBe(1);
});
