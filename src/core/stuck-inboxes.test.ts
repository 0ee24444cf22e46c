import { afterEach, expect, test } from "bun:test";
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
  expect(clients[1]?.socket.done).toEqual(["close 1013 inbox full"]);
  expect(stage.report.lost).toMatchObject([{ event: "message", count: 1 }]);
  expect(clients[1]?.connection.heldBytes).toBe(IN_FLIGHT.length + MESSAGE_BYTES);
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
  expect(client?.connection.end).toEqual({ code: 1013, reason: "inbox full" });
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
