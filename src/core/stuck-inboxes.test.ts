import { afterEach, describe, expect, test } from "bun:test";
import { type Client, CoreStage } from "../../test/support/core-stage.ts";
import { settled } from "../../test/support/fake-clock.ts";
import { answer } from "../../test/support/scripted-upstream.ts";
import { MESSAGE_BYTES } from "./inbox.ts";

/** Past 80 % of maxBufferedBytes, clients whose messages wait for an upstream that does not answer (`core/pressure.ts`). */

const MAX_BUFFERED = 10_000;
const IN_FLIGHT = "in flight";

let stage: CoreStage;

afterEach(() => stage.stop());

/** Clients with one message in flight and one of this size behind it. */
async function talkers(...inboxBytes: readonly number[]): Promise<Client[]> {
  stage = new CoreStage({ maxBufferedBytes: MAX_BUFFERED, maxInboxBytes: 100_000, pingAfterMs: 3_600_000 });
  stage.upstream.script = (event) => (event.name === "message" ? null : { kind: "unrouted" });
  const clients = inboxBytes.map(() => stage.open());
  for (const [i, client] of clients.entries()) await client.send(IN_FLIGHT, "x".repeat(inboxBytes[i] ?? 0));
  return clients;
}

const endsOf = (clients: readonly Client[]) => clients.map(({ connection }) => connection.end?.reason ?? null);

test("are closed after two seconds without an answer, the largest first, until less is in use; what waits of them is discarded", async () => {
  const clients = await talkers(1000, 3500, 2500);
  expect(stage.pressure.isHigh).toBe(true);
  await stage.clock.advance(1999);
  expect(endsOf(clients)).toEqual([null, null, null]);
  await stage.clock.advance(501);
  expect(endsOf(clients)).toEqual([null, "inbox full", null]);
  expect(clients[1]?.socket.done).toEqual(["pause", "close 1013 inbox full"]);
  expect(stage.report.lost).toMatchObject([{ event: "message", count: 1 }]);
  expect(clients[1]?.connection.heldBytes).toBe(MESSAGE_BYTES);
  expect(stage.pressure.isHigh).toBe(false);
});

test("stay while one of their messages is answered every two seconds", async () => {
  const [client] = await talkers(100);
  stage.pressure.hold(8000);
  expect(stage.pressure.isHigh).toBe(true);
  // For less than five seconds: then a client that moves is ended too.
  for (let round = 0; round < 3; round++) {
    await client?.send("more");
    await stage.clock.advance(1500);
    stage.upstream.settleFirst(answer(204));
    await settled();
  }
  expect(client?.connection.end).toBeNull();
  await stage.clock.advance(2500);
  expect(client?.connection.end).toMatchObject({ code: 1013, reason: "inbox full" });
});

test("are left alone where nothing waits behind the message in flight, and where less is in use", async () => {
  const clients = await talkers(1000, 1000);
  await stage.clock.advance(10_000);
  expect(endsOf(clients)).toEqual([null, null]);
  const alone = stage.open();
  await alone.send("x".repeat(100));
  stage.upstream.settleFirst(answer(204));
  stage.upstream.settleFirst(answer(204));
  await settled();
  stage.pressure.hold(8001);
  await stage.clock.advance(10_000);
  expect(endsOf([alone])).toEqual([null]);
});

/** Clients with a message of this size in flight each, and none behind it. */
async function uploaders(...sizes: readonly number[]): Promise<Client[]> {
  stage = new CoreStage({ maxBufferedBytes: MAX_BUFFERED, maxInboxBytes: 100_000, pingAfterMs: 3_600_000 });
  stage.upstream.script = (event) => (event.name === "message" ? null : { kind: "unrouted" });
  const clients = sizes.map(() => stage.open());
  for (const [i, client] of clients.entries()) await client.send("x".repeat(sizes[i] ?? 0));
  return clients;
}

const heldOf = (clients: readonly Client[]) => clients.map(({ connection }) => connection.heldBytes - MESSAGE_BYTES);

describe("a message in flight that is not answered for two seconds", () => {
  test("is let go where it was written whole, the largest first, and nobody is closed", async () => {
    const clients = await uploaders(2000, 4000, 1500);
    expect(stage.pressure.isHigh).toBe(true);
    await stage.clock.advance(1999);
    expect(heldOf(clients)).toEqual([2000, 4000, 1500]);
    await stage.clock.advance(1001);
    expect([heldOf(clients), stage.pressure.isHigh]).toEqual([[2000, 0, 1500], false]);
    expect([endsOf(clients), stage.upstream.forgoneTimes]).toEqual([[null, null, null], 1]);
    for (let i = 0; i < 3; i++) stage.upstream.settleFirst(answer(200, [], "re"));
    await settled();
    expect(clients.map(({ socket }) => socket.sent)).toEqual([["re"], ["re"], ["re"]]);
    expect(clients.map(({ connection }) => connection.heldBytes)).toEqual([0, 0, 0]);
  });

  test.each([
    ["kept", "below half of maxBufferedBytes", [2200, 2200], [2200, 2200]],
    ["let go", "past half of it", [2200, 2300], [2200, 0]],
  ])("is %s %s", async (_what, _where, sizes, held) => {
    const clients = await uploaders(...sizes);
    await stage.clock.advance(5000);
    expect([heldOf(clients), endsOf(clients)]).toEqual([held, [null, null]]);
  });

  test("keeps its client past half of it where it was not written whole", async () => {
    const clients = await uploaders(2200, 2300);
    stage.upstream.isWritten = false;
    await stage.clock.advance(5000);
    expect([heldOf(clients), endsOf(clients)]).toEqual([
      [2200, 2300],
      [null, null],
    ]);
  });

  test("ends with its client where it was not written whole, and its disconnect follows", async () => {
    const clients = await uploaders(2000, 4000, 1500);
    stage.upstream.isWritten = false;
    await stage.clock.advance(3000);
    expect(endsOf(clients)).toEqual([null, "inbox full", null]);
    expect(clients.map(({ connection }) => connection.heldBytes > 0)).toEqual([true, false, true]);
    expect(stage.report.lost).toMatchObject([{ event: "message", eventId: "c2.1", count: 1 }]);
    expect(stage.upstream.of("disconnect").map(({ connectionId }) => connectionId)).toEqual(["c2"]);
    expect(stage.pressure.isHigh).toBe(false);
  });

  test("is let go where its client has left", async () => {
    const clients = await uploaders(7600);
    await clients[0]?.leave();
    await stage.clock.advance(1000);
    expect([heldOf(clients), stage.pressure.isFilling]).toEqual([[7600], true]);
    await stage.clock.advance(2000);
    expect([heldOf(clients), stage.pressure.isFilling]).toEqual([[0], false]);
    stage.upstream.settleFirst(answer(204));
    await settled();
    expect(stage.upstream.labels.at(-1)).toBe("disconnect");
    expect(clients[0]?.connection.heldBytes).toBe(0);
  });

  test("is let go at once past all of maxBufferedBytes, before anybody is closed", async () => {
    const clients = await uploaders(3000, 3500);
    stage.pressure.hold(4000);
    await stage.clock.advance(500);
    expect(endsOf(clients)).toEqual([null, null]);
    expect(heldOf(clients)).toEqual([3000, 0]);
  });
});
