import { expect, setDefaultTimeout } from "bun:test";
import { LedgerBackend, orderly } from "../reliability/support/ledger-backend.ts";
import { callNode, copied, health } from "../support/cluster.ts";
import { CommandGateway } from "../support/command-gateway.ts";
import { until, within } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { freePort, NatsServer } from "../support/nats-server.ts";
import { needs } from "../support/programs.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";

const { afterEach, beforeEach, test } = needs("nats-server");

/**
 * Three NATS servers, of which one or two go away: what is stored is stored three times.
 * Source: PROTOCOL.md, "Health".
 */
setDefaultTimeout(400_000);

/** After a loss the servers of 2.9 may need half a minute to find their leaders again. */
const PATIENCE_MS = 150_000;
const HUB = "/ws/api/hubs/chat";

let servers: NatsServer[];
let backend: LedgerBackend;
let nodes: CommandGateway[];
let clients: RawWebSocket[];

beforeEach(async () => {
  clients = [];
  const ports = await Promise.all([0, 1, 2].map(freePort));
  const routes = ports.map((port) => `nats-route://127.0.0.1:${port}`).join(", ");
  servers = await Promise.all(
    ports.map((port, index) =>
      NatsServer.start({
        config: `server_name: s${index}\ncluster { name: c, listen: "127.0.0.1:${port}", no_advertise: true, routes: [${routes}] }`,
      }),
    ),
  );
  backend = await LedgerBackend.start({
    respond: ({ event, header, body }) => {
      if (event === "message") return orderly(200, ["Content-Type: text/plain"], body);
      const user = new URLSearchParams(header("x-asrs-client-query")).get("user");
      return orderly(event === "connect" ? 200 : 204, [`X-ASRS-User-Id: ${user}`]);
    },
  });
  // Each prefers another server, and may use all.
  nodes = await Promise.all(
    servers.map(async (first) => {
      const urls = [first.url, ...servers.filter((server) => server !== first).map(({ url }) => url)];
      const node = await CommandGateway.start({
        through: "bun",
        config: {
          accessKeys: KEYS,
          upstreams: [{ urlTemplate: backend.urlTemplate }],
          shutdown: { spreadMs: 0, drainTimeoutMs: 8000 },
          // The clients here read nothing, so answer no ping, while the servers look for their leaders.
          websocket: { pingAfterMs: 2 * PATIENCE_MS },
          cluster: { nats: { servers: urls } },
        },
      });
      await ready(node);
      return node;
    }),
  );
});
afterEach(async () => {
  for (const client of clients) client.destroy();
  for (const node of nodes) await node[Symbol.asyncDispose]();
  for (const server of servers) await server[Symbol.asyncDispose]();
  await backend.stop();
});

function nth<Item>(items: readonly Item[], index: number): Item {
  const item = items[index];
  if (item === undefined) throw new Error(`there is no ${index}`);
  return item;
}

async function join(node: CommandGateway, user: string): Promise<RawWebSocket> {
  const client = await RawWebSocket.open({ port: node.port, path: `/ws/client/hubs/chat?user=${user}` });
  clients.push(client);
  return client;
}

async function push(node: CommandGateway, user: string, body: string): Promise<number> {
  return (
    await callNode(node.port, { method: "POST", target: `${HUB}/users/${user}/messages`, type: "text/plain", body })
  ).status;
}

/** The first text that a client gets of what is sent to it again and again. */
async function arrived(client: RawWebSocket, send: () => Promise<unknown>): Promise<string> {
  let text: string | null = null;
  const reading = client.nextText(PATIENCE_MS).then((got) => {
    text = got;
  });
  const hasArrived = async () => {
    if (text === null) await send();
    return text !== null;
  };
  await until(hasArrived, "a message to arrive", PATIENCE_MS);
  await reading;
  return text ?? "";
}

async function ready(node: CommandGateway): Promise<void> {
  await until(async () => (await health(node.port)) === 200, "the node to be ready", PATIENCE_MS);
}

test("one server of three goes away: messages, rules and takeovers go on without it", async () => {
  const ann = await join(nth(nodes, 0), "ann");
  await join(nth(nodes, 2), "dora");
  const rule = { method: "PUT", target: `${HUB}/users/bob/groups/g?ttl=600` };
  await until(async () => (await callNode(nth(nodes, 2).port, rule)).status === 202, "the rule", PATIENCE_MS);
  await copied([...backend.ledger.accounts.keys(), '"dora"'], { nats: nth(servers, 1) });
  await nth(servers, 0).stop("SIGKILL");
  // What is sent while her node looks for another server is lost, and 202: at most once.
  const toAnn = () => push(nth(nodes, 1), "ann", "over another server");
  expect(await arrived(ann, toAnn)).toBe("over another server");
  const bob = await join(nth(nodes, 0), "bob");
  const group = { method: "POST", target: `${HUB}/groups/g/messages`, type: "text/plain", body: "by the rule" };
  expect(await arrived(bob, async () => await callNode(nth(nodes, 1).port, group))).toBe("by the rule");
  const gone = nth(nodes, 2);
  gone.kill("SIGKILL");
  await within(gone.ended, "the killed node's end");
  const isSent = () =>
    [...backend.ledger.accounts.values()].some(
      ({ userId, closeReason }) => userId === "dora" && closeReason === "gateway node lost",
    );
  await backend.ledger.until(isSent, "the disconnect", { deadlineMs: PATIENCE_MS });
  expect(backend.ledger.owed).toBe(2);
});

test("two of three go away for longer than a lease: nobody takes over the living, who are not ready meanwhile", async () => {
  const carl = await join(nth(nodes, 0), "carl");
  await Promise.all([nth(servers, 1).stop("SIGKILL"), nth(servers, 2).stop("SIGKILL")]);
  const isRefused = async (node: CommandGateway) =>
    (await health(node.port)) === 503 && (await push(node, "carl", "to a part")) === 503;
  for (const node of nodes) await until(() => isRefused(node), "a node that counts as cut off", PATIENCE_MS);
  carl.text("still served");
  expect(await carl.nextText()).toBe("still served");
  await Promise.all([nth(servers, 1).restart(), nth(servers, 2).restart()]);
  for (const node of nodes) await ready(node);
  await until(async () => (await push(nth(nodes, 1), "carl", "again")) === 202, "a push", PATIENCE_MS);
  expect(await carl.nextText()).toBe("again");
  const lost = nodes.flatMap((node) => node.logLines().filter(({ msg }) => /^(?:lease|node) lost/.test(String(msg))));
  expect(lost).toEqual([]);
  expect(backend.ledger.owed).toBe(1);
});
