import { expect, setDefaultTimeout, test } from "bun:test";
import { within } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { startGatewayProcess } from "../support/process.ts";
import { RawBackend } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { connectionIdOf, Stack } from "../support/stack.ts";
import { secondsFromNow, signToken } from "../support/tokens.ts";

/** What a gateway of its own process writes: JSON lines, with what failed and without a secret. */
setDefaultTimeout(90_000);

test("no token, key, query string or code= appears in what is printed, with any fault", async () => {
  await using backend = await RawBackend.start();
  const template = `${backend.url}/{hub}/api/{event}?code=c0de-of-the-hook`;
  await using gateway = await startGatewayProcess({
    through: "bin",
    config: {
      accessKeys: KEYS,
      hubs: { closed: { anonymous: "deny" } },
      upstreams: [
        { hubPattern: "dead", urlTemplate: "http://127.0.0.1:1/{event}?code=c0de-of-the-dead", timeoutMs: 500 },
        { urlTemplate: template, timeoutMs: 1000, auth: { type: "headers", headers: { "X-Key": "k3y-in-a-header" } } },
      ],
    },
  });
  const port = gateway.port;
  const claims = { sub: "alice", aud: `http://127.0.0.1:${port}/client/hubs/chat`, exp: secondsFromNow(600) };
  const token = signToken(claims, { key: KEYS.primary });
  const bad = signToken(claims, { key: "another" });
  const query = "query-of-the-client=s3cret-query";
  const path = (value: string): string => `/client/hubs/chat?${query}&access_token=${value}`;

  for (const options of [
    { path: path(bad) },
    { path: `${path(token)}&access_token=${token}` },
    { path: path(token), lines: [`Authorization: Bearer ${bad}`] },
    { path: `/client/hubs/closed?${query}` },
    { path: `/client/hubs/dead?${query}` },
    { path: `/client/hubs/no%20hub?${query}&access_token=${token}` },
    { path: path(token), without: ["upgrade"] },
  ]) {
    using client = await RawWebSocket.request({ port, ...options });
    expect((await client.answer()).status).toBeGreaterThanOrEqual(400);
  }

  // A life that ends by a failing upstream: the message and the disconnect cannot be delivered.
  using client = await RawWebSocket.open({ port, path: path(token) });
  const connectionId = connectionIdOf(await backend.next("connect"));
  backend.onMessage = (exchange) => exchange.reset();
  backend.onDisconnect = (exchange) => exchange.reset();
  client.text("s3cret-message");
  expect((await client.closed()).code).toBe(1011);
  await backend.next("disconnect");
  gateway.child.kill("SIGTERM");
  await within(gateway.exited, "the exit");

  const lines = gateway
    .stderr()
    .split("\n")
    .filter((line) => line !== "");
  for (const line of lines) expect(() => JSON.parse(line)).not.toThrow();
  expect(lines.some((line) => line.includes(connectionId) && line.includes("message"))).toBe(true);
  const secrets = [KEYS.primary, KEYS.secondary, token, bad, token.split(".")[2] ?? "", bad.split(".")[2] ?? ""];
  const words = ["s3cret-query", "query-of-the-client", "access_token", "c0de-of", "code=", "k3y-in-a-header"];
  for (const secret of [...secrets, ...words, "s3cret-message"]) {
    expect(gateway.stderr()).not.toContain(secret);
    expect(gateway.stdout()).not.toContain(secret);
  }
});

test("every line about a client has its address, which behind trusted proxies is not the proxy's", async () => {
  await using stack = await Stack.start({
    config: {
      trustedProxies: ["127.0.0.1"],
      hubs: { closed: { anonymous: "deny" } },
      disconnect: { retryForSeconds: 0 },
    },
  });
  const lines = ["X-Forwarded-For: 6.6.6.6, 2001:db8::7, 127.0.0.1"];
  await (await stack.request({ path: "/ws/client/hubs/closed", lines })).answer();
  const { client } = await stack.connect({ lines });
  stack.backend.onMessage = (exchange) => exchange.reset();
  stack.backend.onDisconnect = (exchange) => exchange.reply(500);
  client.text("hello");
  await client.closed();
  const messages = [
    "connection refused",
    "connection opened",
    "connection closed",
    "event not delivered",
    "disconnect event given up: see hubwire dead-letters",
  ];
  for (const message of messages)
    expect(await stack.gateway.logged(message)).toMatchObject({ clientAddress: "2001:db8::7" });
});
