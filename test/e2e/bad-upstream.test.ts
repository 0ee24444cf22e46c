import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { gzipSync } from "node:zlib";
import { acceptAs, type Exchange, RawBackend, type Script } from "../support/raw-backend.ts";
import { jsonError, Stack } from "../support/stack.ts";

/** Bad upstreams: the client gets a clear answer, and the gateway serves on. */
setDefaultTimeout(60_000);

const USER = "X-ASRS-User-Id: alice";
/** Becomes 64 MiB when it is decoded. */
const BOMB = gzipSync(Buffer.alloc(67_108_864));
const HUNDRED = Array.from({ length: 100 }, (_, i) => `X-Header-${i}: value ${i}`);

/** Writes until the caller hangs up, as fast as it reads. */
function endless(start: string, piece: string): Script {
  return async (exchange: Exchange) => {
    exchange.raw(start);
    let gone = false;
    void exchange.callerGone.then(() => {
      gone = true;
    });
    const bytes = Buffer.from(piece);
    while (!gone && exchange.socket.writable) {
      if (exchange.socket.write(bytes)) await new Promise(setImmediate);
      else await Promise.race([exchange.callerGone, new Promise((resolve) => exchange.socket.once("drain", resolve))]);
    }
  };
}

const chunk = `400\r\n${"x".repeat(1024)}\r\n`;
const ok = `HTTP/1.1 200 OK\r\n${USER}\r\n`;

describe("on connect", () => {
  const rows: readonly (readonly [string, readonly number[], boolean, Script])[] = [
    ["garbage", [502], true, (x) => x.raw("\u0000\u0001garbage\r\n\r\n")],
    ["garbage without an end of line", [502, 504], true, (x) => x.raw("garbage")],
    ["an answer that never comes", [504], true, async (x) => void (await x.callerGone)],
    ["an endless body", [502], true, endless(`${ok}Transfer-Encoding: chunked\r\n\r\n`, chunk)],
    ["an endless body of no length", [502], true, endless(`${ok}\r\n`, "x".repeat(4096))],
    ["an endless head", [502], true, endless(ok, `X-More: ${"y".repeat(1000)}\r\n`)],
    ["an endless first line", [502], true, endless("HTTP/1.1 200 ", "z".repeat(4096))],
    ["zstd", [502], true, (x) => x.reply(200, [USER, "Content-Encoding: zstd"], "hello")],
    ["a bomb", [502], true, (x) => x.reply(200, [USER, "Content-Encoding: gzip"], BOMB)],
    ["2 MiB after a 200", [502], true, (x) => x.reply(200, [USER], Buffer.alloc(2_097_152, "b"))],
    ["two lengths that differ", [502], true, (x) => x.raw(`${ok}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`)],
    ["a negative length", [502], true, (x) => x.raw(`${ok}Content-Length: -1\r\n\r\n`)],
    ["an invalid chunk size", [502], true, (x) => x.raw(`${ok}Transfer-Encoding: chunked\r\n\r\nzz\r\n`)],
    ["a header line without a colon", [502], true, (x) => x.raw(`${ok}no colon here\r\nContent-Length: 0\r\n\r\n`)],
    ["HTTP/2's first line", [502], true, (x) => x.raw(`HTTP/2 200\r\n${USER}\r\n\r\n`)],
  ];
  test.each(rows)("%s: %j, and a disconnect follows", async (_what, statuses, follows, script) => {
    await using stack = await Stack.start({ upstreams: [{ timeoutMs: 2000 }] });
    stack.backend.onConnect = script;
    const answer = await (await stack.request()).answer();
    expect(statuses).toContain(answer.status);
    jsonError(answer.body);
    if (follows) await stack.backend.next("disconnect");
    stack.behave();
    await stack.cycle();
    expect(stack.targets()).toEqual(["/chat/api/connect", "/chat/api/disconnect"]);
  });

  test("a 200 that names another event: 502, and a disconnect that says that the outcome is unknown", async () => {
    await using stack = await Stack.start();
    stack.backend.onConnect = (x) => x.reply(200, [USER, "X-Hubwire-Event-Id: another.connect"], "for another");
    const answer = await (await stack.request()).answer();
    expect([answer.status, jsonError(answer.body).code]).toEqual([502, "upstream_failed"]);
    const disconnect = await stack.backend.next("disconnect");
    expect(disconnect.header("X-Hubwire-Connect-Outcome")).toBe("unknown");
    expect(disconnect.header("X-ASRS-User-Id")).toBe("");
    expect(disconnect.connection).not.toBe(stack.backend.requests[0]?.connection);
  });

  test("100 headers are no fault: 101, or the refusal with all of them", async () => {
    await using stack = await Stack.start();
    stack.backend.onConnect = acceptAs("alice", HUNDRED);
    const { client } = await stack.connect();
    client.text("hello");
    expect(await client.nextText()).toBe("hello");
    stack.backend.onConnect = (exchange) => exchange.reply(403, HUNDRED, "no");
    const answer = await (await stack.request()).answer();
    expect(answer.status).toBe(403);
    for (const [i] of HUNDRED.entries()) expect(answer.head.all(`X-Header-${i}`)).toEqual([`value ${i}`]);
  });

  test.each([301, 302, 303, 307, 308])(
    "%d with a Location to another host: 502, and it is not followed",
    async (status) => {
      await using elsewhere = await RawBackend.start();
      await using stack = await Stack.start();
      stack.backend.onConnect = (exchange) =>
        exchange.reply(status, [`Location: ${elsewhere.url}/x/api/connect`, USER]);
      const answer = await (await stack.request()).answer();
      expect(answer.status).toBe(502);
      jsonError(answer.body);
      expect(answer.head.all("location")).toEqual([]);
      stack.behave();
      await stack.cycle();
      expect(stack.targets()).toEqual(["/chat/api/connect"]);
      expect(elsewhere.connectionCount).toBe(0);
    },
  );

  test("bytes behind the answer are no answer to the next call", async () => {
    await using stack = await Stack.start();
    stack.backend.onConnect = (exchange) =>
      exchange.raw(
        `${ok}Content-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nX-ASRS-User-Id: smuggled\r\nContent-Length: 8\r\n\r\nsmuggled`,
      );
    const { client } = await stack.connect();
    client.text("question");
    expect(await client.nextText()).toBe("question");
    stack.behave();
    await stack.cycle();
  });
});

