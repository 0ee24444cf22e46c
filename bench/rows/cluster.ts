import { NatsBroker } from "../../src/broker/nats.ts";
import { NatsLink } from "../../src/nats/link.ts";
import { systemClock } from "../../src/system-clock.ts";
import { Cluster } from "../../test/support/cluster.ts";
import type { CommandGateway } from "../../test/support/command-gateway.ts";
import { until } from "../../test/support/deadline.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { audienceOf, RestClient, restToken } from "../../test/support/rest-client.ts";
import {
  cpuSeconds,
  gatewayConfig,
  median,
  perSecond,
  type Row,
  rssBytes,
  type Tools,
  times,
  withSpread,
} from "../tools.ts";

const RECEIVERS = 1000;
/** Callers that publish at the same time, each waiting for its answer. */
const CALLERS = 2;
const HUB = "/ws/api/hubs/chat";

/** What one fan-out came to. */
interface FanOut {
  readonly rate: number;
  readonly lost: number;
  /** Of all gateways, in microseconds for each delivery. */
  readonly cpuUs: number;
  readonly natsCpuUs: number;
}

/** Broadcasts through the first gateway to receivers that are spread over all of them. */
async function fanOut(tools: Tools, gateways: readonly CommandGateway[], natsPid: number | null): Promise<FanOut> {
  const share = RECEIVERS / gateways.length;
  const loads = gateways.map(({ port }) => tools.startLoad("recv", port, "/ws/client/hubs/chat", share));
  for (const { ready } of loads) await ready;
  const cpuBefore = gateways.map(({ pid }) => cpuSeconds(pid));
  const natsBefore = natsPid === null ? 0 : cpuSeconds(natsPid);
  const startedAtMs = performance.now();
  const sent = await Promise.all(
    Array.from({ length: CALLERS }, () => publish(gateways[0]?.port ?? 0, tools.effort.seconds)),
  );
  const tookSeconds = (performance.now() - startedAtMs) / 1000;
  const expected = sent.reduce((sum, count) => sum + count, 0) * RECEIVERS;
  // What is still on its way arrives; then the receivers say what they have.
  await Bun.sleep(1500);
  for (const { end } of loads) end();
  const received = (await Promise.all(loads.map(({ result }) => result))).reduce(
    (sum, { messages }) => sum + messages,
    0,
  );
  const cpu = gateways.reduce((sum, { pid }, index) => sum + cpuSeconds(pid) - (cpuBefore[index] ?? 0), 0);
  const nats = natsPid === null ? 0 : cpuSeconds(natsPid) - natsBefore;
  return {
    rate: received / tookSeconds,
    lost: expected - received,
    cpuUs: (cpu / received) * 1e6,
    natsCpuUs: (nats / received) * 1e6,
  };
}

async function publish(port: number, seconds: number): Promise<number> {
  using caller = await RestClient.dial(port);
  const target = `${HUB}/messages`;
  const token = restToken(audienceOf(port, target));
  const body = "x".repeat(64);
  let count = 0;
  for (const endsAtMs = performance.now() + seconds * 1000; performance.now() < endsAtMs; count++) {
    const { status } = await caller.call({ method: "POST", target, type: "text/plain", body, token });
    if (status !== 202) throw new Error(`a broadcast was answered ${status}`);
  }
  return count;
}

async function startCluster(tools: Tools, nodeCount: number): Promise<Cluster> {
  const backend = await tools.backend();
  const { upstreams: _upstreams, ...config } = gatewayConfig(backend);
  const urlTemplate = `http://127.0.0.1:${backend}/{hub}/api/{event}`;
  const cluster = await Cluster.start({ nodeCount, urlTemplate, config });
  tools.onEnd(() => cluster[Symbol.asyncDispose]());
  return cluster;
}

/** Two nodes against one without a cluster. */
export const clusterFanOut: Row = {
  name: "cluster-fan-out",
  what: `broadcast of 64 B to ${RECEIVERS} connections: two nodes on NATS against one alone; CPU of the gateways for each delivery`,
  target: "CPU ≤ 1.30 ×",
  run: async (tools) => {
    const alone = await tools.gateway(await tools.backend());
    const cluster = await startCluster(tools, 2);
    const both = [cluster.node(0), cluster.node(1)];
    const pairs: [FanOut, FanOut][] = [];
    await fanOut(tools, [alone], null);
    await fanOut(tools, both, null);
    for (let pair = 0; pair < tools.effort.pairs; pair++) {
      pairs.push([await fanOut(tools, both, cluster.nats.pid), await fanOut(tools, [alone], null)]);
    }
    const cpu = pairs.map(([one, other]) => one.cpuUs / other.cpuUs);
    const us = (value: number) => `${value.toFixed(2)} µs`;
    const describe = (all: readonly FanOut[]) =>
      `${perSecond(median(all.map(({ rate }) => rate)))}, ${us(median(all.map(({ cpuUs }) => cpuUs)))}`;
    const [ours, theirs] = [pairs.map(([one]) => one), pairs.map(([, other]) => other)];
    return {
      ours: `${describe(ours)} (nats-server ${us(median(ours.map(({ natsCpuUs }) => natsCpuUs)))})`,
      theirs: describe(theirs),
      ratio: `CPU ${withSpread(cpu, times)}; rate ${withSpread(
        pairs.map(([one, other]) => one.rate / other.rate),
        times,
      )}`,
      lost: String(pairs.flat().reduce((sum, { lost }) => sum + lost, 0)),
      isMet: median(cpu) <= 1.3,
    };
  },
};

