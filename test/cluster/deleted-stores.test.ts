import { expect, setDefaultTimeout } from "bun:test";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { LedgerBackend, orderly } from "../reliability/support/ledger-backend.ts";
import { Cluster, callNode, health } from "../support/cluster.ts";
import { until, within } from "../support/deadline.ts";
import { needs } from "../support/programs.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";

const { afterEach, beforeEach, test } = needs("nats-server");

/** Streams and buckets are deleted under a living NATS: they are made again in quiet, and a crash after that loses nothing. */
setDefaultTimeout(180_000);

const PATIENCE_MS = 90_000;
const CLIENTS = 20;
const STORES = ["hubwire_journal", "KV_hubwire_rules", "KV_hubwire_nodes"] as const;

let backend: LedgerBackend;
let cluster: Cluster;
let clients: RawWebSocket[];

beforeEach(async () => {
  clients = [];
  backend = await LedgerBackend.start({
    respond: ({ event }) => orderly(event === "connect" ? 200 : 204, ["X-ASRS-User-Id: alice"]),
  });
  cluster = await Cluster.start({ nodeCount: 2, urlTemplate: backend.urlTemplate });
});
afterEach(async () => {
  for (const client of clients) client.destroy();
  await cluster[Symbol.asyncDispose]();
  await backend.stop();
});

async function connectClients(): Promise<void> {
  const { port } = cluster.node(0);
  const opening = Array.from({ length: CLIENTS }, () => RawWebSocket.open({ port, path: "/ws/client/hubs/chat" }));
  clients.push(...(await Promise.all(opening)));
  await cluster.copied(backend.ledger.accounts.keys());
}

async function remove(stores: readonly string[]): Promise<void> {
  const connection = await connect({ servers: cluster.nats.url });
  try {
    const { streams } = await jetstreamManager(connection);
    for (const store of stores) await streams.delete(store);
  } finally {
    await connection.close();
  }
}

async function killFirst(): Promise<void> {
  cluster.node(0).kill("SIGKILL");
  await within(cluster.node(0).ended, "the killed node's end");
}

async function allGone(): Promise<void> {
  const isDone = () => backend.ledger.owed === 0;
  await backend.ledger.until(isDone, "all disconnects", {
    deadlineMs: PATIENCE_MS,
    fault: () => `${backend.ledger.owed}`,
  });
  expect(backend.ledger.acceptedCount).toBe(CLIENTS);
}

test("all of them are made again in quiet, the log says so, and a kill -9 then loses no disconnect", async () => {
  await connectClients();
  const target = "/ws/api/hubs/chat/users/alice/groups/red?ttl=600";
  expect((await callNode(cluster.node(1).port, { method: "PUT", target })).status).toBe(202);
  await remove(STORES);
  for (const node of cluster.nodes) {
    await node.logged("bucket of leases deleted from NATS: made again, and filled with the nodes that are known");
    await node.logged("bucket of group rules deleted from NATS: made again, and filled with the rules that are known");
  }
  const { cause } = await cluster
    .node(0)
    .logged("replica stopped: no other node can take over later changes until it is complete again");
  // A write finds it first, or the look at it every five seconds.
  expect(["stream not found", "hubwire_journal: stream not found"]).toContain(String(cause));
  await cluster.copied(backend.ledger.accounts.keys());
  await until(async () => (await health(cluster.node(1).port)) === 200, "the health to be 200");
  const late = "/ws/api/hubs/chat/users/bob/groups/red?ttl=600";
  await until(
    async () => (await callNode(cluster.node(1).port, { method: "PUT", target: late })).status === 202,
    "a rule",
  );
  await killFirst();
  await allGone();
  expect(cluster.faults()).toEqual([]);
});

test("a node that died just before the leases are deleted is taken over", async () => {
  await connectClients();
  await killFirst();
  await remove(["KV_hubwire_nodes"]);
  await allGone();
});
