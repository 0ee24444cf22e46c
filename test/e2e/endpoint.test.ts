import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Gate } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { acceptAs } from "../support/raw-backend.ts";
import type { ClientOptions } from "../support/raw-websocket.ts";
import { jsonError, Stack } from "../support/stack.ts";
import { secondsFromNow, signToken } from "../support/tokens.ts";

/** PROTOCOL.md, "Client endpoint": the client endpoint's URLs and the order of its checks. */
setDefaultTimeout(60_000);

const longest = `h${"x".repeat(127)}`;

describe("every URL form", () => {
  test.each([
    ["/ws/client", "_default"],
    ["/ws/client/", "_default"],
    ["/ws/client?hub=chat", "chat"],
    ["/ws/client?hubs=chat", "chat"],
    ["/ws/client/?hub=chat", "chat"],
    ["/ws/client?hub=", "_default"],
    ["/ws/client?hubs=", "_default"],
    ["/ws/client?other=1", "_default"],
    ["/ws/client?a=b&hub=chat&c=d", "chat"],
    ["/ws/client/hubs/chat", "chat"],
    ["/ws/client/hubs/chat/", "chat"],
    ["/ws/client/hubs/_default", "_default"],
    ["/ws/client/hubs/chat?hub=other", "chat"],
    ["/ws/client/hubs/ChAt", "chat"],
    ["/ws/client/hubs/c%68at", "chat"],
    ["/ws/client?hub=c%68at", "chat"],
    ["/ws/client/hubs/a_b.c", "a_b.c"],
    ["/ws/client/hubs/a%2Cb%5B1%5D", "a,b[1]"],
    [`/ws/client/hubs/${longest}`, longest],
    ["/client", "_default"],
    ["/client/", "_default"],
    ["/client?hub=chat", "chat"],
    ["/client?hubs=chat", "chat"],
    ["/client/hubs/chat", "chat"],
    ["/client/hubs/chat/", "chat"],
  ])("%s is the hub %s", async (path, hub) => {
    await using stack = await Stack.start();
    const { client, connect } = await stack.connect({ path });
    expect(connect.header("X-ASRS-Hub")).toBe(hub);
    expect(connect.target).toBe(`/${encodeURIComponent(hub)}/api/connect`);
    client.text("hello");
    expect(await client.nextText()).toBe("hello");
  });
});

describe("an invalid hub name: 400", () => {
  test.each([
    "/ws/client/hubs/1chat",
    "/ws/client/hubs/-chat",
    "/ws/client/hubs/_chat",
    "/ws/client/hubs/a%20b",
    "/ws/client/hubs/a%2Fb",
    "/ws/client/hubs/caf%C3%A9",
    "/ws/client/hubs/a%00b",
    "/ws/client/hubs/a%0D%0Ab",
    "/ws/client/hubs/%zz",
    `/ws/client/hubs/h${"x".repeat(128)}`,
    "/ws/client?hub=1chat",
    "/ws/client?hubs=a%20b",
    "/ws/client?hub=a&hub=b",
    "/ws/client?hub=a&hub=a",
    "/ws/client?hubs=a&hubs=b",
    "/client/hubs/a%3Ab",
  ])("%s", async (path) => {
    await using stack = await Stack.start();
    const answer = await (await stack.request({ path })).answer();
    expect(answer.status).toBe(400);
    jsonError(answer.body);
    expect(answer.head.all("content-length")).toEqual([String(answer.body.length)]);
    await stack.cycle();
    expect(stack.targets()).toEqual([]);
  });
});

describe("a request that is no WebSocket upgrade: 426 with a sentence that says so", () => {
  test.each([
    ["no Upgrade header", { without: ["upgrade"] }],
    ["neither Upgrade nor Connection", { without: ["upgrade", "connection"] }],
    ["another protocol", { without: ["upgrade"], lines: ["Upgrade: h2c"] }],
    ["POST", { method: "POST", lines: ["Content-Length: 0"] }],
  ])("%s", async (_what, options) => {
    await using stack = await Stack.start();
    const answer = await (await stack.request(options)).answer();
    expect(answer.status).toBe(426);
    expect(jsonError(answer.body).message).toMatch(/websocket/i);
    await stack.cycle();
    expect(stack.targets()).toEqual([]);
  });

  const odd: readonly (readonly [string, Omit<ClientOptions, "port">])[] = [
    ["HTTP/1.0 as its clients send it, without Host", { httpVersion: "1.0", without: ["host"] }],
    ["a Connection header without upgrade", { without: ["connection"], lines: ["Connection: close"] }],
    ["no Connection header", { without: ["connection"] }],
    ["a body", { lines: ["Content-Length: 5"] }],
    ["a chunked body", { lines: ["Transfer-Encoding: chunked"] }],
  ];
  test.each(odd)("an upgrade with %s is refused", async (_what, options) => {
    await using stack = await Stack.start();
    const client = await stack.request(options);
    if (options.lines?.[0]?.startsWith("Content-Length")) client.write("hello");
    if (options.lines?.[0]?.startsWith("Transfer")) client.write("5\r\nhello\r\n0\r\n\r\n");
    const status = (await client.answer()).status;
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(500);
    await stack.cycle();
    expect(stack.targets()).toEqual([]);
  });
});

