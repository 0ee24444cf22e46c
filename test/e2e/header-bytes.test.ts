import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { CommandGateway } from "../support/command-gateway.ts";
import { KEYS } from "../support/gateway.ts";
import { RawBackend } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { RestClient } from "../support/rest-client.ts";
import { target } from "../support/rest-operations.ts";
import { jsonError, Stack } from "../support/stack.ts";

/** Header values of a handshake that go on to the backend, byte for byte. Strings have one char a byte here. */
setDefaultTimeout(60_000);

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({ config: { trustedProxies: ["127.0.0.1"] } });
});
afterAll(() => stack.stop());

const UTF8 = Buffer.from("grüß").toString("latin1");
const MIX = `${UTF8}, gr\xfc\xdf`;

let hubCount = 0;

/** What the three events of a connection say under a name, once the client has sent this header. */
async function sentOn(line: string, name: string): Promise<(string | undefined)[]> {
  const hub = `hub${hubCount++}`;
  const client = await stack.open({ path: `/ws/client/hubs/${hub}`, lines: [line] });
  const ofThis = ({ target }: { target: string }) => target.startsWith(`/${hub}/`);
  const connect = await stack.backend.next("connect", ofThis);
  client.text("hello");
  const message = await stack.backend.next("message", ofThis);
  client.close();
  const disconnect = await stack.backend.next("disconnect", ofThis);
  return [connect, message, disconnect].map(({ head }) => head.header(name));
}

test.each([
  ["UTF-8", UTF8, UTF8],
  ["Latin-1", "gr\xfc\xdf", "gr\xfc\xdf"],
  ["both", MIX, MIX],
  ["empty parts", `, ,${UTF8},,\t, 9.9.9.9 ,`, `${UTF8}, 9.9.9.9`],
])("X-Forwarded-For of a trusted proxy: %s", async (_what, chain, sent) => {
  const whole = `${sent}, 127.0.0.1`;
  expect(await sentOn(`X-Forwarded-For: ${chain}`, "X-Forwarded-For")).toEqual([whole, whole, whole]);
});

test("Sec-WebSocket-Protocol", async () => {
  const [connect] = await sentOn(`Sec-WebSocket-Protocol: ${MIX}`, "Sec-WebSocket-Protocol");
  expect(connect).toBe(MIX);
});

test.each([",", " , ,", "a\x7fb", "\x7f"])("Sec-WebSocket-Protocol: %j is 400, and nobody is asked", async (value) => {
  const before = stack.backend.requests.length;
  const answer = await (await stack.request({ lines: [`Sec-WebSocket-Protocol: ${value}`] })).answer();
  expect([answer.status, jsonError(answer.body).target]).toEqual([400, "Sec-WebSocket-Protocol"]);
  expect(stack.backend.requests.length).toBe(before);
});

/** The user ids that the message and the disconnect of a connection carry, one char a byte, where connect was answered with this. */
async function sentBack(userId: string): Promise<(string | undefined)[]> {
  const hub = `hub${hubCount++}`;
  const ofThis = ({ target }: { target: string }) => target.startsWith(`/${hub}/`);
  stack.backend.onConnect = (exchange) =>
    exchange.raw(`HTTP/1.1 200 OK\r\nX-ASRS-User-Id: ${userId}\r\nContent-Length: 0\r\n\r\n`);
  const client = await stack.open({ path: `/ws/client/hubs/${hub}` });
  client.text("hello");
  const message = await stack.backend.next("message", ofThis);
  client.close();
  const disconnect = await stack.backend.next("disconnect", ofThis);
  stack.behave();
  return [message, disconnect].map(({ head }) => head.header("X-ASRS-User-Id"));
}

test.each([
  ["UTF-8", UTF8],
  ["Latin-1", "gr\xfc\xdf"],
  ["ASCII", "ann"],
])("a user id that came as %s goes back as the same bytes", async (_what, userId) => {
  expect(await sentBack(userId)).toEqual([userId, userId]);
});

test("one user in both codings is one user", async () => {
  const clients = [];
  for (const userId of [UTF8, "gr\xfc\xdf"]) {
    stack.backend.onConnect = (exchange) =>
      exchange.raw(`HTTP/1.1 200 OK\r\nX-ASRS-User-Id: ${userId}\r\nContent-Length: 0\r\n\r\n`);
    clients.push(await stack.open());
  }
  stack.behave();
  using rest = await RestClient.dial(stack.port);
  const path = target("send to user", "chat", { user: "grüß" });
  expect((await rest.call({ method: "POST", target: path, type: "text/plain", body: "to both" })).status).toBe(202);
  for (const client of clients) expect(await client.nextText()).toBe("to both");
});

test.each([
  ["UTF-8", UTF8],
  ["Latin-1", "gr\xfc\xdf"],
])("after a crash too: %s", async (_what, userId) => {
  await using backend = await RawBackend.start();
  backend.onConnect = (exchange) =>
    exchange.raw(`HTTP/1.1 200 OK\r\nX-ASRS-User-Id: ${userId}\r\nContent-Length: 0\r\n\r\n`);
  const config = { accessKeys: KEYS, upstreams: [{ urlTemplate: `${backend.url}/{event}` }] };
  await using first = await CommandGateway.start({ through: "bun", config });
  const client = await RawWebSocket.open({ port: first.port });
  first.kill("SIGKILL");
  await first.ended;
  client.destroy();
  await using _second = await CommandGateway.start({ through: "bun", config: { ...config, dataDir: first.dataDir } });
  const disconnect = await backend.next("disconnect");
  expect(disconnect.header("X-Hubwire-Close-Reason")).toBe("gateway restarted");
  expect(disconnect.header("X-ASRS-User-Id")).toBe(userId);
});
