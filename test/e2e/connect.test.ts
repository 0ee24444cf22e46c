import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { gzipSync } from "node:zlib";
import { Gate } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { acceptAs, never, type RecordedRequest, type Script, unusedPort } from "../support/raw-backend.ts";
import { connectionIdOf, jsonError, ofConnection, Stack } from "../support/stack.ts";
import { secondsFromNow, signToken } from "../support/tokens.ts";

/** The outcomes of PROTOCOL.md, "Connect", and whether a disconnect follows. */
setDefaultTimeout(60_000);

const OFFER = "Sec-WebSocket-Protocol: chat.v2, chat.v1";
const ONLY_CONNECT = ["/chat/api/connect"];
const WITH_DISCONNECT = ["/chat/api/connect", "/chat/api/disconnect"];

/** Asks for an upgrade that must be refused by the gateway itself, and returns the status. */
async function refused(stack: Stack, lines: readonly string[] = []): Promise<number> {
  const answer = await (await stack.request({ lines })).answer();
  jsonError(answer.body);
  expect(answer.head.all("content-length")).toEqual([String(answer.body.length)]);
  expect(answer.head.all("content-type").join()).toStartWith("application/json");
  return answer.status;
}

/** Expects the disconnect of a handshake that failed after a 2xx, and nothing behind it. */
async function handshakeFailed(stack: Stack, outcome: "unknown" | undefined): Promise<RecordedRequest> {
  const disconnect = await stack.backend.next("disconnect");
  expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1006");
  expect(disconnect.header("X-Hubwire-Close-Reason")).toBe("handshake failed");
  expect(disconnect.header("X-Hubwire-Connect-Outcome")).toBe(outcome);
  const [connect] = stack.backend.of("connect");
  expect(connect?.header("X-ASRS-Connection-Id")).toBe(connectionIdOf(disconnect));
  stack.behave();
  await stack.cycle();
  expect(stack.targets()).toEqual(WITH_DISCONNECT);
  return disconnect;
}

/** Expects that no disconnect was sent: all that the gateway sent before a whole later cycle has arrived by then. */
async function nothingMore(stack: Stack, expected: readonly string[] = ONLY_CONNECT): Promise<void> {
  stack.behave();
  await stack.cycle();
  expect(stack.targets()).toEqual([...expected]);
}

describe("2xx, user known", () => {
  test("gives 101 and a live connection when the header names the user", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    client.text("live");
    expect(await client.nextText()).toBe("live");
  });

  test("gives 101 when only the claims name the user, and no disconnect while the connection lives", async () => {
    await using stack = await Stack.start();
    stack.backend.onConnect = (exchange) => exchange.reply(200);
    const aud = `http://127.0.0.1:${stack.port}/ws/client/hubs/chat`;
    const token = signToken({ sub: "alice", aud, exp: secondsFromNow(600) }, { key: KEYS.primary });
    await stack.open({ path: `/ws/client/hubs/chat?access_token=${token}` });
    await nothingMore(stack);
  });
});

test("2xx, no user id anywhere: 401, and a disconnect follows", async () => {
  await using stack = await Stack.start();
  stack.backend.onConnect = acceptAs("");
  expect(await refused(stack)).toBe(401);
  const disconnect = await handshakeFailed(stack, undefined);
  expect(disconnect.header("X-ASRS-User-Id")).toBe("");
});

describe("2xx with a wrong Sec-WebSocket-Protocol: 502, and a disconnect follows", () => {
  test.each([
    ["not among those offered", ["Sec-WebSocket-Protocol: chat.v3"], [OFFER]],
    ["chosen where none was offered", ["Sec-WebSocket-Protocol: chat.v1"], []],
    ["blank", ["Sec-WebSocket-Protocol: "], [OFFER]],
    ["more than one in a line", ["Sec-WebSocket-Protocol: chat.v1, chat.v2"], [OFFER]],
    ["more than one line", ["Sec-WebSocket-Protocol: chat.v1", "Sec-WebSocket-Protocol: chat.v2"], [OFFER]],
    ["other case than offered", ["Sec-WebSocket-Protocol: CHAT.V1"], [OFFER]],
  ])("%s", async (_what, answerLines, requestLines) => {
    await using stack = await Stack.start();
    stack.backend.onConnect = acceptAs("alice", answerLines);
    expect(await refused(stack, requestLines)).toBe(502);
    await handshakeFailed(stack, undefined);
  });
});

