import { afterEach, describe, expect, test } from "bun:test";
import { type Client, CoreStage } from "../../test/support/core-stage.ts";
import { settled } from "../../test/support/fake-clock.ts";
import { answer, unknown } from "../../test/support/scripted-upstream.ts";
import { MESSAGE_BYTES } from "./inbox.ts";
import { OUTBOX_FACTOR } from "./pressure.ts";

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
    // Silence is another test's matter.
    pingAfterMs: 3_600_000,
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
    expect(past.connection.end).toMatchObject({ code: 1013, reason: "slow consumer" });
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
    const client = holder(1900 / OUTBOX_FACTOR);
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
    for (let count = 0; count < 8; count++) holder(MAX_OUTBOX / OUTBOX_FACTOR);
    await look();
    expect(stage.pressure.isHigh).toBe(false);
    expect(stage.admission.reserve("10.0.0.1")).toBeNull();
    const last = holder(1 / OUTBOX_FACTOR);
    await look();
    expect(stage.pressure.isHigh).toBe(true);
    expect(stage.admission.reserve("10.0.0.1")).toMatchObject({
      status: 503,
      code: "buffer_limit",
      target: "maxBufferedBytes",
      headers: { "Retry-After": "1" },
    });
    last.socket.waitingBytes = 0 / OUTBOX_FACTOR;
    await look();
    expect(stage.admission.reserve("10.0.0.1")).toBeNull();
  });

  test("ends clients that took nothing for two seconds, the largest first, before a new client is refused", async () => {
    start();
    const [small, large, reading] = [1000, 6000, 1900].map((bytes) => holder(bytes / OUTBOX_FACTOR)) as Client[];
    for (const { socket } of [small, large, reading] as Client[])
      socket.traffic = { received: 0, delivered: 0, unsent: 0 };
    stage.options.maxOutboxBytes = 100_000;
    await look();
    expect(stage.admission.reserve("10.0.0.1")).toMatchObject({ code: "buffer_limit" });
    await look();
    for (let ms = CHECK_MS; ms <= 2000; ms += CHECK_MS) {
      if (reading !== undefined) reading.socket.traffic = { received: 0, delivered: 100 * ms, unsent: 0 };
      expect(large?.socket.done).toEqual([]);
      await look();
    }
    expect(large?.socket.done).toEqual(["terminate"]);
    expect([small?.socket.done, reading?.socket.done]).toEqual([[], []]);
    expect(stage.admission.reserve("10.0.0.1")).toBeNull();
  });

  test("ends clients that would need longer than outboxStallTimeoutMs for what waits, at the pace of two seconds", async () => {
    start({ maxOutboxBytes: 1_000_000, maxBufferedBytes: 1_000_000 });
    const [slow, fast] = [holder(600_000 / OUTBOX_FACTOR), holder(300_000 / OUTBOX_FACTOR)];
    await look();
    // What waits would take them 31 s and 29 s.
    for (let ms = 0; ms <= 2000; ms += CHECK_MS) {
      slow.socket.traffic = { received: 0, delivered: (slow.socket.waitingBytes * ms) / 31_000, unsent: 0 };
      fast.socket.traffic = { received: 0, delivered: (fast.socket.waitingBytes * ms) / 29_000, unsent: 0 };
      await look();
    }
    expect([slow.socket.done, fast.socket.done]).toEqual([["terminate"], []]);
  });

  test("pauses a client as soon as a message waits behind the one in flight, until nothing waits", async () => {
    start();
    const client = await talker(10);
    expect(client.socket.done).toEqual([]);
    stage.pressure.hold(0.8 * MAX_BUFFERED);
    await client.send("more");
    expect(client.socket.done).toEqual(["pause"]);
    stage.upstream.settleFirst(answer(204));
    await settled();
    expect(client.socket.done).toEqual(["pause"]);
    stage.upstream.settleFirst(answer(204));
    await settled();
    expect(client.socket.done).toEqual(["pause", "resume"]);
  });

  test("answers 503 while the process has grown past its bound, and says so", () => {
    start();
    stage.memory.isOver = true;
    expect(stage.admission.reserve("10.0.0.1")).toMatchObject({
      status: 503,
      code: "buffer_limit",
      message: "the process has grown by more than 1.5 times limits.maxBufferedBytes",
    });
  });

  test("counts messages in flight and behind them, and what calls and answers hold, from the moment they hold it", async () => {
    start();
    const { connection } = await talker(4000);
    expect(connection.heldBytes).toBe(IN_FLIGHT.length + 4000 + 2 * MESSAGE_BYTES);
    stage.pressure.hold(4000 - IN_FLIGHT.length - 2 * MESSAGE_BYTES);
    expect(stage.pressure.isHigh).toBe(false);
    stage.pressure.hold(1);
    expect(stage.pressure.isHigh).toBe(true);
    stage.pressure.hold(-4001 + 2 * MESSAGE_BYTES);
    expect(stage.pressure.isHigh).toBe(false);
  });

  test("counts the messages of a client that has left until they are posted", async () => {
    start();
    const gone = await talker(8000 - MESSAGE_BYTES);
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
    const [small, large, middle, idle] = [
      holder(1000 / OUTBOX_FACTOR),
      holder(5000 / OUTBOX_FACTOR),
      holder(4000 / OUTBOX_FACTOR),
      holder(0),
    ];
    await look();
    for (const { socket } of [small, large, middle, idle]) expect(socket.done).toEqual([]);
    small.socket.waitingBytes = 1001 / OUTBOX_FACTOR;
    await look();
    expect(large.socket.done).toEqual(["terminate"]);
    for (const { socket } of [small, middle, idle]) expect(socket.done).toEqual([]);
  });

  test("closes as many as it takes", async () => {
    start({ maxOutboxBytes: 100_000 });
    const clients = [
      holder(9000 / OUTBOX_FACTOR),
      holder(8000 / OUTBOX_FACTOR),
      holder(7000 / OUTBOX_FACTOR),
      holder(900 / OUTBOX_FACTOR),
    ];
    await look();
    expect(clients.map(({ socket }) => socket.done.length)).toEqual([1, 1, 0, 0]);
    expect(stage.pressure.isHigh).toBe(false);
  });

  test("says inbox full to whom most waits from, slow consumer to whom most waits for", async () => {
    start({ maxOutboxBytes: 100_000 });
    const talking = await talker(10_001);
    // The inbox is full as it comes, so there is nothing to wait for.
    expect(talking.connection.end).toMatchObject({ code: 1013, reason: "inbox full" });
    expect(talking.socket.done).toEqual(["close 1013 inbox full"]);
    const both = await talker(3000);
    both.socket.waitingBytes = 7001 / OUTBOX_FACTOR;
    await look();
    expect(both.connection.end).toMatchObject({ code: 1013, reason: "slow consumer" });
  });

  test("discards what a client that has left has not posted yet, and closes nobody for it", async () => {
    start();
    const gone = await talker(9000);
    const staying = holder(200 / OUTBOX_FACTOR);
    await gone.leave();
    await look();
    expect(stage.report.lost).toEqual([]);
    staying.socket.waitingBytes = 1000 / OUTBOX_FACTOR;
    await look();
    expect(staying.socket.done).toEqual([]);
    expect(stage.report.lost).toMatchObject([{ event: "message", count: 1 }]);
    // The one in flight is still to be answered, and its payload has been let go.
    expect(gone.connection.heldBytes).toBe(MESSAGE_BYTES);
    // The one in flight ends as ever, and the disconnect follows it.
    stage.upstream.settleFirst(answer(204));
    await settled();
    expect(gone.connection.heldBytes).toBe(0);
    expect(stage.upstream.labels.at(-1)).toBe("disconnect");
  });

  test("discards the queues of as many as it takes, the largest first", async () => {
    start();
    const [small, large, middle] = [await talker(2000), await talker(5000), await talker(1000)];
    for (const client of [small, large, middle]) await client.leave();
    stage.pressure.hold(3000);
    await look();
    const queued = [small, large, middle].map(({ connection }) => connection.inbox?.count ?? 0);
    expect(queued).toEqual([1, 0, 1]);
  });

  test("counts bodies and answers, though closing clients does not end those", async () => {
    start();
    const [one, idle] = [holder(500 / OUTBOX_FACTOR), holder(0)];
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
  const clients = [holder(9000 / OUTBOX_FACTOR), holder(8000 / OUTBOX_FACTOR)];
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
  const faulty = holder(MAX_OUTBOX + 1 / OUTBOX_FACTOR);
  faulty.socket.terminate = () => {
    throw new Error("a bug");
  };
  expect(() => stage.pressure.moved(MAX_OUTBOX)).toThrow("a bug");
  const next = holder(MAX_OUTBOX + 1 / OUTBOX_FACTOR);
  stage.pressure.moved(MAX_OUTBOX);
  expect(next.socket.done).toEqual(["terminate"]);
});
