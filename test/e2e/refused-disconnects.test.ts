import { Database } from "bun:sqlite";
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { CommandGateway } from "../support/command-gateway.ts";
import { until } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { RawBackend } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { connectionIdOf, ofConnection, Stack } from "../support/stack.ts";

/** A backend that refuses disconnect events while it is deployed. Source: PROTOCOL.md, "Disconnect"; decision 0037. */
setDefaultTimeout(60_000);

const GIVEN_UP = "disconnect event given up: see hubwire dead-letters";

test("a deployment that says 404, 401 and 503 for a while gets the event once it is over, exactly once", async () => {
  await using stack = await Stack.start();
  const statuses = [404, 404, 401, 503, 404];
  const answered: number[] = [];
  stack.backend.onDisconnect = (exchange) => {
    const status = statuses[answered.length] ?? 204;
    answered.push(status);
    exchange.reply(status);
  };
  const { client, connectionId } = await stack.connect();
  client.close(1000);
  await until(() => answered.includes(204), "the disconnect event to be taken");
  await stack.cycle();
  expect(answered).toEqual([...statuses, 204, 204]);
  const ids = stack.backend.of("disconnect", ofConnection(connectionId)).map((it) => it.header("X-Hubwire-Event-Id"));
  expect(ids).toEqual(Array.from({ length: 6 }, () => `${connectionId}.disconnect`));
  expect(stack.gateway.logLines().filter(({ msg }) => msg === GIVEN_UP)).toEqual([]);
});

test("a backend that goes on refusing: a dead letter after retryRefusedForSeconds, and the log says why", async () => {
  await using stack = await Stack.start({ config: { disconnect: { retryRefusedForSeconds: 1 } } });
  stack.backend.onDisconnect = (exchange) => exchange.reply(403);
  const { client, connectionId } = await stack.connect();
  client.close(1000);
  const line = await stack.gateway.logged(GIVEN_UP);
  expect(line).toMatchObject({ connectionId, cause: "answered with status 403" });
  expect(stack.backend.of("disconnect").length).toBeGreaterThan(1);
  const refused = "the upstream refuses a disconnect event, which is tried again";
  expect(await stack.gateway.logged(refused)).toMatchObject({ cause: "answered with status 403" });
});

test("kill -9 in the middle: the time of refusals goes on from where it was", async () => {
  await using backend = await RawBackend.start();
  backend.onDisconnect = (exchange) => exchange.reply(404);
  const upstreams = [{ urlTemplate: `${backend.url}/{hub}/api/{event}` }];
  const config = { accessKeys: KEYS, upstreams, disconnect: { retryRefusedForSeconds: 6 } };
  await using first = await CommandGateway.start({ through: "bun", config });
  using client = await RawWebSocket.open({ port: first.port });
  const connectionId = connectionIdOf(await backend.next("connect"));
  client.close(1000);
  await until(() => refusedForMs(first.dataDir, connectionId) > 500, "the time of refusals in the journal");
  first.kill("SIGKILL");
  await first.ended;
  const before = refusedForMs(first.dataDir, connectionId);
  const tries = backend.of("disconnect").length;
  await using second = await CommandGateway.start({ through: "bun", config: { ...config, dataDir: first.dataDir } });
  await until(() => backend.of("disconnect").length > tries, "another try");
  await until(() => refusedForMs(first.dataDir, connectionId) !== before, "the next time in the journal");
  expect(refusedForMs(first.dataDir, connectionId)).toBeGreaterThan(before);
  await second.logged(GIVEN_UP);
});

/** What the journal's file has; 0 where it has no such event. */
function refusedForMs(dataDir: string, connectionId: string): number {
  using database = new Database(join(dataDir, "journal.sqlite"), { readonly: true });
  const row = database
    .query<{ ms: number }, [string]>("SELECT refused_for_ms AS ms FROM connections WHERE id = ?")
    .get(connectionId);
  return row?.ms ?? 0;
}
