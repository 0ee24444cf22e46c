import { expect, setDefaultTimeout } from "bun:test";
import { LedgerBackend, orderly } from "../reliability/support/ledger-backend.ts";
import { callNode, health } from "../support/cluster.ts";
import { CommandGateway } from "../support/command-gateway.ts";
import { until } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { freePort, NatsServer } from "../support/nats-server.ts";
import { needs } from "../support/programs.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { RestClient } from "../support/rest-client.ts";

const { afterEach, beforeEach, test } = needs("nats-server");

/** A NATS server in lame-duck mode, as in every rolling restart of NATS: pushes go on while the nodes move to another one. */
setDefaultTimeout(180_000);

const PATIENCE_MS = 90_000;
const GROUP = "/ws/api/hubs/chat/groups/all/messages";

/** It keeps its connections for a minute, and a node should not need that long. */
const LAME_DUCK = 'lame_duck_grace_period: "60s"\nlame_duck_duration: "120s"\n';

let servers: NatsServer[];
let backend: LedgerBackend;
let nodes: CommandGateway[];

beforeEach(async () => {
  const ports = await Promise.all([0, 1, 2].map(freePort));
  const routes = ports.map((port) => `nats-route://127.0.0.1:${port}`).join(", ");
  const configOf = (port: number, index: number) =>
    `${LAME_DUCK}server_name: s${index}\ncluster { name: c, listen: "127.0.0.1:${port}", no_advertise: true, routes: [${routes}] }`;
  servers = await Promise.all(ports.map((port, index) => NatsServer.start({ config: configOf(port, index) })));
  backend = await LedgerBackend.start({
    respond: ({ event }) =>
      orderly(event === "connect" ? 200 : 204, ["X-ASRS-User-Id: u", "X-ASRS-Connection-Group: all"]),
  });
  const config = {
    accessKeys: KEYS,
    upstreams: [{ urlTemplate: backend.urlTemplate }],
    shutdown: { spreadMs: 0, drainTimeoutMs: 8000 },
    cluster: { nats: { servers: servers.map(({ url }) => url) } },
  };
  nodes = await Promise.all([0, 1].map(() => CommandGateway.start({ through: "bun", config })));
  // The servers of 2.9 need a while to choose their leaders.
  await Promise.all(nodes.map(({ port }) => until(async () => (await health(port)) === 200, "a node", PATIENCE_MS)));
});
afterEach(async () => {
  for (const node of nodes) await node[Symbol.asyncDispose]();
  for (const server of servers) await server[Symbol.asyncDispose]();
  await backend.stop();
});

/** Pushes to the group through one node, one call behind the other, until it is told to end. */
class Caller {
  readonly refused: number[] = [];
  readonly done: Promise<void>;
  count = 0;
  #isOver = false;

  constructor(node: CommandGateway, name: string) {
    this.done = this.#run(node, name);
  }

  end(): Promise<void> {
    this.#isOver = true;
    return this.done;
  }

  async #run({ port }: CommandGateway, name: string): Promise<void> {
    using client = await RestClient.dial(port);
    while (!this.#isOver) {
      const body = `${name} ${this.count++}`;
      const { status } = await client.call({ method: "POST", target: GROUP, type: "text/plain", body });
      if (status !== 202) this.refused.push(status);
    }
  }
}

/** Reads all that a client gets from the start on. */
class Reader {
  /** What came of each caller, in order. */
  readonly got = new Map<string, number[]>();
  readonly #done: Promise<void>;
  #counts: ReadonlyMap<string, number> | null = null;

  constructor(client: RawWebSocket) {
    this.#done = this.#run(client);
  }

  /** Resolves when the last message of each caller is there. A message must come after this. */
  async whenAll(counts: ReadonlyMap<string, number>): Promise<void> {
    this.#counts = counts;
    await this.#done;
  }

  async #run(client: RawWebSocket): Promise<void> {
    while (!this.#isDone()) {
      const [name = "", number] = (await client.nextText(PATIENCE_MS)).split(" ");
      const numbers = this.got.get(name);
      if (numbers === undefined) this.got.set(name, [Number(number)]);
      else numbers.push(Number(number));
    }
  }

  #isDone(): boolean {
    return this.#counts !== null && [...this.#counts].every(([name, count]) => this.got.get(name)?.includes(count - 1));
  }
}

/** What is missing, came twice or too early. */
function faultsOf(got: readonly number[], count: number): string[] {
  const known = new Set(got);
  const missing = Array.from({ length: count }, (_empty, number) => number).filter((number) => !known.has(number));
  const misplaced = got.filter((number, index) => index > 0 && number <= (got[index - 1] ?? 0));
  return [...missing.map((number) => `${number} is missing`), ...misplaced.map((number) => `${number} again or late`)];
}

test("no push is refused, and each arrives once and in order, while the nodes leave a server in lame-duck mode", async () => {
  const lines = await Promise.all(nodes.map((node) => node.logged("NATS reached")));
  const ports = lines.map(({ server }) => String(server).split(":").at(-1));
  const from = servers.find(({ port }) => String(port) === ports[0]);
  const clients = await Promise.all(nodes.map(({ port }) => RawWebSocket.open({ port, path: "/ws/client/hubs/chat" })));
  const readers = clients.map((client) => new Reader(client));
  const callers = new Map(nodes.map((node, index) => [`caller-${index}`, new Caller(node, `caller-${index}`)]));
  process.kill(from?.pid ?? 0, "SIGUSR2");
  const leaving = nodes.filter((_node, index) => ports[index] === ports[0]);
  const hasMoved = (node: CommandGateway) => node.logLines().filter(({ msg }) => msg === "NATS reached").length > 1;
  for (const node of leaving) await until(() => hasMoved(node), "the other server", PATIENCE_MS);
  await Promise.all([...callers.values()].map((caller) => caller.end()));
  for (const { refused } of callers.values()) expect(refused).toEqual([]);
  const counts = new Map([...callers].map(([name, { count }]) => [name, count]));
  const all = readers.map((reader) => reader.whenAll(counts));
  const end = { method: "POST", target: GROUP, type: "text/plain", body: "end 0" };
  for (const { port } of nodes) expect((await callNode(port, end)).status).toBe(202);
  await Promise.all(all);
  for (const { got } of readers) {
    for (const [name, count] of counts) expect(faultsOf(got.get(name) ?? [], count)).toEqual([]);
  }
  for (const client of clients) client.destroy();
  // It is 202 when every node has heard of the rule: their watches have moved too.
  for (const { port } of nodes) {
    const rule = { method: "PUT", target: "/ws/api/hubs/chat/users/u/groups/ruled?ttl=60" };
    await until(async () => (await callNode(port, rule)).status === 202, "the rule", PATIENCE_MS);
  }
  console.log(`${[...counts.values()].join(" and ")} pushes while ${leaving.length} of 2 nodes moved`);
});
