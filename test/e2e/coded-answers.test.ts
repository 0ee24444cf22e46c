import { expect, setDefaultTimeout, test } from "bun:test";
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from "node:zlib";
import { acceptAs } from "../support/raw-backend.ts";
import { connectionIdOf, ofConnection, Stack } from "../support/stack.ts";

/** Backends behind a framework or proxy that compresses, though hubwire asks for `identity`. */
setDefaultTimeout(60_000);

const CODINGS = [
  ["gzip", gzipSync],
  ["deflate", deflateSync],
  ["deflate", deflateRawSync],
  ["br", brotliCompressSync],
] as const;

test.each(CODINGS)("%s (%#): the client gets what was coded, as text and as bytes, in order", async (coding, code) => {
  await using stack = await Stack.start();
  const line = `Content-Encoding: ${coding}`;
  stack.backend.onConnect = acceptAs("alice", [line], code("willkommen, Günter"));
  stack.backend.onMessage = (exchange) => {
    const { body, head } = exchange.request;
    const type = head.all("content-type")[0] ?? "";
    // Every other answer is not coded: it must not overtake the one before it.
    const isCoded = body.length % 2 === 0;
    exchange.reply(
      isCoded ? 200 : 404,
      [`Content-Type: ${type}`, ...(isCoded ? [line] : [])],
      isCoded ? code(body) : body,
    );
  };
  const { client } = await stack.connect();
  expect(await client.nextText()).toBe("willkommen, Günter");
  const texts = Array.from({ length: 20 }, (_, i) => `${i}${"x".repeat(i * 100)}`);
  client.text(...texts);
  for (const text of texts) expect(await client.nextText()).toBe(text);
});

test("a disconnect that is answered with a coded body is done", async () => {
  await using stack = await Stack.start();
  stack.backend.onDisconnect = (exchange) => exchange.reply(200, ["Content-Encoding: zstd"], "?");
  const { client, connectionId } = await stack.connect();
  client.close();
  await stack.backend.next("disconnect");
  stack.behave();
  await stack.cycle();
  expect(stack.backend.of("disconnect", ofConnection(connectionId)).length).toBe(1);
  expect(stack.gateway.logLines().filter(({ level }) => level === "warn")).toEqual([]);
});

test.each([
  ["too large", "Content-Length: 1001", "x"],
  ["too large when decoded", "Content-Encoding: gzip", gzipSync(Buffer.alloc(1001))],
  ["of an unknown coding", "Content-Encoding: zstd", "hello"],
] as const)("a 2xx to connect whose body is %s: the disconnect has the user of its head", async (_what, line, body) => {
  await using stack = await Stack.start({ config: { limits: { maxResponseBytes: 1000 } } });
  stack.backend.onConnect = (exchange) => {
    const length = line.startsWith("Content-Length") ? [] : [`Content-Length: ${body.length}`];
    exchange.raw(["HTTP/1.1 200 OK", "X-ASRS-User-Id: Günter", line, ...length, "", ""].join("\r\n"));
    exchange.raw(body);
  };
  expect((await (await stack.request()).answer()).status).toBe(502);
  const connect = await stack.backend.next("connect");
  const disconnect = await stack.backend.next("disconnect", ofConnection(connectionIdOf(connect)));
  // It came in Latin-1, and goes back in Latin-1: one char a byte.
  expect(disconnect.header("X-ASRS-User-Id")).toBe("Günter");
  expect(disconnect.header("X-Hubwire-Connect-Outcome")).toBeUndefined();
});
