import { Database } from "bun:sqlite";
import { beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CommandGateway } from "../support/command-gateway.ts";
import { until, within } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { acceptAs, acknowledge, type Exchange, RawBackend } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { connectionIdOf, ofConnection, Stack } from "../support/stack.ts";

/** The backend answers connect after hubwire has given it up. Source: PROTOCOL.md, "Connect"; decision 0038. */
setDefaultTimeout(60_000);

const TIMEOUT_MS = 300;

/** The connect events that wait for an answer; those of `cycle` get theirs at once. */
let asked: Exchange[];

beforeEach(() => {
  asked = [];
});

function hold(backend: RawBackend): void {
  backend.onConnect = (exchange) => {
    if (exchange.request.target.includes("/cycle/")) return acceptAs("alice")(exchange);
    asked.push(exchange);
  };
}

interface TimedOut {
  readonly connect: Exchange;
  readonly connectionId: string;
}

/** A client that gets 504. */
async function timeOut(stack: Stack): Promise<TimedOut> {
  const count = asked.length;
  const client = await stack.request();
  expect((await client.head()).firstLine).toContain("504");
  const connect = asked[count] as Exchange;
  return { connect, connectionId: connectionIdOf(connect.request) };
}

/** Id, user and connect outcome of each disconnect event of a connection. */
function disconnects(backend: RawBackend, connectionId: string): (readonly (string | undefined)[])[] {
  return backend
    .of("disconnect", ofConnection(connectionId))
    .map((it) => [
      it.header("X-Hubwire-Event-Id"),
      it.header("X-ASRS-User-Id"),
      it.header("X-Hubwire-Connect-Outcome"),
    ]);
}

async function start(entry: Readonly<Record<string, unknown>> = {}, config = {}): Promise<Stack> {
  const stack = await Stack.start({ upstreams: [{ timeoutMs: TIMEOUT_MS, ...entry }], config });
  hold(stack.backend);
  return stack;
}

/** How many rows the journal's file has. */
function rowsOf(dataDir: string): number {
  using database = new Database(join(dataDir, "journal.sqlite"), { readonly: true });
  return database.query<{ count: number }, []>("SELECT count(*) AS count FROM connections").get()?.count ?? -1;
}

test("2xx: a second disconnect event with an id of its own and the user of the late answer", async () => {
  await using stack = await start({ timeoutMs: 2000 });
  const { connect, connectionId } = await timeOut(stack);
  await stack.backend.next("disconnect", ofConnection(connectionId));
  acceptAs("ann", ["X-ASRS-Connection-Group: red"])(connect);
  await until(() => disconnects(stack.backend, connectionId).length === 2, "the second disconnect event");
  await stack.cycle();
  expect(disconnects(stack.backend, connectionId)).toEqual([
    [`${connectionId}.disconnect`, "", "unknown"],
    [`${connectionId}.disconnect.2`, "ann", undefined],
  ]);
  const line = await stack.gateway.logged("connect accepted after its time-out: raise timeoutMs");
  expect(line).toMatchObject({ connectionId, hub: "chat" });
});

test("2xx while the first disconnect event is unanswered: the second comes behind it", async () => {
  await using stack = await start({ timeoutMs: 5000 });
  const first = Promise.withResolvers<Exchange>();
  stack.backend.onDisconnect = (exchange) => {
    first.resolve(exchange);
    stack.backend.onDisconnect = acknowledge;
  };
  const { connect, connectionId } = await timeOut(stack);
  const held = await within(first.promise, "the first disconnect event");
  acceptAs("ann")(connect);
  await stack.cycle();
  expect(disconnects(stack.backend, connectionId)).toHaveLength(1);
  acknowledge(held);
  await until(() => disconnects(stack.backend, connectionId).length === 2, "the second disconnect event");
  expect(disconnects(stack.backend, connectionId)[1]?.[0]).toBe(`${connectionId}.disconnect.2`);
});

