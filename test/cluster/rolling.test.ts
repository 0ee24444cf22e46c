import { expect, setDefaultTimeout } from "bun:test";
import { inForm } from "../reliability/support/form.ts";
import { LedgerBackend, orderly } from "../reliability/support/ledger-backend.ts";
import { Cluster, health } from "../support/cluster.ts";
import type { CommandGateway } from "../support/command-gateway.ts";
import { within } from "../support/deadline.ts";
import { needs } from "../support/programs.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { RestClient } from "../support/rest-client.ts";

const { test } = needs("nats-server");

/**
 * All nodes are restarted one after the other under traffic: no call of the REST API fails, no disconnect is lost or doubled.
 * Source: PROTOCOL.md, "Health": clients leave a node whose health is 503.
 */
setDefaultTimeout(240_000);

const NODES = 3;
const CALLERS = 3;
const CLIENTS = inForm({ short: 30, long: 200 });
/** How often the traffic looks at each node's health, as a load balancer does. */
const LOOK_MS = 100;
const HUB = "/ws/api/hubs/chat";

/** What callers do in turn, and the status that each must get: nobody's user, so that nothing depends on who is there. */
const CALLS = [
  ["POST", "messages", 202],
  ["POST", "users/of-nobody/messages", 202],
  ["PUT", "users/caller/groups/rolling", 202],
  ["PUT", "users/caller/groups/ruled?ttl=60", 202],
  ["HEAD", "users/of-nobody", 404],
  ["GET", "users/caller/groups/ruled", 200],
  ["DELETE", "users/caller/groups/rolling", 202],
  ["DELETE", "users/caller/groups", 200],
] as const;

/** The nodes that a load balancer would send somebody to now. */
class Balancer {
  readonly #nodes = new Set<CommandGateway>();
  #healthy: CommandGateway[] = [];
  #turn = 0;
  readonly #looking: Promise<void>;
  #isOver = false;

  constructor(nodes: readonly CommandGateway[]) {
    for (const node of nodes) this.#nodes.add(node);
    this.#healthy = [...nodes];
    this.#looking = this.#look();
  }

  add(node: CommandGateway): void {
    this.#nodes.add(node);
  }

  remove(node: CommandGateway): void {
    this.#nodes.delete(node);
  }

  next(): CommandGateway {
    const node = this.#healthy[this.#turn++ % this.#healthy.length];
    if (node === undefined) throw new Error("no node is healthy");
    return node;
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#looking;
  }

  async #look(): Promise<void> {
    while (!this.#isOver) {
      const states = await Promise.all([...this.#nodes].map(async (node) => [node, await health(node.port)] as const));
      this.#healthy = states.filter(([, status]) => status === 200).map(([node]) => node);
      await Bun.sleep(LOOK_MS);
    }
  }
}

/** Runs until it is told to end; what it keeps is what the test counts. */
class Traffic {
  readonly failures: string[] = [];
  callCount = 0;
  readonly comings: string[] = [];
  echoCount = 0;
  readonly #balancer: Balancer;
  readonly #lives: Promise<void>[];
  #isOver = false;

  constructor(balancer: Balancer) {
    this.#balancer = balancer;
    this.#lives = [
      ...Array.from({ length: CALLERS }, (_empty, number) => this.#calls(number)),
      ...Array.from({ length: CLIENTS }, () => this.#client()),
    ];
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#lives);
  }

  async #calls(number: number): Promise<void> {
    for (let turn = 0; !this.#isOver; turn++) {
      const [method, path, expected] = CALLS[turn % CALLS.length] ?? CALLS[0];
      const target = `${HUB}/${path.replace("caller", `caller-${number}`)}`;
      const node = this.#balancer.next();
      try {
        // A connection for each call, as the worst of callers have.
        using client = await RestClient.dial(node.port);
        const send = method === "POST" ? { type: "text/plain", body: "rolling" } : {};
        const { status, body } = await client.call({ method, target, ...send });
        this.callCount++;
        if (status !== expected) this.failures.push(`${method} ${path}: ${status} ${body}`);
      } catch (fault) {
        this.failures.push(`${method} ${path}: ${fault}`);
      }
    }
  }

  /** Comes back whenever it is sent away, and talks meanwhile. */
  async #client(): Promise<void> {
    while (!this.#isOver) {
      using socket = await RawWebSocket.open({ port: this.#balancer.next().port });
      try {
        for (let said = 0; !this.#isOver; said++) {
          socket.text(`message ${said}`);
          let heard = await socket.nextText();
          while (heard === "rolling") heard = await socket.nextText();
          if (heard !== `message ${said}`) this.failures.push(`heard ${heard}`);
          this.echoCount++;
          await Bun.sleep(20);
        }
        socket.close(1000, "done");
      } catch (fault) {
        this.comings.push(String(fault));
      }
    }
  }
}

test(`a rolling restart of ${NODES} nodes fails no call and loses no disconnect`, async () => {
  await using backend = await LedgerBackend.start({
    respond: ({ event, connectionId, body }) => {
      if (event === "message") return orderly(200, ["Content-Type: text/plain"], body);
      return orderly(event === "connect" ? 200 : 204, [`X-ASRS-User-Id: u-${connectionId}`]);
    },
  });
  const shutdown = { delayMs: 2000, spreadMs: 500, drainTimeoutMs: 10_000 };
  await using cluster = await Cluster.start({
    nodeCount: NODES,
    urlTemplate: backend.urlTemplate,
    config: { shutdown },
  });
  const balancer = new Balancer(cluster.nodes);
  const traffic = new Traffic(balancer);
  for (const old of [...cluster.nodes]) {
    old.kill("SIGTERM");
    expect(await within(old.ended, "the node's end", 60_000)).toBe(0);
    balancer.remove(old);
    balancer.add(await cluster.add({ dataDir: old.dataDir }));
  }
  await traffic.stop();
  await balancer.stop();
  await backend.ledger.settled();
  const { acceptedCount, duplicates, owed } = backend.ledger;
  console.log(
    `calls ${traffic.callCount}, failed ${traffic.failures.length}; connections ${acceptedCount}, lost = ${owed}, duplicates = ${duplicates}`,
  );
  expect(traffic.failures).toEqual([]);
  expect([owed, duplicates]).toEqual([0, 0]);
  expect(cluster.faults()).toEqual([]);
  // Each client was disconnected at least once, each time by a close frame that says why.
  expect(traffic.comings.filter((text) => !text.includes("shutting down"))).toEqual([]);
  expect(traffic.comings.length).toBeGreaterThanOrEqual(CLIENTS);
  expect(traffic.callCount).toBeGreaterThan(100);
});