describe("2xx status, then a body or header that is wrong", () => {
  const limits = { limits: { maxResponseBytes: 1000 } };
  const user = "X-ASRS-User-Id: alice";
  const rows: readonly (readonly [string, Script])[] = [
    ["declared over maxResponseBytes", (x) => x.reply(200, [user], Buffer.alloc(1001, "x"))],
    ["chunked over maxResponseBytes", (x) => x.raw(chunked(user, "3e9", "y".repeat(1001)))],
    ["cut off", (x) => cut(x, `HTTP/1.1 200 OK\r\n${user}\r\nContent-Length: 50\r\n\r\nonly this`)],
    ["chunked and cut off", (x) => cut(x, `HTTP/1.1 200 OK\r\n${user}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel`)],
    ["of an unknown coding", (x) => x.reply(200, [user, "Content-Encoding: zstd"], "hello")],
    ["of another coding than it says", (x) => x.reply(200, [user, "Content-Encoding: gzip"], "hello")],
    ["too large when decoded", (x) => x.reply(200, [user, "Content-Encoding: gzip"], gzipSync(Buffer.alloc(1001)))],
    ["user id with a control character", (x) => x.reply(200, ["X-ASRS-User-Id: a\u0001b"])],
    ["user id of 513 bytes", (x) => x.reply(200, [`X-ASRS-User-Id: ${"u".repeat(513)}`])],
    ["two different user ids", (x) => x.reply(200, [user, "X-ASRS-User-Id: bob"])],
    ["group of 513 bytes", (x) => x.reply(200, [user, `X-ASRS-Connection-Group: ${"g".repeat(513)}`])],
    ["group with a control character", (x) => x.reply(200, [user, "X-ASRS-Connection-Group: ok, b\u0007d"])],
  ];
  test.each(rows)("%s: 502, and a disconnect follows", async (_what, script) => {
    await using stack = await Stack.start({ config: limits });
    stack.backend.onConnect = script;
    expect(await refused(stack)).toBe(502);
    await handshakeFailed(stack, undefined);
  });

  test("late: 504, and a disconnect follows", async () => {
    await using stack = await Stack.start({ upstreams: [{ timeoutMs: 500 }] });
    stack.backend.onConnect = async (exchange) => {
      exchange.raw("HTTP/1.1 200 OK\r\nX-ASRS-User-Id: alice\r\nContent-Length: 10\r\n\r\nhalf");
      await exchange.callerGone;
    };
    expect(await refused(stack)).toBe(504);
    await handshakeFailed(stack, undefined);
  });

  test("a body of exactly maxResponseBytes and ids of exactly 512 bytes are let through", async () => {
    await using stack = await Stack.start({ config: limits });
    const lines = [`X-ASRS-Connection-Group: ${"g".repeat(512)}`];
    stack.backend.onConnect = acceptAs("u".repeat(512), lines, "b".repeat(1000));
    const client = await stack.open();
    expect(await client.nextText()).toBe("b".repeat(1000));
  });

  test("the same user id twice is one user id", async () => {
    await using stack = await Stack.start();
    stack.backend.onConnect = acceptAs("alice", ["X-ASRS-User-Id: alice"]);
    const { client } = await stack.connect();
    client.text("who");
    expect((await stack.backend.next("message")).header("X-ASRS-User-Id")).toBe("alice");
  });
});

