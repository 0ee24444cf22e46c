import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { OPCODE, type OutgoingFrame } from "../support/frame-codec.ts";
import type { RecordedRequest } from "../support/raw-backend.ts";
import { ofConnection, Stack } from "../support/stack.ts";

/** Each cause of PROTOCOL.md, "The end", but for shutdown (shutdown.test.ts). */
setDefaultTimeout(60_000);

/** Expects one disconnect of the connection, and nothing of it behind. */
async function theDisconnect(stack: Stack, connectionId: string): Promise<RecordedRequest> {
  const disconnect = await stack.backend.next("disconnect", ofConnection(connectionId));
  await stack.cycle();
  expect(stack.backend.of("disconnect", ofConnection(connectionId)).length).toBe(1);
  expect(stack.backend.requests.filter(ofConnection(connectionId)).at(-1)).toBe(disconnect);
  return disconnect;
}

function expectClose(disconnect: RecordedRequest, code: number, reason: string): void {
  expect(disconnect.header("X-Hubwire-Close-Code")).toBe(String(code));
  expect(disconnect.header("X-Hubwire-Close-Reason")).toBe(reason);
  expect(disconnect.header("X-Hubwire-Connect-Outcome")).toBeUndefined();
}

describe("the client's close frame: its code and its reason", () => {
  test.each([
    [1000, "", ""],
    [1000, "done", "done"],
    [1001, "going away", "going away"],
    [3000, "x", "x"],
    [4999, "a, b: c % d", "a%2C b%3A c %25 d"],
    [4000, "grüß ✓", "gr%C3%BC%C3%9F %E2%9C%93"],
    [4000, "line\r\nX-ASRS-User-Id: root", "line%0D%0AX-ASRS-User-Id%3A root"],
    [4000, "http://a:1", "http://a:1"],
  ])("%d %j", async (code, reason, expected) => {
    await using stack = await Stack.start();
    const { client, connectionId } = await stack.connect();
    client.close(code, reason);
    expect((await client.closed()).code).toBe(code);
    expectClose(await theDisconnect(stack, connectionId), code, expected);
  });

  test("1005 where it had none", async () => {
    await using stack = await Stack.start();
    const { client, connectionId } = await stack.connect();
    client.close();
    expect(await client.closed()).toEqual({ code: 1005, reason: "" });
    await client.ended();
    expectClose(await theDisconnect(stack, connectionId), 1005, "");
  });
});

describe("network lost: 1006 and no reason", () => {
  test("reset", async () => {
    await using stack = await Stack.start();
    const { client, connectionId } = await stack.connect();
    client.reset();
    expectClose(await theDisconnect(stack, connectionId), 1006, "");
  });

  test("FIN without a close frame", async () => {
    await using stack = await Stack.start();
    const { client, connectionId } = await stack.connect();
    client.halfClose();
    expectClose(await theDisconnect(stack, connectionId), 1006, "");
  });

  test("cut in the middle of a frame", async () => {
    await using stack = await Stack.start();
    const { client, connectionId } = await stack.connect();
    client.send({ opcode: OPCODE.text, payload: "half", declaredBytes: 100 });
    client.halfClose();
    expectClose(await theDisconnect(stack, connectionId), 1006, "");
    expect(stack.targets()).toEqual(["/chat/api/connect", "/chat/api/disconnect"]);
  });
});

describe("pings", () => {
  const config = { websocket: { compression: false, pingAfterMs: 1000, pongTimeoutMs: 1000 } };

  test("one that is not answered: 1006 `ping timeout`", async () => {
    await using stack = await Stack.start({ config });
    const { client, connectionId } = await stack.connect();
    expect((await client.frame()).opcode).toBe(OPCODE.ping);
    expectClose(await theDisconnect(stack, connectionId), 1006, "ping timeout");
    await client.ended();
  });

  test("those that are answered keep the connection", async () => {
    await using stack = await Stack.start({ config });
    const { client, connectionId } = await stack.connect();
    for (let i = 0; i < 4; i++) {
      const ping = await client.frame();
      expect(ping.opcode).toBe(OPCODE.ping);
      client.send({ opcode: OPCODE.pong, payload: ping.payload });
    }
    client.text("still here");
    expect(await client.nextText()).toBe("still here");
    expect(stack.backend.of("disconnect", ofConnection(connectionId))).toEqual([]);
  });
});

