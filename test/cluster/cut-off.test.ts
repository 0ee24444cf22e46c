import { expect, setDefaultTimeout } from "bun:test";
import { LedgerBackend, orderly } from "../reliability/support/ledger-backend.ts";
import { Cluster, callNode, ready } from "../support/cluster.ts";
import { CommandGateway } from "../support/command-gateway.ts";
import { until } from "../support/deadline.ts";
import { canMakeNetworks, Network } from "../support/network.ts";
import { needs } from "../support/programs.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";

const { describe, test } = needs("ip", "nats-server");

/**
 * A node whose cable to NATS is cut, and healed, while its clients and the backend still reach it.
 * Source: PROTOCOL.md, "A node that is cut off".
 */
setDefaultTimeout(180_000);

const PATIENCE_MS = 60_000;
const CLIENTS = 20;

/** What the backend saw: in order, which events of which connection. */
interface Seen {
  readonly event: string;
  readonly connectionId: string;
  readonly reason: string;
}

/** A node in a network of its own, and one next to NATS and the backend. */
class Stage implements AsyncDisposable {
  readonly network = new Network();
  readonly seen: Seen[] = [];
  readonly clients: RawWebSocket[] = [];
  backend!: LedgerBackend;
  cluster!: Cluster;
  /** The one that can be cut off. */
  far!: CommandGateway;
  near!: CommandGateway;

  static async start(): Promise<Stage> {
    const stage = new Stage();
    const { network } = stage;
    stage.backend = await LedgerBackend.start({
      host: network.hereBySecond,
      respond: ({ event, connectionId, header, body }) => {
        stage.seen.push({ event, connectionId, reason: header("x-hubwire-close-reason") });
        if (event === "message") return orderly(200, ["Content-Type: text/plain"], body);
        if (event === "disconnect") return orderly(204);
        const user = new URLSearchParams(header("x-asrs-client-query")).get("user");
        return orderly(200, [`X-ASRS-User-Id: ${user}`, "Content-Type: text/plain"], connectionId);
      },
    });
    const { urlTemplate } = stage.backend;
    stage.cluster = await Cluster.start({ nodeCount: 1, urlTemplate, natsHost: network.hereByFirst });
    stage.near = stage.cluster.node(0);
    const listen = { host: network.insideBySecond, port: 0 };
    const config = { ...stage.cluster.config, listen };
    stage.far = await CommandGateway.start({ through: "bun", within: network.within, config });
    stage.cluster.nodes.push(stage.far);
    await ready(stage.far.port, network.insideBySecond);
    return stage;
  }

  /** A client of the node that can be cut off, and its connection's id. */
  async join(user: string): Promise<{ client: RawWebSocket; id: string }> {
    const client = await RawWebSocket.open({
      host: this.network.insideBySecond,
      port: this.far.port,
      path: `/ws/client/hubs/chat?user=${user}`,
    });
    this.clients.push(client);
    return { client, id: await client.nextText() };
  }

  disconnectsOf(id: string): Seen[] {
    return this.seen.filter(({ event, connectionId }) => event === "disconnect" && connectionId === id);
  }

  /** How many of a connection's events came behind its disconnect, repeated disconnects aside. */
  lateEventsOf(id: string): number {
    const own = this.seen.filter(({ connectionId }) => connectionId === id);
    const first = own.findIndex(({ event }) => event === "disconnect");
    return first < 0 ? 0 : own.slice(first).filter(({ event }) => event !== "disconnect").length;
  }

  async push(user: string, body: string): Promise<number> {
    const target = `/ws/api/hubs/chat/users/${user}/messages`;
    return (await callNode(this.near.port, { method: "POST", target, type: "text/plain", body })).status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.clients) client.destroy();
    await this.cluster?.[Symbol.asyncDispose]();
    await this.backend?.stop();
    this.network[Symbol.dispose]();
  }
}

describe.skipIf(!canMakeNetworks())("a node that is cut off from NATS", () => {
  test("longer than its lease: another sends its disconnects; healed, it ends its old connections and goes on under a new name", async () => {
    await using stage = await Stage.start();
    const old = await Promise.all(Array.from({ length: CLIENTS }, (_empty, index) => stage.join(`old-${index}`)));
    await stage.cluster.copied(old.map(({ id }) => id));
    stage.network.cutFirst();
    await stage.far.logged("NATS out of reach: pushes and questions are answered 503");
    // It goes on for its clients, and takes new ones, of whom nobody else can know.
    const meanwhile = await stage.join("meanwhile");
    for (const { client } of [...old, meanwhile]) {
      client.text("still here");
      expect(await client.nextText()).toBe("still here");
    }
    const isTaken = () => old.every(({ id }) => stage.disconnectsOf(id).length > 0);
    await until(isTaken, "the other node's disconnects", PATIENCE_MS);
    for (const { client } of old) {
      client.text("after my disconnect");
      expect(await client.nextText()).toBe("after my disconnect");
    }
    const late = old.reduce((sum, { id }) => sum + stage.lateEventsOf(id), 0);
    console.log(`events of a connection after its disconnect while its node was cut off: ${late}`);
    expect(late).toBe(CLIENTS);

    stage.network.healFirst();
    const { nodeId, newNodeId, count } = await stage.far.logged(
      "lease lost: another node has taken over these connections",
    );
    expect([count, nodeId]).toEqual([CLIENTS, meanwhile.id.slice(0, 8)]);
    for (const { client } of [...old, meanwhile]) {
      client.text("too late");
      expect(await closeOf(client)).toEqual({ code: 1012, reason: "node was cut off" });
    }
    await until(() => stage.disconnectsOf(meanwhile.id).length > 0, "the disconnect that only it could know of");
    expect(stage.disconnectsOf(meanwhile.id).map(({ reason }) => reason)).toEqual(["node was cut off"]);
    // Nothing more was posted for those that the other node has answered for.
    expect(old.reduce((sum, { id }) => sum + stage.lateEventsOf(id), 0)).toBe(late);
    for (const { id } of old) {
      expect(stage.disconnectsOf(id).map(({ reason }) => reason)).toEqual(["gateway node lost"]);
    }

    await ready(stage.far.port, stage.network.insideBySecond);
    const anew = await stage.join("anew");
    expect(anew.id.slice(0, 8)).toBe(String(newNodeId));
    expect(await stage.push("anew", "from the other node")).toBe(202);
    expect(await anew.client.nextText()).toBe("from the other node");
    expect(stage.backend.ledger.owed).toBe(1);
    expect(stage.cluster.faults()).toEqual([]);
  });

  test("for less than its lease: its connections live on, and are reached again", async () => {
    await using stage = await Stage.start();
    const { client, id } = await stage.join("ann");
    stage.network.cutFirst();
    await stage.far.logged("NATS out of reach: pushes and questions are answered 503");
    stage.network.healFirst();
    await stage.far.logged("NATS reached", 2);
    await ready(stage.far.port, stage.network.insideBySecond);
    await until(async () => (await stage.push("ann", "again")) === 202, "the other node to send");
    expect(await client.nextText()).toBe("again");
    expect(stage.disconnectsOf(id)).toEqual([]);
    expect(stage.far.logLines().filter(({ msg }) => String(msg).startsWith("lease lost"))).toEqual([]);
  });
});

/** The close frame behind any other frames. */
async function closeOf(client: RawWebSocket): Promise<{ code: number; reason: string }> {
  for (;;) {
    const frame = await client.frame();
    if (frame.opcode !== 8) continue;
    return { code: frame.payload.readUInt16BE(), reason: frame.payload.subarray(2).toString("utf8") };
  }
}
