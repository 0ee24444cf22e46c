import { afterEach, describe, expect, test } from "bun:test";
import { type Client, CoreStage } from "../../test/support/core-stage.ts";

const MAX_OUTBOX = 1000;
const CHECK_MS = 500;

let stage: CoreStage;

afterEach(() => {
  stage.stop();
});

function start(options: { maxOutboxBytes?: number; maxBufferedBytes?: number } = {}): void {
  // Silence is another test's matter.
  stage = new CoreStage({ maxOutboxBytes: MAX_OUTBOX, maxBufferedBytes: 10_000, pingAfterMs: 3_600_000, ...options });
}

/** A client for whom bytes wait. */
function holder(outboxBytes: number): Client {
  const client = stage.open();
  client.socket.waitingBytes = outboxBytes;
  return client;
}

/** Makes the pressure look, as its tick does. */
async function look(): Promise<void> {
  stage.pressure.moved(0);
  await stage.clock.advance(CHECK_MS);
}

describe("a client that does not read", () => {
  const STALL_MS = 30_000;

  /** Lets time pass; before each look something is sent, so that the level of the outbox is refilled. */
  async function pass(ms: number, before: () => void = () => {}): Promise<void> {
    for (let passed = 0; passed < ms; passed += CHECK_MS) {
      before();
      await look();
    }
  }

  test("is cut after outboxStallTimeoutMs, not before, and its disconnect says slow consumer", async () => {
    start();
    const mute = holder(MAX_OUTBOX);
    // The first look finds the backlog, the second begins to measure.
    await pass(2 * CHECK_MS);
    await pass(STALL_MS - CHECK_MS);
    expect(mute.socket.done).toEqual([]);
    await pass(CHECK_MS);
    expect(mute.socket.done).toEqual(["terminate"]);
    expect(mute.connection.end).toMatchObject({ code: 1013, reason: "slow consumer" });
  });

  test("is cut though one byte is read in each half second, and though pushes refill its outbox", async () => {
    start();
    const [dripping, refilled] = [holder(MAX_OUTBOX), holder(1)];
    await pass(2 * CHECK_MS);
    await pass(STALL_MS, () => {
      dripping.socket.waitingBytes--;
      refilled.socket.waitingBytes += 10;
    });
    expect(dripping.socket.done).toEqual(["terminate"]);
    expect(refilled.socket.done).toEqual(["terminate"]);
  });

  test("lives while it takes 1000 bytes per second, by what the system tells, though its outbox stays as full", async () => {
    start();
    const [slow, tooSlow] = [holder(MAX_OUTBOX), holder(MAX_OUTBOX)];
    let delivered = 0;
    const tell = (): void => {
      delivered += CHECK_MS;
      slow.socket.traffic = { received: 0, delivered, unsent: 0 };
      tooSlow.socket.traffic = { received: 0, delivered: delivered * 0.9, unsent: 0 };
    };
    tell();
    await look();
    await pass(10 * STALL_MS, tell);
    expect(slow.socket.done).toEqual([]);
    expect(tooSlow.socket.done).toEqual(["terminate"]);
  });

  test("lives while its outbox shrinks by 1000 bytes per second, where the system does not tell", async () => {
    start({ maxOutboxBytes: 1_000_000, maxBufferedBytes: 10_000_000 });
    const slow = holder(500_000);
    await look();
    await pass(4 * STALL_MS, () => {
      slow.socket.waitingBytes -= CHECK_MS;
    });
    expect(slow.socket.done).toEqual([]);
  });

  test("begins anew once its outbox was empty", async () => {
    start();
    const client = holder(MAX_OUTBOX);
    await pass(STALL_MS);
    client.socket.waitingBytes = 0;
    await look();
    client.socket.waitingBytes = MAX_OUTBOX;
    await pass(STALL_MS + CHECK_MS);
    expect(client.socket.done).toEqual([]);
    await pass(CHECK_MS);
    expect(client.socket.done).toEqual(["terminate"]);
  });
});
