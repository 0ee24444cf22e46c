import { once } from "node:events";
import { within } from "../../test/support/deadline.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { audienceOf, RestClient, restToken } from "../../test/support/rest-client.ts";
import { type BroadcastOptions, broadcast } from "../broadcast.ts";
import { startBenchGateway } from "../gateway.ts";
import { median } from "../median.ts";
import { connectionIds, type Nginx, startBackend } from "../nginx.ts";
import type { Bench, Row, Sides } from "../row.ts";

const CLIENTS = 2000;
/** A rate that one node and two hold without queues, so that what a delivery costs can be compared. */
const DELIVERIES_PER_SECOND = 100_000;
const MAX_COST_RATIO = 1.3;
const MAX_CALL_MS = 2;
const WARMUP_CALLS = 200;

/** One hub over two nodes, against the same clients on one that is in no cluster. */
export const clusterBroadcastRow: Row = {
  name: "cluster-broadcast",
  what: `broadcast to ${CLIENTS} connections on two nodes`,
  unit: "deliveries/s",
  theirs: "one node without a cluster",
  target: "said",
  usualPairs: 3,
  isMet: () => null,
  prepare: (bench, stack) =>
    twoAgainstOne(bench, stack, {}, ({ deliveriesPerSecond, cpuMicros, otherCpuMicros, refused }) => ({
      value: deliveriesPerSecond,
      details: { "calls refused": refused, "CPU µs per delivery": cpuMicros, "of NATS": otherCpuMicros },
    })),
};

/** The same at a fixed rate: what one delivery costs. */
export const clusterCostRow: Row = {
  name: "cluster-cost",
  what: `CPU of the gateways per delivery through two nodes, ${DELIVERIES_PER_SECOND.toLocaleString("en")} deliveries/s`,
  unit: "µs",
  theirs: "one node without a cluster",
  target: "≤ 1.3 ×",
  isMet: ({ ratio, lost }) => ratio <= MAX_COST_RATIO && lost === 0,
  prepare: (bench, stack) =>
    twoAgainstOne(
      bench,
      stack,
      { rate: DELIVERIES_PER_SECOND / CLIENTS },
      ({ cpuMicros, otherCpuMicros, deliveriesPerSecond }) => ({
        value: cpuMicros,
        details: { "of NATS": otherCpuMicros, "deliveries/s": deliveriesPerSecond },
      }),
    ),
};

type Told = (result: Awaited<ReturnType<typeof broadcast>>) => {
  readonly value: number;
  readonly details: Readonly<Record<string, number>>;
};

async function twoAgainstOne(
  bench: Bench,
  stack: AsyncDisposableStack,
  pace: Pick<BroadcastOptions, "rate">,
  told: Told,
): Promise<Sides> {
  const { load, seconds } = bench;
  const backend = stack.use(await startBackend());
  const nats = stack.use(await NatsServer.start());
  const nodes = [stack.use(await startNode(bench, backend, nats)), stack.use(await startNode(bench, backend, nats))];
  // Named twice below, so that its clients too are two processes.
  const alone = stack.use(await startBenchGateway(bench, backend));
  const measure = async (options: Pick<BroadcastOptions, "gateways" | "others">) => {
    const result = await broadcast(load, { ...options, ...pace, clients: CLIENTS, seconds });
    return { ...told(result), lost: result.lost };
  };
  return {
    ours: () => measure({ gateways: nodes, others: [nats.pid] }),
    theirs: () => measure({ gateways: [alone, alone] }),
  };
}

/** From a call at one node to the message at a client of another. */
export const clusterCallRow: Row = {
  name: "cluster-call",
  what: "REST send to a user on another node, until its client has the message, p50",
  unit: "ms",
  theirs: "the client's own node called",
  target: "p50 ≤ 2 ms",
  isMet: ({ ours, lost }) => ours <= MAX_CALL_MS && lost === 0,
  prepare: async (bench, stack) => {
    const backend = stack.use(await startBackend());
    const nats = stack.use(await NatsServer.start());
    const [own, other] = [
      stack.use(await startNode(bench, backend, nats)),
      stack.use(await startNode(bench, backend, nats)),
    ];
    const socket = new WebSocket(`ws://127.0.0.1:${own.port}/ws/client`);
    stack.defer(() => socket.close());
    await once(socket, "open");
    const [id = ""] = await connectionIds(backend, 1);
    const measure = async (port: number) => {
      using caller = await RestClient.dial(port);
      return await callFor(bench.seconds, caller, socket, `/ws/api/hubs/_default/users/u-${id}`);
    };
    return { ours: () => measure(other.port), theirs: () => measure(own.port) };
  },
};

async function callFor(seconds: number, caller: RestClient, socket: WebSocket, path: string) {
  const arrivals: number[] = [];
  const answers: number[] = [];
  const questions: number[] = [];
  const token = restToken(audienceOf(caller.port, `${path}/messages`));
  const asking = restToken(audienceOf(caller.port, path));
  const end = performance.now() + seconds * 1000;
  for (let calls = -WARMUP_CALLS; calls < 0 || performance.now() < end; calls++) {
    const arrived = once(socket, "message").then(() => performance.now());
    const from = performance.now();
    const sent = await caller.call({
      method: "POST",
      target: `${path}/messages`,
      type: "text/plain",
      body: "hello",
      token,
    });
    const answeredAt = performance.now();
    if (sent.status !== 202) throw new Error(`a send was answered with ${sent.status}`);
    const arrivedAt = await within(arrived, "the message");
    const askedAt = performance.now();
    const asked = await caller.call({ method: "HEAD", target: path, token: asking });
    if (asked.status !== 200) throw new Error(`a question was answered with ${asked.status}`);
    if (calls < 0) continue;
    arrivals.push(arrivedAt - from);
    answers.push(answeredAt - from);
    questions.push(performance.now() - askedAt);
  }
  const details = {
    "send answered ms": median(answers),
    '"is it there" answered ms': median(questions),
    calls: arrivals.length,
  };
  return { value: median(arrivals), lost: 0, details };
}

async function startNode(bench: Bench, backend: Nginx, nats: NatsServer) {
  return await startBenchGateway(bench, backend, { cluster: { nats: { servers: [nats.url] } } });
}
