import { KEYS } from "../../test/support/gateway.ts";
import { secondsFromNow, signToken } from "../../test/support/tokens.ts";
import { cpuSeconds, residentBytes, startBenchGateway } from "../gateway.ts";
import type { Load, RunningLoad } from "../load.ts";
import { type Nginx, startBackend } from "../nginx.ts";
import type { Row, Sample } from "../row.ts";

const CONNECTS = 8000;
const WARMUP_CONNECTS = 2000;
/** What the file limit of 20,000 of many machines leaves room for. */
const IDLE = 15_000;
/** A whole period of pings. */
const IDLE_SECONDS = 20;
const MAX_BYTES = 4096;
const MAX_CPU_PERCENT = 2;

/** How fast clients come in. */
export const connectRow: Row = {
  name: "connect",
  what: "connects with webhook and journal, 200 at a time",
  unit: "connects/s",
  theirs: "the same with neither: a token names the user",
  target: "≥ 0.5 ×",
  isMet: ({ ratio, lost }) => ratio >= 0.5 && lost === 0,
  prepare: async ({ load }, stack) => {
    const backend = stack.use(await startBackend());
    // No entry for connects: nothing is asked, and nothing is owed when they go.
    const urlTemplate = `http://127.0.0.1:${backend.port}/{event}`;
    const bare = { upstreams: [{ urlTemplate, eventPattern: "message" }] };
    return {
      ours: () => connects(load, backend, {}, () => "/ws/client"),
      theirs: () =>
        connects(load, backend, bare, (port) => {
          const claims = { aud: `http://127.0.0.1:${port}/ws/client`, sub: "user", exp: secondsFromNow(3600) };
          return `/ws/client?access_token=${signToken(claims, { key: KEYS.primary })}`;
        }),
    };
  },
};

/** On a new gateway each time: the ends of the last clients are no part of it. */
async function connects(
  load: Load,
  backend: Nginx,
  config: Readonly<Record<string, unknown>>,
  pathOf: (port: number) => string,
): Promise<Sample> {
  await using gateway = await startBenchGateway(backend, config);
  const to = { port: gateway.port, path: pathOf(gateway.port) };
  await using _warm = await load.start("recv", { ...to, conns: WARMUP_CONNECTS });
  const before = cpuSeconds(gateway.pid);
  const report = await load.run("echo", { ...to, conns: CONNECTS, active: 0, seconds: 0 });
  const cpu = ((cpuSeconds(gateway.pid) - before) / CONNECTS) * 1e6;
  const { openRate, failed, closed, openP50, openP99 } = report;
  return {
    value: openRate,
    lost: failed + closed,
    details: { "p50 µs": openP50, "p99 µs": openP99, "CPU µs each": cpu },
  };
}

/** What an idle connection holds of memory. */
export const memoryRow: Row = {
  name: "memory",
  what: `memory of an idle connection with a user and two groups, ${IDLE.toLocaleString("en")} connections`,
  unit: "bytes",
  theirs: "",
  target: "≤ 4,096",
  isMet: ({ ours, lost }) => ours <= MAX_BYTES && lost === 0,
  prepare: async ({ load }, stack) => {
    const backend = stack.use(await startBackend());
    return {
      ours: () =>
        withIdle(load, backend, async ({ pid, emptyBytes, clients }) => {
          await settled(pid);
          const used = residentBytes(pid) - emptyBytes;
          const details = { "MB in all": residentBytes(pid) / 1e6, "MB before": emptyBytes / 1e6 };
          return { value: used / IDLE, lost: IDLE - clients.opened, details };
        }),
    };
  },
};

/** What they cost while nobody says anything. */
export const idleRow: Row = {
  name: "idle",
  what: `CPU with ${IDLE.toLocaleString("en")} idle connections, over ${IDLE_SECONDS} s (one ping each)`,
  unit: "% of a core",
  theirs: "",
  target: "≤ 2 %",
  isMet: ({ ours, lost }) => ours <= MAX_CPU_PERCENT && lost === 0,
  prepare: async ({ load }, stack) => {
    const backend = stack.use(await startBackend());
    return {
      ours: () =>
        withIdle(load, backend, async ({ pid, clients }) => {
          await settled(pid);
          const before = cpuSeconds(pid);
          await Bun.sleep(IDLE_SECONDS * 1000);
          const used = cpuSeconds(pid) - before;
          const { closed } = await clients.stop();
          return { value: (used / IDLE_SECONDS) * 100, lost: IDLE - clients.opened + closed };
        }),
    };
  },
};

interface IdleGateway {
  readonly pid: number;
  /** In use before the first client. */
  readonly emptyBytes: number;
  readonly clients: RunningLoad;
}

async function withIdle(
  load: Load,
  backend: Nginx,
  measure: (gateway: IdleGateway) => Promise<Sample>,
): Promise<Sample> {
  await using gateway = await startBenchGateway(backend);
  const emptyBytes = residentBytes(gateway.pid);
  await using clients = await load.start("recv", { conns: IDLE, port: gateway.port, path: "/ws/client" });
  return await measure({ pid: gateway.pid, emptyBytes, clients });
}

/** Waits until memory has not grown or shrunk by a hundredth for two seconds, at most for twenty. */
async function settled(pid: number): Promise<void> {
  let last = residentBytes(pid);
  for (let tries = 0; tries < 10; tries++) {
    await Bun.sleep(2000);
    const now = residentBytes(pid);
    if (Math.abs(now - last) < last / 100) return;
    last = now;
  }
}
