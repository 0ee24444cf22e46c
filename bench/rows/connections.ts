import { KEYS } from "../../test/support/gateway.ts";
import { secondsFromNow, signToken } from "../../test/support/tokens.ts";
import { cpuSeconds, startBenchGateway } from "../gateway.ts";
import type { Load } from "../load.ts";
import { type Nginx, startBackend } from "../nginx.ts";
import type { Bench, Row, Sample } from "../row.ts";

const CONNECTS = 8000;
const WARMUP_CONNECTS = 2000;

/** How fast clients come in. */
export const connectRow: Row = {
  name: "connect",
  what: "connects with webhook and journal, 200 at a time",
  unit: "connects/s",
  theirs: "the same with neither: a token names the user",
  target: "≥ 0.5 ×",
  isMet: ({ ratio, lost }) => ratio >= 0.5 && lost === 0,
  prepare: async (bench, stack) => {
    const backend = stack.use(await startBackend());
    // No entry for connects: nothing is asked, and nothing is owed when they go.
    const urlTemplate = `http://127.0.0.1:${backend.port}/{event}`;
    const bare = { upstreams: [{ urlTemplate, eventPattern: "message" }] };
    return {
      ours: () => connects(bench, backend),
      theirs: () =>
        connects(bench, backend, {
          config: bare,
          pathOf: (port) => {
            const claims = { aud: `http://127.0.0.1:${port}/ws/client`, sub: "user", exp: secondsFromNow(3600) };
            return `/ws/client?access_token=${signToken(claims, { key: KEYS.primary })}`;
          },
        }),
    };
  },
};

interface OurConnects {
  readonly config?: Readonly<Record<string, unknown>>;
  /** Path and query of the handshake, by the gateway's port. */
  readonly pathOf?: (port: number) => string;
}

/** On a new gateway each time: the ends of the last clients are no part of it. */
async function connects(
  bench: Bench,
  backend: Nginx,
  { config = {}, pathOf = () => "/ws/client" }: OurConnects = {},
): Promise<Sample> {
  await using gateway = await startBenchGateway(bench, backend, config);
  const { port, pid } = gateway;
  return await openAll(bench.load, { port, path: pathOf(port), pid, count: CONNECTS, warmup: WARMUP_CONNECTS });
}

export interface Connects {
  readonly port: number;
  readonly path: string;
  /** Whose CPU is told. */
  readonly pid?: number;
  readonly count: number;
  /** So many are opened before, and stay. */
  readonly warmup: number;
  /** At the same time. Default: 200. */
  readonly burst?: number;
}

/** Opens WebSockets and tells how many came in a second. */
export async function openAll(load: Load, { port, path, pid, count, warmup, burst = 200 }: Connects): Promise<Sample> {
  const flags = { port, path, burst };
  await using _warm = await load.start("recv", { ...flags, conns: warmup });
  const before = pid === undefined ? 0 : cpuSeconds(pid);
  const report = await load.run("echo", { ...flags, conns: count, active: 0, seconds: 0 });
  const cpu = pid === undefined ? {} : { "CPU µs each": ((cpuSeconds(pid) - before) / count) * 1e6 };
  const { openRate, failed, closed, openP50, openP99 } = report;
  return { value: openRate, lost: failed + closed, details: { "p50 µs": openP50, "p99 µs": openP99, ...cpu } };
}
