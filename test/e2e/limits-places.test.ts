import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Gate, until } from "../support/deadline.ts";
import { acceptAs, acknowledge, echo, type RecordedRequest, type Script } from "../support/raw-backend.ts";
import type { RawWebSocket } from "../support/raw-websocket.ts";
import { jsonError, Stack, type UpstreamSettings } from "../support/stack.ts";

/** The places of an upstream entry that calls of one client address may have: `maxConcurrencyPerAddress`. */
setDefaultTimeout(60_000);

const FLOODING = "192.0.2.1";
const OTHER = "198.51.100.1";
const SHARE = 6;
const WAITING = 3;

const from = (address: string) => ({ lines: [`X-Forwarded-For: ${address}`] });
const isFrom = (address: string) => (request: RecordedRequest) =>
  request.header("X-Forwarded-For")?.startsWith(address) === true;

/** A gateway behind a trusted proxy, with an entry of eight places, of which an address has six. */
function start(entry: UpstreamSettings = {}): Promise<Stack> {
  const upstreams = [{ maxConcurrency: 8, maxWaitMs: 300, ...entry }];
  return Stack.start({ upstreams, config: { trustedProxies: ["127.0.0.1"] } });
}

/** Holds what begins with this text until the gate opens; other messages are echoed. */
function holding(gate: Gate, text: string): Script {
  return async (exchange) => {
    if (exchange.request.body.toString().startsWith(text)) await gate.opened;
    echo(exchange);
  };
}

/** So many clients, whose addresses are taken in turns, each with one message at the backend or on its way there. */
async function flood(stack: Stack, addresses: readonly string[], count: number): Promise<RawWebSocket[]> {
  const clients: RawWebSocket[] = [];
  for (let i = 0; i < count; i++) clients.push(await stack.open(from(addresses[i % addresses.length] ?? FLOODING)));
  for (const client of clients) client.text("slow");
  const isHeld = (request: RecordedRequest) => request.body.toString() === "slow";
  await until(() => stack.backend.of("message", isHeld).length >= SHARE, "the messages that have a place");
  return clients;
}

test("messages of one address that the backend holds leave places for the others", async () => {
  await using stack = await start();
  const gate = new Gate();
  stack.backend.onMessage = holding(gate, "slow");
  const clients = await flood(stack, [FLOODING], SHARE + WAITING);
  const other = await stack.open(from(OTHER));
  other.text("quick");
  expect(await other.nextText()).toBe("quick");
  const refused = await Promise.all(clients.slice(SHARE).map((client) => client.closed()));
  expect(refused).toEqual(Array(WAITING).fill({ code: 1011, reason: "maxConcurrencyPerAddress" }));
  const cause = expect.stringContaining("maxConcurrencyPerAddress");
  const line = await stack.gateway.logged("event not delivered");
  expect(line).toMatchObject({ event: "message", clientAddress: FLOODING, cause });
  gate.open();
  for (const client of clients.slice(0, SHARE)) expect(await client.nextText()).toBe("slow");
});

test("connects count with the messages of their address, and the refusal names the limit", async () => {
  await using stack = await start();
  const gate = new Gate();
  stack.backend.onMessage = holding(gate, "slow");
  await flood(stack, [FLOODING], SHARE);
  const refused = await (await stack.request(from(FLOODING))).answer();
  expect(refused.status).toBe(503);
  expect(jsonError(refused.body)).toMatchObject({ code: "upstream_refused", target: "maxConcurrencyPerAddress" });
  expect(refused.head.header("Retry-After")).toBe("1");
  await stack.open(from(OTHER));
  gate.open();
});

test.each([
  ["a /64 of IPv6 addresses", ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"], "2001:db8:0:1::1"],
  ["an IPv4 address and its IPv4-mapped form", ["192.0.2.1", "::ffff:192.0.2.1"], "192.0.2.2"],
])("counts as one client: %s", async (_what, addresses, other) => {
  await using stack = await start({ maxWaitMs: 0 });
  const gate = new Gate();
  stack.backend.onMessage = holding(gate, "slow");
  await flood(stack, addresses, SHARE);
  const [last = ""] = addresses.slice(-1);
  expect((await (await stack.request(from(last))).answer()).status).toBe(503);
  await stack.open(from(other));
  gate.open();
});

test("a disconnect of an address that has its share waits, those of others do not, and none is lost", async () => {
  await using stack = await start();
  const gate = new Gate();
  stack.backend.onMessage = holding(gate, "slow");
  const leaver = await stack.open(from(FLOODING));
  const other = await stack.open(from(OTHER));
  await flood(stack, [FLOODING], SHARE);
  leaver.close(1000);
  other.close(1000);
  await stack.backend.next("disconnect", isFrom(OTHER));
  expect(stack.backend.of("disconnect", isFrom(FLOODING))).toEqual([]);
  gate.open();
  await stack.backend.next("disconnect", isFrom(FLOODING));
});

describe("all clients behind one address", () => {
  test("are all answered in order, by as many calls at once as the address may have", async () => {
    await using stack = await Stack.start({ upstreams: [{ maxConcurrency: 4 }] });
    let underWay = 0;
    let most = 0;
    const gate = new Gate();
    stack.backend.onMessage = async (exchange) => {
      underWay++;
      most = Math.max(most, underWay);
      if (most === 3) gate.open();
      await gate.opened;
      await new Promise(setImmediate);
      underWay--;
      echo(exchange);
    };
    const clients: RawWebSocket[] = [];
    for (let i = 0; i < 20; i++) clients.push(await stack.open());
    for (let n = 0; n < 10; n++) for (const [i, client] of clients.entries()) client.text(`${i}.${n}`);
    for (const [i, client] of clients.entries()) {
      for (let n = 0; n < 10; n++) expect(await client.nextText()).toBe(`${i}.${n}`);
    }
    expect(most).toBe(3);
  });

  test("have all places where maxConcurrencyPerAddress says so", async () => {
    const settings = { maxConcurrency: 4, maxConcurrencyPerAddress: 4 };
    await using stack = await Stack.start({ upstreams: [settings] });
    const gate = new Gate();
    stack.backend.onConnect = async (exchange) => {
      await gate.opened;
      acceptAs("alice")(exchange);
    };
    for (let i = 0; i < 5; i++) await stack.request();
    await until(() => stack.backend.of("connect").length === 4, "four connects at once");
    gate.open();
    await until(() => stack.backend.of("connect").length === 5, "the fifth");
  });
});

test("a reload that changes the share leaves calls under way alone", async () => {
  await using stack = await start();
  const gate = new Gate();
  stack.backend.onMessage = holding(gate, "slow");
  stack.backend.onDisconnect = acknowledge;
  const clients = await flood(stack, [FLOODING], SHARE);
  const urlTemplate = `${stack.backend.url}/{hub}/api/{event}`;
  stack.gateway.reload({
    trustedProxies: ["127.0.0.1"],
    upstreams: [{ urlTemplate, maxConcurrency: 8, maxConcurrencyPerAddress: 1 }],
  });
  await stack.open(from(FLOODING));
  gate.open();
  for (const client of clients) expect(await client.nextText()).toBe("slow");
});
