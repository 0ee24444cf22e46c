import { expect, setDefaultTimeout } from "bun:test";
import { LedgerBackend, orderly } from "../reliability/support/ledger-backend.ts";
import { Cluster, callNode } from "../support/cluster.ts";
import { until, within } from "../support/deadline.ts";
import { NatsProxy } from "../support/nats-proxy.ts";
import { needs } from "../support/programs.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";

const { test } = needs("nats-server");

/** PROTOCOL.md, "Before the 101": what comes through another node while a connection has its 2xx and no WebSocket yet. */
setDefaultTimeout(60_000);

const HUB = "/ws/api/hubs/chat";

test("a send and a join through another node, between the 2xx and the 101, hold", async () => {
  const asked = Promise.withResolvers<string>();
  const gate = Promise.withResolvers<void>();
  const backend = await LedgerBackend.start({
    respond: async ({ event, connectionId }) => {
      if (event !== "connect") return orderly(204);
      asked.resolve(connectionId);
      await gate.promise;
      return orderly(200, ["X-ASRS-User-Id: newcomer", "Content-Type: text/plain"], "first");
    },
  });
  await using cluster = await Cluster.start({ nodeCount: 1, urlTemplate: backend.urlTemplate });
  const proxy = await NatsProxy.start(Number(new URL(cluster.nats.url).port));
  const other = cluster.node(0);
  const node = await cluster.add({ cluster: { nats: { servers: [proxy.url] } } });
  /** Resolves when the node has been sent something that has this text in it. */
  const heard = (text: string): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    proxy.passes = (piece) => {
      if (piece.includes(text)) resolve();
      return true;
    };
    return within(promise, `"${text}" on its way to the node`);
  };
  try {
    const client = await RawWebSocket.request({ port: node.port });
    const id = await within(asked.promise, "the connect event");
    // From here on the node hears NATS, and NATS does not hear the node, so the 101 has to wait.
    proxy.holdClient();
    gate.resolve();
    await until(() => proxy.said.includes("newcomer"), "the node to have read the 2xx");

    const isSent = heard("to the id");
    const post = { method: "POST", type: "text/plain" };
    const sent = await callNode(other.port, {
      ...post,
      target: `${HUB}/connections/${id}/messages`,
      body: "to the id",
    });
    expect(sent.status).toBe(202);
    await isSent;
    const isAsked = heard("late-group");
    const joined = callNode(other.port, { method: "PUT", target: `${HUB}/groups/late-group/connections/${id}` });
    await isAsked;
    expect(client.stream.leftover.length).toBe(0);

    proxy.releaseClient();
    expect((await joined).status).toBe(200);
    await client.upgraded();
    expect([await client.nextText(), await client.nextText()]).toEqual(["first", "to the id"]);
    for (const target of ["groups/late-group", "users/newcomer"]) {
      expect((await callNode(other.port, { ...post, target: `${HUB}/${target}/messages`, body: target })).status).toBe(
        202,
      );
      expect(await client.nextText()).toBe(target);
    }
    client.destroy();
    expect(cluster.faults()).toEqual([]);
  } finally {
    await proxy.stop();
    await backend.stop();
  }
});
