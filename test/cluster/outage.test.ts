import { expect, setDefaultTimeout } from "bun:test";
import { LedgerBackend, orderly } from "../reliability/support/ledger-backend.ts";
import { Cluster, callNode, health, ready } from "../support/cluster.ts";
import { CommandGateway } from "../support/command-gateway.ts";
import { until, within } from "../support/deadline.ts";
import { needs } from "../support/programs.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";

const { afterEach, beforeEach, describe, test } = needs("nats-server");

/**
 * NATS goes away and comes back: clients do not notice, callers are told, and nothing is lost.
 * Source: PROTOCOL.md, "Several nodes".
 */
setDefaultTimeout(180_000);

const PATIENCE_MS = 60_000;
const HUB = "/ws/api/hubs/chat";

let backend: LedgerBackend;
let cluster: Cluster;
let clients: RawWebSocket[];

beforeEach(async () => {
  clients = [];
  backend = await LedgerBackend.start({
    respond: ({ event, header, body }) => {
      if (event === "message") return orderly(200, ["Content-Type: text/plain"], body);
      if (event === "disconnect") return orderly(204);
      const user = new URLSearchParams(header("x-asrs-client-query")).get("user");
      return orderly(200, [`X-ASRS-User-Id: ${user}`, `X-ASRS-Connection-Group: all, of-${user}`]);
    },
  });
  cluster = await Cluster.start({ nodeCount: 2, urlTemplate: backend.urlTemplate });
});
afterEach(async () => {
  for (const client of clients) client.destroy();
  await cluster[Symbol.asyncDispose]();
  await backend.stop();
});

async function join(node: CommandGateway, user: string): Promise<RawWebSocket> {
  const client = await RawWebSocket.open({ port: node.port, path: `/ws/client/hubs/chat?user=${user}` });
  clients.push(client);
  return client;
}

/** Every kind of call that concerns other nodes. */
const CALLS = [
  ["POST", "messages"],
  ["POST", "groups/all/messages"],
  ["POST", "users/ann/messages"],
  ["GET", "users/ann"],
  ["HEAD", "groups/all"],
  ["PUT", "users/ann/groups/new"],
  ["PUT", "users/ann/groups/new?ttl=60"],
  ["DELETE", "users/ann/groups/all"],
  ["DELETE", "users/ann/groups"],
] as const;

async function call(node: CommandGateway, method: string, path: string, body = "pushed") {
  const send = method === "POST" ? { type: "text/plain", body } : {};
  return await callNode(node.port, { method, target: `${HUB}/${path}`, ...send });
}

/** Ends NATS and waits until both nodes have noticed. */
async function takeNatsAway(): Promise<void> {
  await cluster.nats.stop("SIGKILL");
  for (const node of cluster.nodes) await node.logged("NATS out of reach: pushes and questions are answered 503");
}

async function push(node: CommandGateway, path: string, body: string): Promise<void> {
  expect((await call(node, "POST", path, body)).status).toBe(202);
}

describe("while NATS is away", () => {
  test("clients connect, talk and leave; every push and question is 503 with Retry-After, for local members too", async () => {
    const [one] = [cluster.node(0), cluster.node(1)];
    const ann = await join(one, "ann");
    await takeNatsAway();
    for (const [method, path] of CALLS) {
      const { status, retryAfter, code } = await call(one, method, path);
      expect([method, path, status, retryAfter]).toEqual([method, path, 503, "1"]);
      if (method !== "HEAD") expect(code).toBe("broker_unavailable");
    }
    const bob = await join(one, "bob");
    for (const [client, text] of [
      [ann, "from ann"],
      [bob, "from bob"],
    ] as const) {
      client.text(text);
      // Nothing of what was refused has arrived in front of it.
      expect(await client.nextText()).toBe(text);
    }
    bob.close(4001, "bye");
    const isGone = () => [...backend.ledger.accounts.values()].some(({ closeReason }) => closeReason === "bye");
    await backend.ledger.until(isGone, "bob's disconnect");
    await until(async () => (await health(one.port)) === 503, "the grace to be over", PATIENCE_MS);
    expect(cluster.faults()).toEqual([]);
  });

  test("a short while is no reason for a node not to be ready", async () => {
    const statuses: number[] = [];
    let isOver = false;
    const watch = (async () => {
      while (!isOver) statuses.push(await health(cluster.node(0).port));
    })();
    await takeNatsAway();
    await cluster.nats.restart();
    for (const node of cluster.nodes) await node.logged("NATS reached", 2);
    isOver = true;
    await watch;
    expect(new Set(statuses)).toEqual(new Set([200]));
  });
});