/** The time from a call to its answer, and to the client, over another node. */
export const clusterCall: Row = {
  name: "cluster-call",
  what: "REST call about a user on another node, one after the other: send, and exists",
  target: "p50 ≤ 2 ms",
  run: async (tools) => {
    const cluster = await startCluster(tools, 2);
    const { ready, end, result } = tools.startLoad("recv", cluster.node(1).port, "/ws/client/hubs/chat", 1);
    await ready;
    using caller = await RestClient.dial(cluster.node(0).port);
    const measure = async (method: string, path: string, expected: number) => {
      const target = `${HUB}/${path}`;
      const token = restToken(audienceOf(caller.port, target));
      const send = method === "POST" ? { type: "text/plain", body: "x".repeat(64) } : {};
      const took: number[] = [];
      for (let call = 0; call < 1000 * tools.effort.seconds; call++) {
        const startedAtMs = performance.now();
        const { status } = await caller.call({ method, target, token, ...send });
        if (status !== expected) throw new Error(`${method} ${path}: ${status}`);
        took.push(performance.now() - startedAtMs);
      }
      return took.toSorted((one, other) => one - other);
    };
    const sends = await measure("POST", "users/u/messages", 202);
    const questions = await measure("GET", "users/u", 200);
    const at = (sorted: readonly number[], share: number) =>
      `${(sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(2)} ms`;
    await Bun.sleep(500);
    end();
    const { messages } = await result;
    return {
      ours: `send p50 ${at(sends, 0.5)}, p99 ${at(sends, 0.99)}; exists p50 ${at(questions, 0.5)}, p99 ${at(questions, 0.99)}`,
      theirs: "",
      ratio: "",
      lost: String(sends.length - messages),
      isMet: median(sends) <= 2 && median(questions) <= 2,
    };
  },
};

/** What a hundred thousand users on one NATS cost, in a process that has nothing but the broker. */
export const clusterSubjects: Row = {
  name: "cluster-subjects",
  what: "100,000 users of one node on one NATS: time to subscribe them all, memory of node and server for each",
  target: "said",
  run: async (tools) => {
    const count = 100_000;
    const server = await NatsServer.start();
    tools.onEnd(() => server[Symbol.asyncDispose]());
    const silent = { up: () => {}, down: () => {}, refused: () => {} };
    const nothing = { user: null, password: null, token: null, credsFile: null, tls: null };
    const link = NatsLink.start({ servers: [server.url], ...nothing }, silent);
    tools.onEnd(() => link.stop());
    let received = 0;
    const broker = new NatsBroker({
      link,
      prefix: "bench",
      nodeId: "benchone",
      handler: { receive: () => void received++, answer: async () => "yes" },
      clock: systemClock,
      report: { fault: () => {}, messagesDropped: () => {} },
      isMember: () => true,
    });
    broker.start();
    tools.onEnd(() => broker.stop());
    await until(() => broker.isReady, "the broker");
    Bun.gc(true);
    const before = { node: process.memoryUsage.rss(), server: rssBytes(server.pid) };
    const startedAtMs = performance.now();
    const user = (index: number) => ({ kind: "user", hub: "chat", name: `user-${index}` }) as const;
    for (let from = 0; from < count; from += 1000) {
      await Promise.all(Array.from({ length: 1000 }, (_empty, index) => broker.join(user(from + index))));
    }
    const tookMs = performance.now() - startedAtMs;
    Bun.gc(true);
    const each = (now: number, then: number) => `${((now - then) / count / 1000).toFixed(2)} kB`;
    const memory = `node ${each(process.memoryUsage.rss(), before.node)}, nats-server ${each(rssBytes(server.pid), before.server)}`;
    const took: number[] = [];
    for (let index = 0; index < 2000; index++) {
      const seen = received;
      const sentAtMs = performance.now();
      await broker.publish({ verb: "send", target: user((index * 37) % count), excluded: [], frame: "x" });
      while (received === seen) await new Promise((resolve) => setImmediate(resolve));
      took.push(performance.now() - sentAtMs);
    }
    return {
      ours: `${(tookMs / 1000).toFixed(2)} s; ${memory}; publish to receipt p50 ${median(took).toFixed(2)} ms`,
      theirs: "",
      ratio: "",
      lost: String(took.length - received),
      isMet: null,
    };
  },
};
