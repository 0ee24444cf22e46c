import { describe, expect, test } from "bun:test";
import { RecordingSocket, someFacts } from "../../test/support/core-stage.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { Connection } from "./connection.ts";
import { Liveness } from "./liveness.ts";

const STALL_MS = 30_000;

function stage(times = { pingAfterMs: 20_000, pongTimeoutMs: 8000 }) {
  const options = { ...times, outboxStallTimeoutMs: STALL_MS };
  const clock = new FakeClock();
  const dead: Connection[] = [];
  const liveness = new Liveness(options, clock, (connection) => dead.push(connection));
  const add = () => {
    const connection = new Connection(someFacts());
    const socket = new RecordingSocket();
    connection.socket = socket;
    liveness.add(connection);
    return { connection, socket };
  };
  return { clock, dead, liveness, add };
}

describe("a pinged connection on which bytes move", () => {
  const PONG_MS = 8000;

  /** A client that is silent until its ping, and whose traffic a test tells. */
  async function pinged(outboxBytes = 0) {
    const { clock, dead, liveness, add } = stage();
    const { connection, socket } = add();
    const told = { received: 0, delivered: 0, unsent: 0 };
    socket.traffic = told;
    socket.waitingBytes = outboxBytes;
    await clock.advance(20_000);
    expect(socket.done).toEqual(["ping"]);
    /** Lets time pass; a second at a time, so much moves. */
    const pass = async (ms: number, move: Partial<typeof told> = {}) => {
      for (let passed = 0; passed < ms; passed += 1000) {
        told.received += move.received ?? 0;
        told.delivered += move.delivered ?? 0;
        await clock.advance(1000);
      }
    };
    return { dead, liveness, connection, socket, told, pass };
  }

  test("lives while parts of a frame arrive at 1000 bytes per second, and is cut when they stop", async () => {
    const { dead, pass, connection } = await pinged();
    await pass(600_000, { received: 1000 });
    expect(dead).toEqual([]);
    await pass(2 * PONG_MS);
    expect(dead).toEqual([connection]);
  });

  test("is cut when less than that arrives", async () => {
    const { dead, pass } = await pinged();
    await pass(PONG_MS, { received: 900 });
    expect(dead).toHaveLength(1);
  });

  test.each([
    ["in the process", 6_000_000, 0],
    ["in the kernel", 0, 2_000_000],
  ])(
    "lives while it takes what waits %s in front of the ping; the pong's time begins when that is gone",
    async (_where, outbox, unsent) => {
      const { dead, pass, socket, told } = await pinged(outbox);
      told.unsent = unsent;
      await pass(60_000, { delivered: 100_000 });
      expect(dead).toEqual([]);
      // The last of it leaves.
      socket.waitingBytes = 0;
      told.unsent = 0;
      await pass(1000, { delivered: 100_000 });
      await pass(PONG_MS - 2000);
      expect(dead).toEqual([]);
      await pass(PONG_MS);
      expect(dead).toHaveLength(1);
    },
  );

  test("is cut when nothing waits in front of the ping and it takes only what is pushed behind it", async () => {
    const { dead, pass } = await pinged();
    await pass(PONG_MS, { delivered: 100_000 });
    expect(dead).toHaveLength(1);
  });

  test("is cut when it has taken nothing of what waits for outboxStallTimeoutMs, and its pong is due", async () => {
    const { dead, pass } = await pinged(6_000_000);
    await pass(STALL_MS);
    expect(dead).toEqual([]);
    await pass(PONG_MS);
    expect(dead).toHaveLength(1);
  });

  test("lives while its system takes what waits in large steps", async () => {
    const { dead, pass } = await pinged(6_000_000);
    for (let step = 0; step < 5; step++) {
      await pass(STALL_MS - 5000);
      await pass(1000, { delivered: 375_000 });
    }
    expect(dead).toEqual([]);
  });

  test("lives while its outbox shrinks, where the system does not tell", async () => {
    const { dead, pass, socket } = await pinged(6_000_000);
    socket.traffic = null;
    for (let second = 0; second < 100; second++) {
      socket.waitingBytes -= 5000;
      await pass(1000);
    }
    expect(dead).toEqual([]);
  });

  test("is pinged again when it has answered", async () => {
    const { dead, pass, liveness, connection, socket } = await pinged(6_000_000);
    await pass(30_000, { delivered: 100_000 });
    socket.waitingBytes = 0;
    liveness.heard(connection);
    socket.done.length = 0;
    await pass(19_000);
    expect(socket.done).toEqual([]);
    await pass(2000);
    expect([socket.done, dead.length]).toEqual([["ping"], 0]);
  });
});