describe("when NATS is back", () => {
  test("a client that came meanwhile gets what the other node sends, as soon as that one is ready", async () => {
    const [one, two] = [cluster.node(0), cluster.node(1)];
    const ann = await join(one, "ann");
    await takeNatsAway();
    const bob = await join(one, "bob");
    for (const node of [one, two]) await until(async () => (await health(node.port)) === 503, "the grace", PATIENCE_MS);
    await cluster.nats.restart();
    for (const node of [one, two]) await ready(node.port);
    await push(two, "messages", "to all");
    await push(two, "groups/of-bob/messages", "to bob's group");
    await push(two, "users/bob/messages", "to bob");
    await push(two, "users/ann/messages", "to ann");
    expect([await bob.nextText(), await bob.nextText(), await bob.nextText()]).toEqual([
      "to all",
      "to bob's group",
      "to bob",
    ]);
    expect([await ann.nextText(), await ann.nextText()]).toEqual(["to all", "to ann"]);
    expect((await call(two, "PUT", "users/bob/groups/later")).status).toBe(202);
    await push(one, "groups/later/messages", "joined");
    expect(await bob.nextText()).toBe("joined");
    for (const node of [one, two]) await node.logged("replica complete: other nodes can take over from it", 2);
    expect(cluster.faults()).toEqual([]);
  });

  test("what a node took in meanwhile is copied, so that another sends it when that node is lost", async () => {
    const one = cluster.node(0);
    await join(one, "before");
    await takeNatsAway();
    await join(one, "meanwhile");
    await cluster.nats.restart();
    await one.logged("replica complete: other nodes can take over from it", 2);
    one.kill("SIGKILL");
    await within(one.ended, "the killed node's end");
    await backend.ledger.settled(PATIENCE_MS);
    const reasons = [...backend.ledger.accounts.values()].map(({ userId, closeReason }) => `${userId} ${closeReason}`);
    expect(reasons.sort()).toEqual(["before gateway node lost", "meanwhile gateway node lost"]);
  });

  test("a node that died meanwhile is taken over; what nobody could know of, it sends when it is started again", async () => {
    const one = cluster.node(0);
    await join(one, "before");
    await cluster.copied([...backend.ledger.accounts.keys(), '"before"']);
    await takeNatsAway();
    await join(one, "meanwhile");
    one.kill("SIGKILL");
    await within(one.ended, "the killed node's end");
    await cluster.nats.restart();
    const sent = (user: string) =>
      backend.ledger.until(
        () =>
          [...backend.ledger.accounts.values()].some(({ userId, disconnects }) => userId === user && disconnects > 0),
        `the disconnect of ${user}`,
        { deadlineMs: PATIENCE_MS },
      );
    await sent("before");
    expect(backend.ledger.owed).toBe(1);
    await cluster.add({ dataDir: one.dataDir });
    await sent("meanwhile");
    expect(backend.ledger.owed).toBe(0);
  });
});

test("a node that is started without NATS takes clients, is not ready until it has reached it once, and has their rules then", async () => {
  const rule = await call(cluster.node(0), "PUT", "users/early/groups/ruled?ttl=600");
  expect(rule.status).toBe(202);
  await cluster.nats.stop("SIGKILL");
  const node = await CommandGateway.start({ through: "bun", config: cluster.config });
  cluster.nodes.push(node);
  await node.logged("NATS out of reach: pushes and questions are answered 503");
  expect(await health(node.port)).toBe(503);
  const client = await join(node, "early");
  client.text("hello");
  expect(await client.nextText()).toBe("hello");
  expect((await call(node, "POST", "messages")).status).toBe(503);
  await cluster.nats.restart();
  await ready(node.port);
  // Node 0 was ready all along, by its grace: that tells nothing of its calls.
  const answers = async () => (await call(cluster.node(0), "GET", "users/early")).status !== 503;
  await until(answers, "node 0 to answer calls again", PATIENCE_MS);
  await push(cluster.node(0), "users/early/messages", "found");
  expect(await client.nextText()).toBe("found");
  await push(cluster.node(0), "groups/ruled/messages", "by the rule");
  expect(await client.nextText()).toBe("by the rule");
});
