import { afterEach, describe, expect, test } from "bun:test";
import { type Client, CoreStage } from "../../test/support/core-stage.ts";
import { settled } from "../../test/support/fake-clock.ts";
import { answer, unknown } from "../../test/support/scripted-upstream.ts";

const MAX_OUTBOX = 1000;
const MAX_BUFFERED = 10_000;
const CHECK_MS = 500;
const IN_FLIGHT = "in flight";

let stage: CoreStage;

afterEach(() => {
  stage.stop();
});

function start(options: { maxOutboxBytes?: number; maxBufferedBytes?: number } = {}): void {
  stage = new CoreStage({
    maxOutboxBytes: MAX_OUTBOX,
    maxBufferedBytes: MAX_BUFFERED,
    maxInboxBytes: 100_000,
    maxInboxMessages: 1000,
    ...options,
  });
}

/** A client for whom bytes wait. */
function holder(outboxBytes: number): Client {
  const client = stage.open();
  client.socket.waitingBytes = outboxBytes;
  return client;
}

/** A client of whose messages one is being posted and bytes wait behind it. */
async function talker(inboxBytes: number): Promise<Client> {
  stage.upstream.script = (event) => (event.name === "message" ? null : { kind: "unrouted" });
  const client = stage.open();
  await client.send(IN_FLIGHT, "x".repeat(inboxBytes));
  return client;
}

/** Makes the pressure look, as its tick does. */
async function look(): Promise<void> {
  stage.pressure.moved(0);
  await stage.clock.advance(CHECK_MS);
}

describe("a client's outbox", () => {
  test("at its bound is left alone, one byte past it is cut", async () => {
    start();
    const [at, past] = [holder(MAX_OUTBOX), holder(MAX_OUTBOX + 1)];
    await look();
    expect(at.socket.done).toEqual([]);
    expect(past.socket.done).toEqual(["terminate"]);
    expect(past.connection.end).toEqual({ code: 1013, reason: "slow consumer" });
  });

  test("is looked at as soon as more than a quarter of its bound was sent, and not before", () => {
    start();
    const slow = holder(MAX_OUTBOX + 1);
    // One byte is counted on top of each: an empty message has a head too.
    stage.pressure.moved(MAX_OUTBOX / 4 - 1);
    expect(slow.socket.done).toEqual([]);
    stage.pressure.moved(0);
    expect(slow.socket.done).toEqual(["terminate"]);
  });

  test("is looked at after a quarter in empty messages too", () => {
    start();
    const slow = holder(MAX_OUTBOX + 1);
    for (let count = 0; count < MAX_OUTBOX / 4; count++) stage.pressure.moved(0);
    expect(slow.socket.done).toEqual([]);
    stage.pressure.moved(0);
    expect(slow.socket.done).toEqual(["terminate"]);
  });

  test("is looked at again after the next quarter: the count begins anew with each look", () => {
    start();
    stage.pressure.moved(MAX_OUTBOX);
    const slow = holder(MAX_OUTBOX + 1);
    stage.pressure.moved(MAX_OUTBOX / 4 - 1);
    expect(slow.socket.done).toEqual([]);
    stage.pressure.moved(1);
    expect(slow.socket.done).toEqual(["terminate"]);
  });
});

describe("what is sent to everybody", () => {
  test("is looked at as soon as more than a twentieth of maxBufferedBytes was sent, counted for every receiver", () => {
    start({ maxOutboxBytes: 100_000, maxBufferedBytes: 2000 });
    const client = holder(1900);
    // With the byte on top of each: 10 times 10, the twentieth of 2000.
    stage.pressure.moved(9, 10);
    expect(stage.pressure.isHigh).toBe(false);
    stage.pressure.moved(0);
    expect(stage.pressure.isHigh).toBe(true);
    expect(client.connection.end).toBeNull();
  });

  test("to nobody counts once, so that its sender's own bound holds", () => {
    start();
    const slow = holder(MAX_OUTBOX + 1);
    stage.pressure.moved(MAX_OUTBOX / 4, 0);
    expect(slow.socket.done).toEqual(["terminate"]);
  });
});

describe("the look every half second", () => {
  test("comes after anything moved, and goes on while something waits", async () => {
    start();
    const client = holder(0);
    stage.pressure.moved(1);
    await stage.clock.advance(CHECK_MS - 1);
    client.socket.waitingBytes = MAX_OUTBOX;
    await stage.clock.advance(1);
    client.socket.waitingBytes = MAX_OUTBOX + 1;
    await stage.clock.advance(CHECK_MS);
    expect(client.socket.done).toEqual(["terminate"]);
  });

  test("costs nothing while nothing was sent and nothing waits", async () => {
    start();
    const client = holder(0);
    let looks = 0;
    Object.defineProperty(client.socket, "waitingBytes", {
      get: () => {
        looks++;
        return 0;
      },
    });
    await stage.clock.advance(10 * CHECK_MS);
    expect(looks).toBe(0);
    stage.pressure.moved(1);
    await stage.clock.advance(10 * CHECK_MS);
    expect(looks).toBe(1);
  });

  test("comes too where the last of a turn was looked at in its middle: what was published then reaches sockets later", async () => {
    start();
    const client = holder(0);
    stage.pressure.moved(MAX_OUTBOX);
    client.socket.waitingBytes = MAX_OUTBOX + 1;
    await stage.clock.advance(CHECK_MS);
    expect(client.socket.done).toEqual(["terminate"]);
  });

  test("ends with stop", async () => {
    start();
    const client = holder(MAX_OUTBOX + 1);
    stage.pressure.moved(1);
    stage.stop();
    await stage.clock.advance(10 * CHECK_MS);
    expect(client.socket.done).toEqual([]);
    expect(stage.clock.timerCount).toBe(0);
  });
});

