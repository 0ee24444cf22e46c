import { afterEach, expect, test } from "bun:test";
import { CoreStage, type StageOptions } from "../../test/support/core-stage.ts";
import { answer } from "../../test/support/scripted-upstream.ts";
import { MESSAGE_BYTES } from "./inbox.ts";
import { OUTBOX_FACTOR } from "./pressure.ts";
import { MAX_SHORTAGE_MS } from "./shortage.ts";

/** Clients that move, and hold more than 80 % of `maxBufferedBytes` all the same. */

const CHECK_MS = 500;

let stage: CoreStage;

afterEach(() => {
  stage.stop();
});

function start(options: Partial<StageOptions>): void {
  stage = new CoreStage({
    maxInboxMessages: 1000,
    // Silence is another test's matter.
    pingAfterMs: 3_600_000,
    ...options,
  });
  stage.upstream.script = (event) => (event.name === "message" ? null : { kind: "unrouted" });
}

/** Makes the pressure look, as its tick does. */
async function look(): Promise<void> {
  stage.pressure.moved(0);
  await stage.clock.advance(CHECK_MS);
}

/** The backend answers a message of each client. At least every other second, so that none of them counts as stuck. */
function answerOneOfEach(): void {
  for (const { settle } of stage.upstream.held) settle(answer(204));
}

test("past 80 % for five seconds ends the client whose messages take most, though they are posted one after the other", async () => {
  start({ maxBufferedBytes: 400 * MESSAGE_BYTES });
  const [small, large] = [stage.open(), stage.open()];
  await small.send(...new Array<string>(100).fill(""));
  await large.send(...new Array<string>(200).fill(""));
  stage.pressure.hold(50 * MESSAGE_BYTES);
  for (let ms = 0; ms < MAX_SHORTAGE_MS; ms += CHECK_MS) {
    expect(stage.pressure.isHigh).toBe(true);
    expect([...small.socket.done, ...large.socket.done]).not.toContain("close 1013 inbox full");
    if (ms % 1000 === 0) answerOneOfEach();
    await look();
  }
  await look();
  expect(stage.pressure.isHigh).toBe(false);
  expect(large.connection.end).toMatchObject({ code: 1013, reason: "inbox full" });
  expect(large.connection.heldBytes).toBe(MESSAGE_BYTES);
  expect(small.connection.end).toBeNull();
});

test("past 80 % for five seconds ends the client for whom most waits, though it reads fast enough", async () => {
  start({ maxOutboxBytes: 1_000_000, maxBufferedBytes: 1_000_000 });
  const [large, small] = [stage.open(), stage.open()];
  large.socket.waitingBytes = 500_000 / OUTBOX_FACTOR;
  small.socket.waitingBytes = 400_000 / OUTBOX_FACTOR;
  for (let ms = 0; ms <= MAX_SHORTAGE_MS + CHECK_MS; ms += CHECK_MS) {
    expect([large.socket.done, small.socket.done]).toEqual([[], []]);
    // What was read was sent again meanwhile.
    for (const { socket } of [large, small]) socket.traffic = { received: 0, delivered: 100 * ms, unsent: 0 };
    await look();
  }
  expect([large.socket.done, small.socket.done]).toEqual([["terminate"], []]);
  expect(stage.pressure.isHigh).toBe(false);
});

test("past 80 % for five seconds discards what a client that has left has not posted yet", async () => {
  start({ maxBufferedBytes: 100 * MESSAGE_BYTES, inboxDrainTimeoutMs: 60_000 });
  const gone = stage.open();
  await gone.send(...new Array<string>(95).fill(""));
  await gone.leave();
  for (let ms = 0; ms <= MAX_SHORTAGE_MS - CHECK_MS; ms += CHECK_MS) {
    expect(stage.pressure.isHigh).toBe(true);
    if (ms % 1000 === 0) answerOneOfEach();
    await look();
  }
  answerOneOfEach();
  await look();
  await look();
  expect(stage.report.lost).toMatchObject([{ event: "message" }]);
  expect(gone.connection.heldBytes).toBe(MESSAGE_BYTES);
});
