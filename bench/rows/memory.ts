import { cpuSeconds, residentBytes, startBenchGateway } from "../gateway.ts";
import { type Nginx, startBackend } from "../nginx.ts";
import type { Bench, Row, Sample } from "../row.ts";

/** What the file limit of 20,000 of many machines leaves room for. */
const IDLE = 15_000;
/** Enough that all code has run. */
const WARMUP_CONNECTS = 1000;
/** The collector gives back what connects left behind up to twenty seconds after the last of them. */
const STEADY_MS = 25_000;
/** A whole period of pings. */
const IDLE_SECONDS = 20;
const MAX_BYTES = 4096;
const MAX_CPU_PERCENT = 2;
const CYCLES = 10;
const COUNTED_CYCLES = 5;
const MAX_GROWTH = 1.05;
const QUIET_MS = 500;
/** A gateway that rests uses less: ticks of a hundredth of a second are all that is counted. */
const QUIET_CPU_SECONDS = 0.05;
const QUIET_TRIES = 60;

/** What an idle connection holds of memory. */
export const memoryRow: Row = {
  name: "memory",
  what: `memory of an idle connection with a user and two groups, ${IDLE.toLocaleString("en")} connections`,
  unit: "bytes",
  theirs: "",
  target: "≤ 4,096",
  usualPairs: 1,
  isMet: ({ ours, lost }) => ours <= MAX_BYTES && lost === 0,
  prepare: async (bench, stack) => {
    const backend = stack.use(await startBackend());
    return {
      ours: () =>
        withGateway(bench, backend, async ({ pid, open }) => {
          const startedBytes = residentBytes(pid);
          await bench.load.run("echo", { ...open, conns: WARMUP_CONNECTS, active: 0, seconds: 0 });
          const emptyBytes = await steadyBytes(pid);
          await using clients = await bench.load.start("recv", { ...open, conns: IDLE });
          const now = await steadyBytes(pid);
          const { closed } = await clients.stop();
          const details = {
            "MB in all": now / 1e6,
            "MB before": emptyBytes / 1e6,
            "MB at its start": startedBytes / 1e6,
          };
          return { value: (now - emptyBytes) / IDLE, lost: IDLE - clients.opened + closed, details };
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
  usualPairs: 1,
  isMet: ({ ours, lost }) => ours <= MAX_CPU_PERCENT && lost === 0,
  prepare: async (bench, stack) => {
    const backend = stack.use(await startBackend());
    return {
      ours: () =>
        withGateway(bench, backend, async ({ pid, open }) => {
          await using clients = await bench.load.start("recv", { ...open, conns: IDLE });
          await quiet(pid);
          const before = cpuSeconds(pid);
          await Bun.sleep(IDLE_SECONDS * 1000);
          const used = cpuSeconds(pid) - before;
          const { closed } = await clients.stop();
          return { value: (used / IDLE_SECONDS) * 100, lost: IDLE - clients.opened + closed };
        }),
    };
  },
};

/** Whether what clients held is there for the next ones. */
export const memoryCyclesRow: Row = {
  name: "memory-cycles",
  what: `resident memory after ${CYCLES} cycles of ${IDLE.toLocaleString("en")} connects and ends, against after ${CYCLES - COUNTED_CYCLES}`,
  unit: "×",
  theirs: "",
  target: "≤ 1.05 ×",
  usualPairs: 1,
  isMet: ({ ours, lost }) => ours <= MAX_GROWTH && lost === 0,
  prepare: async (bench, stack) => {
    const backend = stack.use(await startBackend());
    return { ours: () => withGateway(bench, backend, (gateway) => cycles(bench, gateway)) };
  },
};

async function cycles({ load }: Bench, { pid, open }: Gateway): Promise<Sample> {
  const [restBytes, openBytes]: [number[], number[]] = [[], []];
  let lost = 0;
  for (let cycle = 1; cycle <= CYCLES; cycle++) {
    {
      await using clients = await load.start("recv", { ...open, conns: IDLE });
      lost += IDLE - clients.opened;
      await quiet(pid);
      openBytes.push(residentBytes(pid));
    }
    // All disconnect events have been answered when it rests.
    await quiet(pid);
    if (cycle % COUNTED_CYCLES === 0) restBytes.push(await steadyBytes(pid));
  }
  const [first = Number.NaN, last = Number.NaN] = restBytes.slice(-2);
  const details = {
    [`MB after ${CYCLES - COUNTED_CYCLES}`]: first / 1e6,
    [`MB after ${CYCLES}`]: last / 1e6,
    "most MB while they are open": Math.max(...openBytes) / 1e6,
  };
  return { value: last / first, lost, details };
}

interface Gateway {
  readonly pid: number;
  /** Flags of the generator that open clients. */
  readonly open: { readonly port: number; readonly path: string };
}

async function withGateway(
  bench: Bench,
  backend: Nginx,
  measure: (gateway: Gateway) => Promise<Sample>,
): Promise<Sample> {
  await using gateway = await startBenchGateway(bench, backend);
  return await measure({ pid: gateway.pid, open: { port: gateway.port, path: "/ws/client" } });
}

/** What is in use when a gateway has rested for long enough. */
async function steadyBytes(pid: number): Promise<number> {
  await Bun.sleep(STEADY_MS);
  return residentBytes(pid);
}

/** Waits until a gateway has nothing to do. Errors: rejects where that does not come. */
async function quiet(pid: number): Promise<void> {
  let last = cpuSeconds(pid);
  for (let tries = 0; tries < QUIET_TRIES; tries++) {
    await Bun.sleep(QUIET_MS);
    const now = cpuSeconds(pid);
    if (now - last < QUIET_CPU_SECONDS) return;
    last = now;
  }
  throw new Error("the gateway does not come to rest");
}
