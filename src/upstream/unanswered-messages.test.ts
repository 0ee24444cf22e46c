import { afterEach, expect, test } from "bun:test";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { Gate, until, within } from "../../test/support/deadline.ts";
import { RawBackend } from "../../test/support/raw-backend.ts";
import { messageEvent, startUpstream, upstreamEntry } from "../../test/support/upstream/fixture.ts";
import type { CallFailure } from "../core/ports/upstream.ts";
import type { MessageReply } from "../protocol/dialect.ts";

/** What a message keeps of the process's memory until it is answered. */

const stack: (() => Promise<unknown> | unknown)[] = [];

afterEach(async () => {
  for (const end of stack.splice(0).reverse()) await end();
});

/** Posts a message; its call, and what becomes of it. */
function post(upstream: ReturnType<typeof startUpstream>, payload: string | Uint8Array) {
  const { promise, resolve, reject } = Promise.withResolvers<CallFailure | MessageReply>();
  const call = upstream.post(messageEvent(payload), { onReply: resolve, onFailure: resolve, onFault: reject });
  if (call === null) throw new Error("no entry takes it");
  return { call, outcome: within(promise, "the message's outcome") };
}

test("a message whose repeat is forgone is not sent again when its kept socket dies", async () => {
  const backend = await RawBackend.start();
  stack.push(() => backend.stop());
  await using upstream = startUpstream([upstreamEntry(`${backend.url}/{event}`)]);
  await post(upstream, "first").outcome;
  const gate = new Gate();
  backend.onMessage = async (exchange) => {
    await gate.opened;
    exchange.end();
  };
  const { call, outcome } = post(upstream, "second");
  expect(call.forgoRepeat()).toBe(false);
  await until(() => backend.requests.length === 2, "the second message");
  expect(call.forgoRepeat()).toBe(true);
  gate.open();
  expect(await outcome).toMatchObject({ kind: "unknown", cause: "reset" });
  expect(backend.requests).toHaveLength(2);
});

test("a request that the backend does not read counts until it has been written", async () => {
  const sockets: Socket[] = [];
  const server = createServer({ pauseOnConnect: true }, (socket) => sockets.push(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.push(() => server.close());
  stack.push(() => sockets.map((socket) => socket.destroy()));
  const address = server.address();
  const port = typeof address === "object" ? address?.port : null;
  let heldBytes = 0;
  const hold = (byteCount: number) => {
    heldBytes += byteCount;
  };
  await using upstream = startUpstream([upstreamEntry(`http://127.0.0.1:${port}/{event}`)], { hold });
  const payload = new Uint8Array(32_000_000);
  const { call, outcome } = post(upstream, payload);
  await until(() => sockets.length === 1, "the backend's connection");
  expect(heldBytes).toBeGreaterThanOrEqual(payload.length);
  expect(call.forgoRepeat()).toBe(false);
  sockets[0]?.resume();
  await until(() => heldBytes === 0, "the request to be written");
  expect(call.forgoRepeat()).toBe(true);
  call.abandon();
  expect(await outcome).toMatchObject({ kind: "unknown", cause: "abandoned" });
  expect(call.forgoRepeat()).toBe(false);
});

test("a request whose connection cannot be made counts no longer than its call", async () => {
  let heldBytes = 0;
  let mostBytes = 0;
  const hold = (byteCount: number) => {
    heldBytes += byteCount;
    mostBytes = Math.max(mostBytes, heldBytes);
  };
  await using upstream = startUpstream([upstreamEntry("http://127.0.0.1:1/{event}")], { hold });
  const payload = new Uint8Array(1_000_000);
  const { outcome } = post(upstream, payload);
  expect(await outcome).toMatchObject({ kind: "not-sent" });
  expect(mostBytes).toBeGreaterThanOrEqual(payload.length);
  expect(heldBytes).toBe(0);
});
