import { expect, setDefaultTimeout } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../test/support/deadline.ts";
import { NatsNode } from "../../test/support/nats-nodes.ts";
import { NatsProxy } from "../../test/support/nats-proxy.ts";
import { freePort, NatsServer } from "../../test/support/nats-server.ts";
import { toPayload } from "../../test/support/payloads.ts";
import { needs } from "../../test/support/programs.ts";
import type { Members } from "../protocol/envelope.ts";

const { afterEach, describe, test } = needs("nats-server");

/**
 * When NATS is back: nothing is answered before it is whole.
 * Source: PROTOCOL.md, "Several nodes": health is 503 until the node has reached NATS again.
 */
setDefaultTimeout(60_000);

const USER: Members = { kind: "user", hub: "chat", name: "ann" };
const EXISTS = { verb: "exists", target: USER } as const;

let stack: AsyncDisposableStack;

afterEach(async () => {
  await stack.disposeAsync();
});

async function startServer(config = ""): Promise<NatsServer> {
  return stack.use(await NatsServer.start({ config }));
}

async function startNodes(...servers: readonly NatsServer[]): Promise<[NatsNode, NatsNode]> {
  const [one, other] = servers.map((server, index) => stack.use(new NatsNode(server, `node-${index}`)));
  if (one === undefined || other === undefined) throw new Error("there are two");
  for (const node of [one, other]) node.broker.start();
  for (const node of [one, other]) await node.ready();
  return [one, other];
}

function send(from: NatsNode, text: string): Promise<"sent" | "unavailable"> {
  return from.broker.publish({ verb: "send", target: USER, excluded: [], payload: toPayload(text) });
}

describe("a node that was known", () => {
  test("and is not back is waited for: nobody is told of half a broadcast, until it is silent for ten seconds", async () => {
    stack = new AsyncDisposableStack();
    const server = await startServer();
    const [one, other] = await startNodes(server, server);
    await server.stop("SIGKILL");
    await until(() => !one.link.isUp && !other.link.isUp, "the loss");
    await other.crash();
    await server.restart();
    await until(() => one.link.isUp, "the return");
    // The link is up a moment before the node says hello, from which the time counts.
    await until(async () => {
      await one.clock.advance(500);
      return one.awaited.length > 0;
    }, "the report of who is not back");
    expect(one.awaited).toEqual([["node-1"]]);
    expect(await send(one, "to a part")).toBe("unavailable");
    expect(await one.broker.ask(EXISTS, "first-yes")).toBe("unavailable");
    await one.clock.advance(8000);
    expect(await send(one, "to all that are left")).toBe("sent");
  });

  test("on a server that knows not yet who listens at the others is reached by all that is sent", async () => {
    stack = new AsyncDisposableStack();
    const [routePort, otherRoutePort] = [await freePort(), await freePort()];
    const proxy = await NatsProxy.start(routePort);
    stack.defer(() => proxy.stop());
    const cluster = (port: number, routes: string) =>
      `cluster { name: c, listen: "127.0.0.1:${port}", no_advertise: true, routes: [${routes}] }`;
    // It waits for the other; without any route it would not start.
    const restarted = await startServer(`server_name: a\n${cluster(routePort, "nats-route://127.0.0.1:1")}`);
    const standing = await startServer(
      `server_name: b\n${cluster(otherRoutePort, `nats-route://127.0.0.1:${proxy.port}`)}`,
    );
    const [one, other] = await startNodes(restarted, standing);
    await until(() => one.broker.isReady && other.broker.isReady, "both");
    await other.broker.join(USER);
    const arrives = async () => (await send(one, "before")) === "sent" && other.heard.length > 0;
    await until(arrives, "the first server to know of the join");
    proxy.hold();
    await restarted.stop("SIGKILL");
    await until(() => !one.link.isUp, "the loss");
    await restarted.restart();
    await until(() => one.link.isUp, "the return");
    await one.clock.advance(3000);
    expect(await send(one, "to a part")).toBe("unavailable");
    expect(await one.broker.ask(EXISTS, "first-yes")).toBe("unavailable");
    proxy.release();
    const isSent = async () => {
      // No faster than the servers find each other, or the silent node would be forgotten.
      await sleep(100);
      await one.clock.advance(100);
      return (await send(one, "after")) === "sent";
    };
    await until(isSent, "the node to be ready");
    await until(() => other.texts.includes("after"), "the message to arrive");
    expect(other.texts).not.toContain("to a part");
    expect(await one.broker.ask(EXISTS, "first-yes")).toBe("yes");
  });
});