describe("on message", () => {
  const rows: readonly (readonly [string, Script])[] = [
    ["garbage", (x) => x.raw("\u0000\u0001garbage\r\n\r\n")],
    ["an answer that never comes", async (x) => void (await x.callerGone)],
    ["an endless body", endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk)],
    ["an endless head", endless("HTTP/1.1 200 OK\r\n", `X-More: ${"y".repeat(1000)}\r\n`)],
    ["zstd", (x) => x.reply(200, ["Content-Encoding: zstd"], "hello")],
    ["a bomb", (x) => x.reply(200, ["Content-Encoding: gzip"], BOMB)],
    ["2 MiB", (x) => x.reply(200, [], Buffer.alloc(2_097_152, "b"))],
    ["another message's answer", (x) => x.reply(200, ["X-Hubwire-Event-Id: another.1"], "for another")],
  ];
  test.each(rows)("%s: 1011, then the disconnect", async (_what, script) => {
    await using stack = await Stack.start({ upstreams: [{ timeoutMs: 2000 }] });
    const { client } = await stack.connect();
    stack.backend.onMessage = script;
    client.text("question");
    expect(await client.closed()).toEqual({ code: 1011, reason: "upstream unavailable" });
    await stack.backend.next("disconnect");
    stack.behave();
    await stack.cycle();
    expect(stack.targets()).toEqual(["/chat/api/connect", "/chat/api/message", "/chat/api/disconnect"]);
  });

  test("a redirect is an answer like any other, and is not followed", async () => {
    await using elsewhere = await RawBackend.start();
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    stack.backend.onMessage = (exchange) => exchange.reply(307, [`Location: ${elsewhere.url}/`], "moved");
    client.text("question");
    expect(await client.nextText()).toBe("moved");
    expect(elsewhere.connectionCount).toBe(0);
  });

  test("100 headers are no fault", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    stack.backend.onMessage = (exchange) => exchange.reply(200, HUNDRED, "answer");
    client.text("question");
    expect(await client.nextText()).toBe("answer");
  });
});

test("a disconnect that is answered badly does no harm", async () => {
  await using stack = await Stack.start({ upstreams: [{ timeoutMs: 1000 }] });
  for (const script of [
    (x: Exchange) => x.raw("garbage\r\n\r\n"),
    (x: Exchange) => x.reset(),
    (x: Exchange) => x.reply(500),
  ]) {
    stack.backend.onDisconnect = script;
    const { client } = await stack.connect();
    client.close();
    await stack.backend.next("disconnect");
  }
  stack.behave();
  const { client } = await stack.connect();
  client.text("fine");
  expect(await client.nextText()).toBe("fine");
});