describe("Origin: 403", () => {
  const config = {
    allowedOrigins: ["https://app.example", "http://other.example:8080"],
    hubs: { Open: { allowedOrigins: ["*"] }, strict: { allowedOrigins: ["https://only.example"] } },
  };
  test.each([
    ["/ws/client/hubs/chat", "https://app.example", 101],
    ["/ws/client/hubs/chat", "http://other.example:8080", 101],
    ["/ws/client/hubs/chat", "https://evil.example", 403],
    ["/ws/client/hubs/chat", "http://app.example", 403],
    ["/ws/client/hubs/chat", "https://app.example.evil.example", 403],
    ["/ws/client/hubs/chat", "https://app.example:444", 403],
    ["/ws/client/hubs/chat", "null", 403],
    ["/ws/client/hubs/open", "https://evil.example", 101],
    ["/ws/client/hubs/STRICT", "https://app.example", 403],
    ["/ws/client/hubs/Strict", "https://only.example", 101],
  ])("%s from %s: %d", async (path, origin, status) => {
    await using stack = await Stack.start({ config: { ...config, hubs: { ...config.hubs, cycle: {} } } });
    const answer = await (await stack.request({ path, lines: [`Origin: ${origin}`] })).answer();
    expect(answer.status).toBe(status);
    if (status === 403) {
      jsonError(answer.body);
      await stack.cycle();
      expect(stack.targets()).toEqual([]);
    }
  });
});

describe("limits at the door", () => {
  test("maxConnections: the one at the limit is let in, the next gets 503, and a place that is freed is given away", async () => {
    await using stack = await Stack.start({ config: { limits: { maxConnections: 2 } } });
    const { client, connectionId } = await stack.connect();
    await stack.connect();
    const answer = await (await stack.request()).answer();
    expect(answer.status).toBe(503);
    jsonError(answer.body);
    client.close();
    await client.closed();
    await stack.backend.next("disconnect", (r) => r.header("X-ASRS-Connection-Id") === connectionId);
    await stack.open();
    expect(stack.backend.of("connect").length).toBe(3);
  });

  test("maxPendingUpgrades: the next gets 503 while the upstream has not answered", async () => {
    await using stack = await Stack.start({ config: { limits: { maxPendingUpgrades: 1 } } });
    const gate = new Gate();
    stack.backend.onConnect = async (exchange) => {
      await gate.opened;
      acceptAs("alice")(exchange);
    };
    const waiting = await stack.request();
    await stack.backend.next("connect");
    const answer = await (await stack.request()).answer();
    expect(answer.status).toBe(503);
    jsonError(answer.body);
    gate.open();
    await waiting.upgraded();
    await stack.open();
    expect(stack.backend.of("connect").length).toBe(2);
  });

  test("connectsPerSecondPerAddress: 429 for that address, and others are let in", async () => {
    await using stack = await Stack.start({ config: { limits: { connectsPerSecondPerAddress: 1 } } });
    const statuses: number[] = [];
    for (let i = 0; i < 10; i++) {
      const client = await stack.request({ localAddress: "127.0.0.7" });
      const answer = await client.answer();
      statuses.push(answer.status);
      if (answer.status === 429) jsonError(answer.body);
    }
    expect(statuses[0]).toBe(101);
    expect(statuses).toContain(429);
    expect((await (await stack.request({ localAddress: "127.0.0.8" })).answer()).status).toBe(101);
    expect(stack.backend.of("connect").length).toBe(statuses.filter((status) => status === 101).length + 1);
  });
});

describe("the order of the checks", () => {
  const badOrigin = "Origin: https://evil.example";
  const badToken = "Authorization: Bearer nonsense";
  const config = { allowedOrigins: ["https://app.example"], limits: { maxConnections: 1 } };

  test.each([
    ["hub name 400 before 426", "/ws/client/hubs/1", ["upgrade"], [badOrigin, badToken], 400],
    ["426 before Origin 403", "/ws/client/hubs/chat", ["upgrade"], [badOrigin, badToken], 426],
    ["Origin 403 before the connection limit", "/ws/client/hubs/chat", [], [badOrigin, badToken], 403],
    ["the connection limit 503 before the token", "/ws/client/hubs/chat", [], [badToken], 503],
  ])("%s", async (_what, path, without, lines, status) => {
    await using stack = await Stack.start({ config });
    await stack.connect({ path: "/ws/client/hubs/full" });
    const answer = await (await stack.request({ path, without, lines })).answer();
    expect(answer.status).toBe(status);
    jsonError(answer.body);
    expect(stack.targets()).toEqual(["/full/api/connect"]);
  });

  test("the rate 429 before the token 401, the token 401 before the upstream", async () => {
    await using stack = await Stack.start({ config: { limits: { connectsPerSecondPerAddress: 1 } } });
    const statuses: number[] = [];
    for (let i = 0; i < 10; i++) statuses.push((await (await stack.request({ lines: [badToken] })).answer()).status);
    expect(statuses[0]).toBe(401);
    expect(statuses).toContain(429);
    const aud = `http://127.0.0.1:${stack.port}/client/hubs/chat`;
    const token = signToken({ sub: "a", aud, exp: secondsFromNow(60) }, { key: KEYS.primary });
    const good = { localAddress: "127.0.0.5", lines: [`Authorization: Bearer ${token}`] };
    expect((await (await stack.request(good)).answer()).status).toBe(101);
    expect(stack.targets()).toEqual(["/chat/api/connect"]);
  });
});

test("health answers HEAD and GET without a token", async () => {
  await using stack = await Stack.start({ config: { anonymous: "deny" } });
  for (const method of ["HEAD", "GET"]) {
    const response = await fetch(`http://127.0.0.1:${stack.port}/api/health`, { method });
    expect(response.status).toBe(200);
    await response.arrayBuffer();
  }
  expect(stack.backend.requests).toEqual([]);
});
