import { Database } from "bun:sqlite";
import { expect, setDefaultTimeout } from "bun:test";
import { join } from "node:path";
import { Cluster } from "../support/cluster.ts";
import type { CommandGateway } from "../support/command-gateway.ts";
import { until, within } from "../support/deadline.ts";
import { needs } from "../support/programs.ts";
import { acceptAs, acknowledge, type Exchange, RawBackend } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { connectionIdOf, ofConnection } from "../support/stack.ts";

const { test } = needs("nats-server");

/** What another node goes on with: refused disconnects and those behind a time-out. Source: decisions 0037 and 0038. */
setDefaultTimeout(180_000);

const PATIENCE_MS = 60_000;

/** A field of a connection's row in a node's journal; null where there is no row. */
function fieldOf(node: CommandGateway, connectionId: string, field: "refused_for_ms" | "nth"): number | null {
  using database = new Database(join(node.dataDir, "journal.sqlite"), { readonly: true });
  const sql = `SELECT ${field} AS value FROM connections WHERE id = ?`;
  return database.query<{ value: number }, [string]>(sql).get(connectionId)?.value ?? null;
}

test("kill -9 of a node: the other goes on counting refusals, and sends the second event of a time-out", async () => {
  await using backend = await RawBackend.start();
  const urlTemplate = `${backend.url}/{hub}/api/{event}`;
  const config = { upstreams: [{ urlTemplate, timeoutMs: 12_000 }] };
  await using cluster = await Cluster.start({ nodeCount: 2, urlTemplate, config });
  const [gone, heir] = [cluster.node(0), cluster.node(1)];

  const slow: Exchange[] = [];
  backend.onConnect = (exchange) => void slow.push(exchange);
  using late = await RawWebSocket.request({ port: gone.port, path: "/ws/client/hubs/late" });
  expect((await late.head()).firstLine).toContain("504");
  const lateId = connectionIdOf((slow as [Exchange])[0].request);
  await until(() => fieldOf(gone, lateId, "nth") === 2, "the second event in the journal");

  backend.onConnect = acceptAs("ann");
  backend.onDisconnect = (exchange) => exchange.reply(404);
  using refused = await RawWebSocket.open({ port: gone.port, path: "/ws/client/hubs/refused" });
  const refusedId = connectionIdOf(await backend.next("connect", ({ target }) => target.includes("/refused/")));
  refused.close(1000);
  await until(() => (fieldOf(gone, refusedId, "refused_for_ms") ?? 0) > 500, "the time of refusals");

  // The replica is told in order: what is behind it says that it has the two.
  using last = await RawWebSocket.open({ port: gone.port, path: "/ws/client/hubs/last" });
  await cluster.copied([connectionIdOf(await backend.next("connect", ({ target }) => target.includes("/last/")))]);
  // No later try tells the time anew.
  backend.onDisconnect = (exchange) =>
    exchange.request.target.includes("/refused/") ? undefined : acknowledge(exchange);
  gone.kill("SIGKILL");
  await within(gone.ended, "the killed node's end");
  last.destroy();

  const ofLate = () => backend.of("disconnect", ofConnection(lateId)).map((it) => it.header("X-Hubwire-Event-Id"));
  await until(() => ofLate().length === 2, "the second event, from the other node", PATIENCE_MS);
  expect(ofLate()).toEqual([`${lateId}.disconnect`, `${lateId}.disconnect.2`]);
  await until(() => (fieldOf(heir, refusedId, "refused_for_ms") ?? 0) > 500, "the time of refusals there");
});
