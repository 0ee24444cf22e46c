import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { ClientOptions, RawWebSocket } from "../support/raw-websocket.ts";
import { jsonError, Stack } from "../support/stack.ts";

/** Heads of requests: their limits are Bun's. What is past them is answered with 431 before hubwire sees it. */
setDefaultTimeout(60_000);

/** Request line, header lines and the empty line together. */
const MAX_HEAD_BYTES = 16_384;
/** `Host` counts. */
const MAX_HEADERS = 198;
/** The claims of a token have a limit of their own, test/e2e/claims.test.ts. */
const USUAL_HEADERS = 5;

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start();
});
afterAll(async () => {
  await stack.stop();
});

type Asked = Omit<ClientOptions, "port">;

/** A handshake whose head has exactly this many bytes: `pad` says where the filling goes. */
async function askWith(byteCount: number, pad: (filling: string) => Asked): Promise<RawWebSocket> {
  const client = await stack.dial();
  const bytesOf = (filling: string) => client.handshake({ port: stack.port, ...pad(filling) });
  const head = bytesOf("x".repeat(byteCount - bytesOf("").length));
  expect(head.length).toBe(byteCount);
  client.write(head);
  return client;
}

async function expectTooLarge(client: RawWebSocket): Promise<void> {
  const answer = await client.answer();
  expect(answer.status).toBe(431);
  expect(answer.head.all("connection")).toEqual(["close"]);
  await client.ended();
}

const WAYS: readonly (readonly [string, (filling: string) => Asked])[] = [
  ["a header", (filling) => ({ lines: [`X-Filling: ${filling}`] })],
  ["the query", (filling) => ({ path: `/ws/client/hubs/chat?filling=${filling}` })],
];

describe.each(WAYS)("a head filled by %s", (_what, pad) => {
  test("of 16,384 bytes is taken, of 16,385 is 431", async () => {
    await (await askWith(MAX_HEAD_BYTES, pad)).upgraded();
    const before = stack.backend.of("connect").length;
    await expectTooLarge(await askWith(MAX_HEAD_BYTES + 1, pad));
    await expectTooLarge(await askWith(8 * MAX_HEAD_BYTES, pad));
    await stack.cycle();
    expect(stack.backend.of("connect").length).toBe(before + 1);
  });
});

test("a query of the greatest length reaches the backend whole", async () => {
  const query = "q".repeat(16_000);
  await stack.open({ path: `/ws/client/hubs/whole?${query}` });
  const connect = await stack.backend.next("connect", ({ target }) => target.startsWith("/whole/"));
  expect(connect.header("X-ASRS-Client-Query")).toBe(query);
});

test("a path of the greatest length is no hub, and answered by hubwire", async () => {
  const client = await askWith(MAX_HEAD_BYTES, (filling) => ({ path: `/ws/client/hubs/chat${filling}` }));
  const answer = await client.answer();
  expect(answer.status).toBe(400);
  expect(jsonError(answer.body).code).toBe("bad_hub");
});

test("198 headers are taken, 199 are 431", async () => {
  const headers = (count: number) => Array.from({ length: count - USUAL_HEADERS }, (_value, index) => `X-${index}: x`);
  await stack.open({ lines: headers(MAX_HEADERS) });
  await expectTooLarge(await stack.request({ lines: headers(MAX_HEADERS + 1) }));
  await stack.cycle();
});

test("a head that never ends is 431 once it is past the limit, in pieces too", async () => {
  const client = await stack.dial();
  client.write("GET /ws/client HTTP/1.1\r\nHost: a\r\nX-Endless: ");
  let sent = 0;
  const answered = client.answer();
  void answered.then(
    () => (sent = Number.POSITIVE_INFINITY),
    () => (sent = Number.POSITIVE_INFINITY),
  );
  // 4 MB: far beyond the limit and within what the kernel takes without a reader.
  for (; sent < 4_000_000; sent += 1000) {
    client.write("x".repeat(1000));
    await new Promise((next) => setImmediate(next));
  }
  expect((await answered).status).toBe(431);
  await client.ended();
  await stack.cycle();
});

test("the API's heads have the same limit", async () => {
  const post = (filling: string): Asked => ({
    method: "POST",
    path: "/ws/api/hubs/chat/messages",
    lines: ["Content-Length: 0", `X-Filling: ${filling}`],
  });
  expect((await (await askWith(MAX_HEAD_BYTES, post)).answer()).status).toBe(401);
  await expectTooLarge(await askWith(MAX_HEAD_BYTES + 1, post));
});
