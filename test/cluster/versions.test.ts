import { afterAll, afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { LedgerBackend, orderly } from "../reliability/support/ledger-backend.ts";
import { Cluster, callNode, ready } from "../support/cluster.ts";
import { CommandGateway } from "../support/command-gateway.ts";
import { within } from "../support/deadline.ts";
import { EarlierCheckout } from "../support/earlier-checkout.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";

/** A node of 0.1 and one of this version, in one cluster: as during every rolling upgrade. */
setDefaultTimeout(180_000);
const PATIENCE_MS = 90_000;
const PORTS_PER_TEST = 12;

const checkout = EarlierCheckout.make();
afterAll(() => checkout?.[Symbol.dispose]());

let backend: LedgerBackend;
let cluster: Cluster;
let older: CommandGateway;
let newer: CommandGateway;
let clients: RawWebSocket[];

describe.skipIf(checkout === null)("a node of 0.1 and one of this version", () => {
  beforeEach(async () => {
    clients = [];
    backend = await LedgerBackend.start({
      respond: ({ event, header }) => {
        if (event === "connect") return orderly(200, [`X-ASRS-User-Id: ${userOf(header("x-asrs-client-query"))}`]);
        return orderly(204);
      },
    });
    cluster = await Cluster.start({ nodeCount: 0, urlTemplate: backend.urlTemplate });
    newer = await cluster.add();
    older = await CommandGateway.start({ through: "bun", config: cluster.config, repository: checkout?.folder ?? "" });
    cluster.nodes.push(older);
    await ready(older.port);
  });
  afterEach(async () => {
    for (const client of clients) client.destroy();
    await cluster[Symbol.asyncDispose]();
    await backend.stop();
  });

  async function connect(node: CommandGateway, name: string): Promise<RawWebSocket[]> {
    const users = Array.from({ length: PORTS_PER_TEST }, (_empty, index) => `${name}-${index}`);
    const opened = await Promise.all(
      users.map((user) => RawWebSocket.open({ port: node.port, path: `/ws/client/hubs/chat?user=${user}` })),
    );
    clients.push(...opened);
    await cluster.copied([...backend.ledger.accounts.keys(), ...users.map((user) => JSON.stringify(user))]);
    return opened;
  }

  async function expectTakenOver(name: string): Promise<void> {
    const gone = () =>
      [...backend.ledger.accounts.values()].filter(
        ({ userId, disconnects }) => userId.startsWith(`${name}-`) && disconnects > 0,
      ).length;
    await backend.ledger.until(() => gone() === PORTS_PER_TEST, `the disconnects of ${name}`, {
      deadlineMs: PATIENCE_MS,
      fault: () => `${gone()} of ${PORTS_PER_TEST}`,
    });
  }

  test.each(["older", "newer"] as const)("kill -9 of the %s: the other sends all its disconnects", async (which) => {
    const [gone, stays] = which === "older" ? [older, newer] : [newer, older];
    await connect(stays, "here");
    await connect(gone, "gone");
    gone.kill("SIGKILL");
    await within(gone.ended, "the killed node's end");
    await expectTakenOver("gone");
    const dropped = stays.logLines().filter(({ msg }) => /skipped|no message|dropped/i.test(String(msg)));
    expect(dropped).toEqual([]);
  });

  test("what one is told to send arrives at the clients of the other, and rules hold on both", async () => {
    const [atOlder] = await connect(older, "old");
    const [atNewer] = await connect(newer, "new");
    for (const [from, client, user] of [
      [older, atNewer, "new-0"],
      [newer, atOlder, "old-0"],
    ] as const) {
      const put = await callNode(from.port, {
        method: "PUT",
        target: `/ws/api/hubs/chat/groups/red/users/${user}?ttl=60`,
      });
      expect(put.status).toBe(202);
      const call = { method: "POST", body: `hello ${user}`, type: "text/plain" };
      expect((await callNode(from.port, { ...call, target: "/ws/api/hubs/chat/groups/red/messages" })).status).toBe(
        202,
      );
      expect(await client?.nextText()).toBe(`hello ${user}`);
    }
  });
});

function userOf(query: string): string {
  return new URLSearchParams(query).get("user") ?? "nobody";
}