describe("faults of the client: a code and a sentence", () => {
  const rows: readonly (readonly [string, number, readonly OutgoingFrame[]])[] = [
    ["invalid UTF-8", 1007, [{ opcode: OPCODE.text, payload: Buffer.from([0xc3, 0x28]) }]],
    ["reserved opcode", 1002, [{ opcode: 3 }]],
    ["unmasked frame", 1002, [{ opcode: OPCODE.text, payload: "x", mask: false }]],
    ["message too big", 1009, [{ opcode: OPCODE.binary, payload: Buffer.alloc(101) }]],
    ["close code that must not be sent", 1002, [{ opcode: OPCODE.close, payload: Buffer.from([3, 237]) }]],
    ["close reason that is no UTF-8", 1007, [{ opcode: OPCODE.close, payload: Buffer.from([3, 232, 0xff]) }]],
  ];
  test.each(rows)("%s: %d", async (_what, code, frames) => {
    await using stack = await Stack.start({ config: { limits: { maxMessageBytes: 100 } } });
    const { client, connectionId } = await stack.connect();
    client.send(...frames);
    expect((await client.closed()).code).toBe(code);
    await client.ended();
    const disconnect = await theDisconnect(stack, connectionId);
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe(String(code));
    expect(disconnect.header("X-Hubwire-Close-Reason")).toMatch(/\w+ \w+/);
    expect(stack.targets()).toEqual(["/chat/api/connect", "/chat/api/disconnect"]);
  });
});

describe("rate limit: 1008 `rate limited`", () => {
  test.each([
    ["messagesPerSecond", { messagesPerSecond: 5 }, "m", 100],
    ["bytesPerSecond", { bytesPerSecond: 2000 }, "b".repeat(500), 60],
  ])("%s", async (_what, limits, payload, count) => {
    await using stack = await Stack.start({ config: { limits } });
    stack.backend.onMessage = (exchange) =>
      exchange.request.target.includes("/cycle/")
        ? exchange.reply(200, [], exchange.request.body)
        : exchange.reply(204);
    const { client, connectionId } = await stack.connect();
    client.text(...Array.from({ length: count }, () => payload));
    expect(await client.closed()).toEqual({ code: 1008, reason: "rate limited" });
    expectClose(await theDisconnect(stack, connectionId), 1008, "rate limited");
    const posted = stack.backend.of("message", ofConnection(connectionId)).length;
    expect(posted).toBeGreaterThan(0);
    expect(posted).toBeLessThan(count);
  });

  test("0 is no limit", async () => {
    await using stack = await Stack.start({ config: { limits: { messagesPerSecond: 0, bytesPerSecond: 0 } } });
    const { client } = await stack.connect();
    client.text(...Array.from({ length: 200 }, (_, i) => String(i)));
    for (let i = 0; i < 200; i++) expect(await client.nextText()).toBe(String(i));
  });
});

test("slow consumer: 1013 `slow consumer` when the answers are not read", async () => {
  await using stack = await Stack.start({ config: { limits: { maxOutboxBytes: 65_536 } } });
  const big = Buffer.alloc(500_000, "a");
  stack.backend.onMessage = (exchange) =>
    exchange.request.target.includes("/cycle/")
      ? exchange.reply(200, [], exchange.request.body)
      : exchange.reply(200, [], big);
  const { client, connectionId } = await stack.connect();
  client.pauseReading();
  client.text(...Array.from({ length: 60 }, (_, i) => String(i)));
  expectClose(await theDisconnect(stack, connectionId), 1013, "slow consumer");
});

test("the disconnect carries the headers that the connection had last", async () => {
  await using stack = await Stack.start();
  const { client, connect, connectionId } = await stack.connect({ path: "/ws/client/hubs/chat?room=1" });
  client.close(1000);
  const disconnect = await theDisconnect(stack, connectionId);
  for (const name of ["X-ASRS-Hub", "X-ASRS-Connection-Id", "X-ASRS-User-Claims", "X-ASRS-Client-Query"]) {
    expect(disconnect.header(name)).toBe(connect.header(name));
  }
  for (const name of ["X-ASRS-Signature", "X-Forwarded-For"])
    expect(disconnect.header(name)).toBe(connect.header(name));
  expect(disconnect.header("X-ASRS-User-Id")).toBe("alice");
  expect(disconnect.header("X-Hubwire-Event-Id")).not.toBe(connect.header("X-Hubwire-Event-Id"));
  expect(connect.header("X-Hubwire-Close-Code")).toBeUndefined();
});
