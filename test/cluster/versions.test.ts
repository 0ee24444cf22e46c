import { expect, setDefaultTimeout } from "bun:test";
import { connect as connectToNats } from "@nats-io/transport-node";
import { LedgerBackend, orderly } from "../reliability/support/ledger-backend.ts";
import { Cluster, callNode, ready } from "../support/cluster.ts";
import { CommandGateway } from "../support/command-gateway.ts";
import { until, within } from "../support/deadline.ts";
import { EarlierCheckout } from "../support/earlier-checkout.ts";
import { needs } from "../support/programs.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";

const { afterAll, afterEach, beforeEach, describe, test } = needs("nats-server");

/** A node of 0.1 and one of this version, in one cluster: as during every rolling upgrade. */
setDefaultTimeout(180_000);
const PATIENCE_MS = 90_000;
const PORTS_PER_TEST = 12;

const checkout = EarlierCheckout.make();
afterAll(() => checkout[Symbol.dispose]());

let backend: LedgerBackend;
let cluster: Cluster;
let older: CommandGateway;
let newer: CommandGateway;
let clients: RawWebSocket[];

describe("a node of 0.1 and one of this version", () => {
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
    older = await CommandGateway.start({ through: "bun", config: cluster.config, repository: checkout.folder });
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

  test("beats and messages are in the form of 0.1 while it is there, and in the newest when it has gone", async () => {
    const nats = await connectToNats({ servers: cluster.nats.url });
    const said: string[] = [];
    const forms = new Map<string, number | undefined>();
    nats.subscribe("hubwire.beat", { callback: (_error, message) => void said.push(message.string()) });
    nats.subscribe("hubwire.user.>", {
      callback: (_error, { data }) => void forms.set(Buffer.from(data).toString("utf8").slice(-3), data[0]),
    });
    await nats.flush();
    const [atOlder] = await connect(older, "old");
    const [atNewer] = await connect(newer, "new");
    await within(nats.flush(), "the subscriptions");
    const send = async (body: string, user: string) => {
      const target = `/ws/api/hubs/chat/users/${user}/messages`;
      return (await callNode(newer.port, { method: "POST", target, body, type: "text/plain" })).status;
    };
    expect(await send("one", "old-0")).toBe(202);
    expect(await atOlder?.nextText()).toBe("one");
    // Over another connection than the client's, so perhaps later.
    await until(() => forms.has("one"), "the message between nodes", PATIENCE_MS);
    expect(forms.get("one")).toBe(1);
    const before = said.length;
    await until(() => said.length >= before + 6, "beats of both");
    expect(said.slice(before).filter((text) => /^[0-9]/.test(text))).toEqual([]);
    older.kill("SIGTERM");
    await within(older.ended, "the end of 0.1", PATIENCE_MS);
    await until(() => said.some((text) => text.startsWith("2 beat ")), "a beat in the newest form", PATIENCE_MS);
    expect(await send("two", "new-0")).toBe(202);
    expect(await atNewer?.nextText()).toBe("two");
    // Over another connection than the client's, so perhaps later.
    await until(() => forms.has("two"), "the message between nodes", PATIENCE_MS);
    expect(forms.get("two")).toBe(2);
    await nats.close();
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