test.each([
  ["a late 4xx", (exchange: Exchange) => exchange.reply(403)],
  ["a late 5xx", (exchange: Exchange) => exchange.reply(500)],
  ["a connection that ends without an answer", (exchange: Exchange) => exchange.reset()],
  ["no answer at all", () => {}],
])("%s: one disconnect event, and the journal has no entry any more", async (_what, late) => {
  const dataDir = mkdtempSync(join(tmpdir(), "hubwire-late-"));
  try {
    await using stack = await start({}, { dataDir });
    const { connect, connectionId } = await timeOut(stack);
    await stack.backend.next("disconnect", ofConnection(connectionId));
    late(connect);
    await until(() => rowsOf(dataDir) === 0, "the end of the journal's entry");
    await stack.cycle();
    expect(disconnects(stack.backend, connectionId)).toHaveLength(1);
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
});

test("a client that has left meanwhile: the same", async () => {
  await using stack = await start({ timeoutMs: 2000 });
  const client = await stack.request();
  await until(() => asked.length === 1, "the connect event");
  client.destroy();
  const [connect] = asked as [Exchange];
  const connectionId = connectionIdOf(connect.request);
  await stack.backend.next("disconnect", ofConnection(connectionId));
  acceptAs("ann")(connect);
  await until(() => disconnects(stack.backend, connectionId).length === 2, "the second disconnect event");
});

test("with one place it is free meanwhile: another client gets in", async () => {
  await using stack = await start({ maxConcurrency: 1, timeoutMs: 2000 });
  const { connect, connectionId } = await timeOut(stack);
  await stack.backend.next("disconnect", ofConnection(connectionId));
  await stack.cycle();
  acceptAs("ann")(connect);
  await until(() => disconnects(stack.backend, connectionId).length === 2, "the second disconnect event");
});

test("a shutdown waits for the answer, and the second disconnect event still goes out", async () => {
  await using stack = await start({ timeoutMs: 2000 });
  const { connect, connectionId } = await timeOut(stack);
  await stack.backend.next("disconnect", ofConnection(connectionId));
  const stopped = stack.gateway.stop();
  acceptAs("ann")(connect);
  await stopped;
  expect(disconnects(stack.backend, connectionId)).toHaveLength(2);
});

test.each([
  ["before the late 2xx", false],
  ["after the late 2xx", true],
])("kill -9 %s: the next start sends the second disconnect event", async (_when, isAnswered) => {
  await using backend = await RawBackend.start();
  hold(backend);
  const upstreams = [{ urlTemplate: `${backend.url}/{hub}/api/{event}`, timeoutMs: 5000 }];
  const config = { accessKeys: KEYS, upstreams };
  await using first = await CommandGateway.start({ through: "bun", config });
  using client = await RawWebSocket.request({ port: first.port });
  expect((await client.head()).firstLine).toContain("504");
  const [connect] = asked as [Exchange];
  const connectionId = connectionIdOf(connect.request);
  await backend.next("disconnect", ofConnection(connectionId));
  const hasRow = (sql: string) => () => {
    using database = new Database(join(first.dataDir, "journal.sqlite"), { readonly: true });
    return database.query(`SELECT 1 FROM connections WHERE nth = 2 AND ${sql}`).get() !== null;
  };
  await until(hasRow("user_id = ''"), "the second event in the journal");
  if (isAnswered) {
    backend.onDisconnect = () => {};
    acceptAs("ann")(connect);
    await until(hasRow("user_id = 'ann'"), "the user in the journal");
  }
  first.kill("SIGKILL");
  await first.ended;
  const before = disconnects(backend, connectionId).length;
  backend.onDisconnect = acknowledge;
  await using _second = await CommandGateway.start({ through: "bun", config: { ...config, dataDir: first.dataDir } });
  await until(() => disconnects(backend, connectionId).length > before, "the disconnect event of the next start");
  const sent = disconnects(backend, connectionId)[before];
  expect(sent).toEqual([`${connectionId}.disconnect.2`, isAnswered ? "ann" : "", isAnswered ? undefined : "unknown"]);
});
