import { expect, setDefaultTimeout } from "bun:test";
import { IS_LONG, recordFigure } from "../reliability/support/form.ts";
import { LedgerBackend, orderly } from "../reliability/support/ledger-backend.ts";
import { Cluster, callNode } from "../support/cluster.ts";
import type { CommandGateway } from "../support/command-gateway.ts";
import { until, within } from "../support/deadline.ts";
import { needs } from "../support/programs.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";

const { afterEach, beforeEach, describe, test } = needs("nats-server");

/**
 * kill -9 of a node: the others send its disconnects, and none is lost.
 * Source: PROTOCOL.md, "A node that crashes".
 */
setDefaultTimeout(180_000);

/** From the kill to the last disconnect. Held in the long form; the short one only waits. */
const HELD_MS = 15_000;
const PATIENCE_MS = 90_000;

const CLIENTS = 500;

let backend: LedgerBackend;
let cluster: Cluster;
let clients: RawWebSocket[];

beforeEach(async () => {
  clients = [];
  backend = await LedgerBackend.start({
    respond: ({ event, connectionId, header }) => {
      if (event === "connect") return orderly(200, [`X-ASRS-User-Id: ${userOf(header("x-asrs-client-query"))}`]);
      return event === "message" ? orderly(200, ["Content-Type: text/plain"], connectionId) : orderly(204);
    },
  });
  // The first node writes the hub otherwise than the two that may take its connections over.
  cluster = await Cluster.start({ nodeCount: 1, urlTemplate: backend.urlTemplate });
  const config = { hubs: { CRASH: {} } };
  await Promise.all([cluster.add(config), cluster.add(config)]);
});
afterEach(async () => {
  for (const client of clients) client.destroy();
  await cluster[Symbol.asyncDispose]();
  await backend.stop();
});

function userOf(query: string): string {
  return new URLSearchParams(query).get("user") ?? "nobody";
}

/** Connects clients to a node, each with a query of its own, and waits until another could take them over. */
async function connect(node: CommandGateway, count: number, name: string): Promise<void> {
  const users = Array.from({ length: count }, (_empty, index) => `${name}-${index}`);
  for (let from = 0; from < count; from += 50) {
    const some = users.slice(from, from + 50).map((user) => {
      return RawWebSocket.open({ port: node.port, path: `/ws/client/hubs/Crash?user=${user}&q=%C3%A4` });
    });
    clients.push(...(await Promise.all(some)));
  }
  // Its user is written behind the connection itself: without it the disconnect would name nobody.
  await cluster.copied([...backend.ledger.accounts.keys(), ...users.map((user) => JSON.stringify(user))]);
}

/** Kills a node; resolves once it has ended. */
async function kill(node: CommandGateway): Promise<void> {
  node.kill("SIGKILL");
  await within(node.ended, "the killed node's end");
}

/** The accounts of connections whose user's name begins so. */
function accountsOf(name: string) {
  return [...backend.ledger.accounts.values()].filter(({ userId }) => userId.startsWith(`${name}-`));
}

async function allGone(name: string, count: number): Promise<void> {
  const isDone = () => accountsOf(name).filter(({ disconnects }) => disconnects > 0).length === count;
  const fault = () => `${accountsOf(name).length} of ${count}`;
  await backend.ledger.until(isDone, `the disconnects of ${name}`, { deadlineMs: PATIENCE_MS, fault });
}

describe("kill -9 of a node", () => {
  test(`with ${CLIENTS} connections: the others send ${CLIENTS} disconnects, and theirs live on`, async () => {
    const [gone, here, there] = [cluster.node(0), cluster.node(1), cluster.node(2)];
    await connect(gone, CLIENTS, "gone");
    await connect(here, 10, "here");
    await connect(there, 10, "there");
    expect(new Set([...backend.ledger.accounts.values()].map(({ hub }) => hub))).toEqual(new Set(["crash", "CRASH"]));
    const killedAtMs = performance.now();
    await kill(gone);
    await allGone("gone", CLIENTS);
    const tookMs = performance.now() - killedAtMs;
    const accounts = accountsOf("gone");
    expect(new Set(accounts.map(({ closeCode, closeReason, hub }) => `${hub} ${closeCode} ${closeReason}`))).toEqual(
      new Set(["CRASH 1006 gateway node lost"]),
    );
    expect(accounts.reduce((sum, { disconnects }) => sum + disconnects, 0)).toBe(CLIENTS);
    for (const name of ["here", "there"]) expect(accountsOf(name)).toEqual([]);
    for (const client of clients.slice(CLIENTS)) {
      client.text("still there?");
      await client.nextText();
    }
    console.log(
      `lost = ${backend.ledger.owed - 20}, duplicates = ${backend.ledger.duplicates}, ${Math.round(tookMs)} ms`,
    );
    if (IS_LONG) expect(tookMs).toBeLessThan(HELD_MS);
    recordFigure(
      `kill -9 of one of three nodes with ${CLIENTS} connections: lost; duplicates; the last disconnect after`,
      `${backend.ledger.owed - 20}; ${backend.ledger.duplicates}; ${(tookMs / 1000).toFixed(1)} s`,
      "0; said; 15 s",
    );
    // Until its lease is over nobody may say that it has answered; then memberships can be changed again.
    const target = "/ws/api/hubs/crash/users/here-1/groups/g";
    await until(async () => (await callNode(there.port, { method: "PUT", target })).status === 202, "a membership");
    expect(cluster.faults()).toEqual([]);
  });

  test("that is started again in its folder at once: it sends them itself, each once, and nobody takes it over", async () => {
    const before = cluster.node(0);
    await connect(before, 50, "again");
    await kill(before);
    await cluster.add({ dataDir: before.dataDir });
    await allGone("again", 50);
    expect(new Set(accountsOf("again").map(({ closeReason }) => closeReason))).toEqual(new Set(["gateway restarted"]));
    const one = { method: "PUT", target: "/ws/api/hubs/crash/users/x/groups/g" };
    await until(async () => (await callNode(cluster.node(1).port, one)).status === 202, "the old name to be forgotten");
    expect(accountsOf("again").every(({ disconnects }) => disconnects === 1)).toBe(true);
    for (const node of cluster.nodes) {
      expect(node.logLines().filter(({ msg }) => String(msg).startsWith("node lost"))).toEqual([]);
    }
  });

  test("while the others die too: the node that is left takes over all of them", async () => {
    await connect(cluster.node(0), 40, "first");
    await connect(cluster.node(1), 40, "second");
    await kill(cluster.node(0));
    await kill(cluster.node(1));
    await allGone("first", 40);
    await allGone("second", 40);
    expect(backend.ledger.owed).toBe(0);
  });

  test("all of them: the first that is started in an empty folder takes over what was copied", async () => {
    for (const [index, node] of cluster.nodes.entries()) await connect(node, 20, `all${index}`);
    await Promise.all([...cluster.nodes].map(kill));
    await cluster.add();
    for (const index of [0, 1, 2]) await allGone(`all${index}`, 20);
    expect(backend.ledger.owed).toBe(0);
  });
});