describe("the process at 80 %", () => {
  test("lets new clients in, and past it answers 503", async () => {
    start();
    for (let count = 0; count < 8; count++) holder(MAX_OUTBOX);
    await look();
    expect(stage.pressure.isHigh).toBe(false);
    expect(stage.admission.reserve("10.0.0.1")).toBeNull();
    const last = holder(1);
    await look();
    expect(stage.pressure.isHigh).toBe(true);
    expect(stage.admission.reserve("10.0.0.1")).toMatchObject({
      status: 503,
      code: "buffer_limit",
      target: "maxBufferedBytes",
      headers: { "Retry-After": "1" },
    });
    last.socket.waitingBytes = 0;
    await look();
    expect(stage.admission.reserve("10.0.0.1")).toBeNull();
  });

  test("counts messages in flight and behind them, and what calls and answers hold, from the moment they hold it", async () => {
    start();
    const { connection } = await talker(4000);
    expect(connection.heldBytes).toBe(IN_FLIGHT.length + 4000);
    stage.pressure.hold(4000 - IN_FLIGHT.length);
    expect(stage.pressure.isHigh).toBe(false);
    stage.pressure.hold(1);
    expect(stage.pressure.isHigh).toBe(true);
    stage.pressure.hold(-4001);
    expect(stage.pressure.isHigh).toBe(false);
  });

  test("counts the messages of a client that has left until they are posted", async () => {
    start();
    const gone = await talker(8000);
    await gone.leave();
    expect(stage.pressure.isHigh).toBe(true);
    stage.upstream.settleFirst(answer(204));
    await settled();
    expect(stage.pressure.isHigh).toBe(false);
    stage.upstream.settleFirst(answer(204));
    await settled();
    expect(gone.connection.heldBytes).toBe(0);
    stage.pressure.hold(0.8 * MAX_BUFFERED);
    expect(stage.pressure.isHigh).toBe(false);
  });

  test("forgets the messages that are discarded after a client has left", async () => {
    start();
    const gone = await talker(8000);
    await gone.leave();
    stage.upstream.settleFirst(unknown());
    await settled();
    expect(gone.connection.heldBytes).toBe(0);
    stage.pressure.hold(0.8 * MAX_BUFFERED);
    expect(stage.pressure.isHigh).toBe(false);
  });
});

describe("the process at 100 %", () => {
  test("closes nobody, and past it the largest holders until it is not past it", async () => {
    start({ maxOutboxBytes: 100_000 });
    const [small, large, middle, idle] = [holder(1000), holder(5000), holder(4000), holder(0)];
    await look();
    for (const { socket } of [small, large, middle, idle]) expect(socket.done).toEqual([]);
    small.socket.waitingBytes = 1001;
    await look();
    expect(large.socket.done).toEqual(["terminate"]);
    for (const { socket } of [small, middle, idle]) expect(socket.done).toEqual([]);
  });

  test("closes as many as it takes", async () => {
    start({ maxOutboxBytes: 100_000 });
    const clients = [holder(9000), holder(8000), holder(7000), holder(1000)];
    await look();
    expect(clients.map(({ socket }) => socket.done.length)).toEqual([1, 1, 0, 0]);
    expect(stage.pressure.isHigh).toBe(false);
  });

  test("says inbox full to whom most waits from, slow consumer to whom most waits for", async () => {
    start({ maxOutboxBytes: 100_000 });
    const talking = await talker(10_001);
    // The inbox is full as it comes, so there is nothing to wait for.
    expect(talking.connection.end).toEqual({ code: 1013, reason: "inbox full" });
    expect(talking.socket.done).toEqual(["close 1013 inbox full"]);
    const both = await talker(3000);
    both.socket.waitingBytes = 7001;
    await look();
    expect(both.connection.end).toEqual({ code: 1013, reason: "slow consumer" });
  });

  test("does not close clients for the messages of one that has left: it would free none of them", async () => {
    start();
    const gone = await talker(9000);
    const staying = holder(900);
    await gone.leave();
    await look();
    staying.socket.waitingBytes = 1000;
    await look();
    expect(stage.pressure.isHigh).toBe(true);
    expect(staying.socket.done).toEqual([]);
  });

  test("counts bodies and answers, though closing clients does not end those", async () => {
    start();
    const [one, idle] = [holder(500), holder(0)];
    stage.pressure.hold(MAX_BUFFERED);
    await look();
    expect(one.socket.done).toEqual(["terminate"]);
    expect(idle.socket.done).toEqual([]);
    stage.pressure.hold(-MAX_BUFFERED);
    expect(stage.pressure.isHigh).toBe(false);
  });
});

test("a close that moves bytes and comes back does not start a second look", async () => {
  start({ maxOutboxBytes: 100_000 });
  const clients = [holder(9000), holder(8000)];
  for (const { socket } of clients) {
    const terminate = socket.terminate.bind(socket);
    socket.terminate = () => {
      stage.pressure.moved(1_000_000);
      terminate();
    };
  }
  await look();
  expect(clients.map(({ socket }) => socket.done)).toEqual([["terminate"], []]);
});

test("a close that throws does not end all further looks", () => {
  start();
  const faulty = holder(MAX_OUTBOX + 1);
  faulty.socket.terminate = () => {
    throw new Error("a bug of ours");
  };
  expect(() => stage.pressure.moved(MAX_OUTBOX)).toThrow("a bug of ours");
  const next = holder(MAX_OUTBOX + 1);
  stage.pressure.moved(MAX_OUTBOX);
  expect(next.socket.done).toEqual(["terminate"]);
});
