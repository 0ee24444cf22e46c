import { NatsServer } from "../../test/support/nats-server.ts";
import { startBenchGateway } from "../gateway.ts";
import { type Nginx, startBackend } from "../nginx.ts";
import type { Bench, Row, Sample } from "../row.ts";
import { openAll } from "./connections.ts";

const CONNECTS = 8000;
const ALONE_CONNECTS = 500;
const WARMUP_CONNECTS = 2000;
const MIN_RATIO = 0.7;
const MAX_MORE_MICROS = 3000;

/** The details by which the two sides' delays are compared. */
const P50 = "p50 µs";
const ALONE_P50 = "p50 µs, one at a time";

/** What it costs a connect to wait for its copy in NATS. */
export const connectClusterRow: Row = {
  name: "connect-cluster",
  what: "connects in a cluster that wait for their copy in NATS, 200 at a time",
  unit: "connects/s",
  theirs: "`cluster.journalCopy: behind`",
  target: "≥ 0.7 ×, p50 ≤ 3 ms more",
  isMet: ({ ratio, lost }, ours, theirs) => {
    const moreMicros = (name: string) => (ours[name] ?? Number.NaN) - (theirs[name] ?? Number.NaN);
    const isPrompt = [P50, ALONE_P50].every((name) => moreMicros(name) <= MAX_MORE_MICROS);
    return ratio >= MIN_RATIO && isPrompt && lost === 0;
  },
  prepare: async (bench, stack) => {
    const backend = stack.use(await startBackend());
    return {
      ours: () => connects(bench, backend, "wait"),
      theirs: () => connects(bench, backend, "behind"),
    };
  },
};

/** On a new gateway and a new NATS each time: the ends of the last clients are no part of it. */
async function connects(bench: Bench, backend: Nginx, journalCopy: "wait" | "behind"): Promise<Sample> {
  await using nats = await NatsServer.start();
  const cluster = { nats: { servers: [nats.url] }, journalCopy };
  await using gateway = await startBenchGateway(bench, backend, { cluster });
  const where = { port: gateway.port, path: "/ws/client", pid: gateway.pid };
  const many = await openAll(bench.load, { ...where, count: CONNECTS, warmup: WARMUP_CONNECTS });
  const alone = await openAll(bench.load, { ...where, count: ALONE_CONNECTS, warmup: 1, burst: 1 });
  return {
    value: many.value,
    lost: many.lost + alone.lost,
    details: { ...many.details, [ALONE_P50]: alone.details?.[P50] ?? Number.NaN },
  };
}