describe("1xx, 3xx, 5xx: 502 and nothing more", () => {
  const rows: readonly (readonly [string, Script])[] = [
    ["101", (x) => x.raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")],
    ["301", (x) => x.reply(301, ["Location: http://127.0.0.1:1/"])],
    ["304", (x) => x.reply(304)],
    ["307", (x) => x.reply(307, ["Location: /elsewhere"])],
    ["500", (x) => x.reply(500, ["X-ASRS-User-Id: alice"], "stack trace")],
    ["503", (x) => x.reply(503, ["Retry-After: 7"])],
    ["599", (x) => x.reply(599)],
  ];
  test.each(rows)("%s", async (_status, script) => {
    await using stack = await Stack.start();
    stack.backend.onConnect = script;
    expect(await refused(stack)).toBe(502);
    await nothingMore(stack);
  });
});

test("the request was provably not sent: 502 and nothing more", async () => {
  const port = await unusedPort();
  await using stack = await Stack.start({
    upstreams: [{ hubPattern: "chat", eventPattern: "connect", urlTemplate: `http://127.0.0.1:${port}/{event}` }, {}],
  });
  expect(await refused(stack)).toBe(502);
  await nothingMore(stack, []);
});

describe("the request was sent and no status came: a disconnect follows, its outcome unknown", () => {
  const rows: readonly (readonly [string, number, Script])[] = [
    ["timeout", 504, never],
    ["half a status line, then nothing", 504, (x) => partly(x, "HTTP/1.1 2")],
    ["reset", 502, (x) => x.reset()],
    ["closed without a byte", 502, (x) => x.end()],
    ["garbage", 502, (x) => cut(x, "this is no HTTP at all\r\n\r\n")],
    ["garbage, kept open", 502, (x) => partly(x, "\u0016\u0003\u0001\u0002garbage\r\n\r\n")],
  ];
  test.each(rows)("%s: %d", async (_what, status, script) => {
    await using stack = await Stack.start({ upstreams: [{ timeoutMs: 1500 }] });
    stack.backend.onConnect = script;
    expect(await refused(stack)).toBe(status);
    await handshakeFailed(stack, "unknown");
  });
});

describe("503 with Retry-After and nothing more", () => {
  test("breaker open", async () => {
    await using failing = await Stack.start();
    failing.backend.onConnect = (exchange) => exchange.reset();
    const broken = { hubPattern: "chat", eventPattern: "connect", urlTemplate: `${failing.backend.url}/{event}` };
    const breaker = { failureRatio: 0.5, minCalls: 3, windowMs: 60_000 };
    await using stack = await Stack.start({ upstreams: [{ ...broken, breaker }, {}] });
    const statuses: number[] = [];
    for (let i = 0; i < 20 && statuses.at(-1) !== 503; i++) {
      const answer = await (await stack.request()).answer();
      jsonError(answer.body);
      statuses.push(answer.status);
      if (answer.status === 503) expect(answer.head.all("retry-after").join()).toMatch(/^[1-9]\d*$/);
    }
    expect(statuses).toEqual([502, 502, 502, 503]);
    // Each sent call, and none that was refused, is followed by its disconnect.
    for (const _sent of [1, 2, 3]) await stack.backend.next("disconnect");
    await nothingMore(stack, ["/chat/api/disconnect", "/chat/api/disconnect", "/chat/api/disconnect"]);
    expect(failing.backend.requests.length).toBe(3);
  });

  test("concurrency wait over", async () => {
    await using stack = await Stack.start({
      upstreams: [{ hubPattern: "chat", eventPattern: "connect", maxConcurrency: 1, maxWaitMs: 200 }, {}],
    });
    const gate = new Gate();
    stack.backend.onConnect = async (exchange) => {
      await gate.opened;
      acceptAs("alice")(exchange);
    };
    const first = await stack.request();
    await stack.backend.next("connect");
    const answer = await (await stack.request()).answer();
    expect(answer.status).toBe(503);
    jsonError(answer.body);
    expect(answer.head.all("retry-after").join()).toMatch(/^[1-9]\d*$/);
    gate.open();
    await first.upgraded();
    await nothingMore(stack);
  });

  test("a call that gets a place within maxWaitMs is sent", async () => {
    await using stack = await Stack.start({ upstreams: [{ maxConcurrency: 1, maxWaitMs: 20_000 }] });
    const gate = new Gate();
    stack.backend.onConnect = async (exchange) => {
      await gate.opened;
      acceptAs("alice")(exchange);
    };
    const clients = [await stack.request(), await stack.request(), await stack.request()];
    await stack.backend.next("connect");
    gate.open();
    for (const client of clients) await client.upgraded();
  });
});

describe("client gone before the answer (the call is not aborted)", () => {
  test.each([
    ["reset", 200],
    ["fin", 200],
    ["reset", 403],
    ["fin", 500],
  ] as const)("%s, then the upstream says %d", async (way, status) => {
    await using stack = await Stack.start();
    const gate = new Gate();
    let aborted = false;
    stack.backend.onConnect = async (exchange) => {
      void exchange.callerGone.then(() => {
        aborted = true;
      });
      await gate.opened;
      exchange.reply(status, ["X-ASRS-User-Id: alice"]);
    };
    const client = await stack.request();
    const connect = await stack.backend.next("connect");
    if (way === "reset") client.reset();
    else client.destroy();
    // A whole other life proves that the gateway has noticed and still waits.
    const held = stack.backend.onConnect;
    stack.behave();
    await stack.cycle();
    stack.backend.onConnect = held;
    expect(aborted).toBe(false);
    gate.open();
    if (status !== 200) return await nothingMore(stack);
    const disconnect = await stack.backend.next("disconnect", ofConnection(connectionIdOf(connect)));
    expect(disconnect.header("X-Hubwire-Connect-Outcome")).toBeUndefined();
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1006");
    await nothingMore(stack, WITH_DISCONNECT);
  });
});

describe("no upstream entry matches connect", () => {
  const others = [{ hubPattern: "cycle" }, { hubPattern: "chat", eventPattern: "message" }];
  const withDisconnect = [...others, { hubPattern: "chat", eventPattern: "disconnect" }];
  test.each([
    ["a token gives the user, an entry matches disconnect", true, withDisconnect, 101, ["/chat/api/disconnect"]],
    ["a token gives the user, none matches disconnect", true, others, 101, []],
    // Nobody was asked and nobody came in, so there is nothing to take leave of (decision 0007).
    ["no user, an entry matches disconnect", false, withDisconnect, 401, []],
    ["no user, none matches disconnect", false, others, 401, []],
  ] as const)("%s", async (_what, withToken, upstreams, status, expected) => {
    await using stack = await Stack.start({ upstreams });
    const aud = `http://127.0.0.1:${stack.port}/ws/client/hubs/chat`;
    const token = signToken({ sub: "alice", aud, exp: secondsFromNow(600) }, { key: KEYS.primary });
    const client = await stack.request({ lines: withToken ? [`Authorization: Bearer ${token}`] : [] });
    const answer = await client.answer();
    expect(answer.status).toBe(status);
    client.close();
    client.halfClose();
    await client.ended();
    if (expected.length > 0) await stack.backend.next("disconnect");
    await nothingMore(stack, expected);
  });
});

type Told = Parameters<Script>[0];

function cut(exchange: Told, text: string): void {
  exchange.raw(text);
  exchange.end();
}

async function partly(exchange: Told, text: string): Promise<void> {
  exchange.raw(text);
  await exchange.callerGone;
}

function chunked(line: string, hexSize: string, body: string): string {
  return `HTTP/1.1 200 OK\r\n${line}\r\nTransfer-Encoding: chunked\r\n\r\n${hexSize}\r\n${body}\r\n0\r\n\r\n`;
}
