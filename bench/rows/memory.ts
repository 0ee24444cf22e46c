import { cpuSeconds, residentBytes, startBenchGateway } from "../gateway.ts";
import type { RunningLoad } from "../load.ts";
import { type Nginx, startBackend } from "../nginx.ts";
import type { Bench, Row, Sample } from "../row.ts";

/** What the file limit of 20,000 of many machines leaves room for. */
const IDLE = 15_000;
/** Enough that all code has run; what they leave behind is little beside that of 15,000. */
const WARMUP_CONNECTS = 1000;
/** A whole period of pings. */
const IDLE_SECONDS = 20;
const MAX_BYTES = 4096;
const MAX_CPU_PERCENT = 2;
const CYCLES = 10;
const COUNTED_CYCLES = 5;
const MAX_GROWTH_PERCENT = 5;
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
  maxPairs: 3,
  isMet: ({ ours, lost }) => ours <= MAX_BYTES && lost === 0,
  prepare: async (bench, stack) => {
    const backend = stack.use(await startBackend());
    return {
      ours: () =>
        withIdle(bench, backend, async ({ pid, startedBytes, emptyBytes, clients }) => {
          await settled(pid);
          const now = residentBytes(pid);
          const details = {
            "MB in all": now / 1e6,
            "MB before": emptyBytes / 1e6,
            "MB before the first client": startedBytes / 1e6,
          };
          return { value: (now - emptyBytes) / IDLE, lost: IDLE - clients.opened, details };
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
  maxPairs: 2,
  isMet: ({ ours, lost }) => ours <= MAX_CPU_PERCENT && lost === 0,
  prepare: async (bench, stack) => {
    const backend = stack.use(await startBackend());
    return {
      ours: () =>
        withIdle(bench, backend, async ({ pid, clients }) => {
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

/** Whether what clients held is there for the next ones. */
export const memoryCyclesRow: Row = {
  name: "memory-cycles",
  what: `growth of resident memory over the last ${COUNTED_CYCLES} of ${CYCLES} cycles of ${IDLE.toLocaleString("en")} connects and ends`,
  unit: "%",
  theirs: "",
  target: "≤ 5 %",
  maxPairs: 1,
  isMet: ({ ours, lost }) => ours <= MAX_GROWTH_PERCENT && lost === 0,
  prepare: async (bench, stack) => {
    const backend = stack.use(await startBackend());
    return { ours: () => cycles(bench, backend) };
  },
};

async function cycles(bench: Bench, backend: Nginx): Promise<Sample> {
  await using gateway = await startBenchGateway(bench, backend);
  const { pid } = gateway;
  const open: number[] = [];
  const closed: number[] = [];
  let lost = 0;
  for (let cycle = 0; cycle < CYCLES; cycle++) {
    {
      await using clients = await bench.load.start("recv", { conns: IDLE, port: gateway.port, path: "/ws/client" });
      lost += IDLE - clients.opened;
      await quiet(pid);
      open.push(residentBytes(pid));
    }
    // All disconnect events have been answered when it rests.
    await quiet(pid);
    closed.push(residentBytes(pid));
  }
  const from = CYCLES - COUNTED_CYCLES - 1;
  const growth = (bytes: readonly number[]) => ((bytes.at(-1) ?? 0) / (bytes[from] ?? 0) - 1) * 100;
  const details = {
    "% while they are open": growth(open),
    "MB after the first cycle": (closed[0] ?? 0) / 1e6,
    [`after cycle ${from + 1}`]: (closed[from] ?? 0) / 1e6,
    "after the last": (closed.at(-1) ?? 0) / 1e6,
  };
  return { value: growth(closed), lost, details };
}

interface IdleGateway {
  readonly pid: number;
  /** In use when it has just started. */
  readonly startedBytes: number;
  /** In use after the first clients, before those that are measured. */
  readonly emptyBytes: number;
  readonly clients: RunningLoad;
}

async function withIdle(
  bench: Bench,
  backend: Nginx,
  measure: (gateway: IdleGateway) => Promise<Sample>,
): Promise<Sample> {
  await using gateway = await startBenchGateway(bench, backend);
  const { pid } = gateway;
  const startedBytes = residentBytes(pid);
  const to = { port: gateway.port, path: "/ws/client" };
  await bench.load.run("echo", { ...to, conns: WARMUP_CONNECTS, active: 0, seconds: 0 });
  await quiet(pid);
  const emptyBytes = residentBytes(pid);
  await using clients = await bench.load.start("recv", { ...to, conns: IDLE });
  return await measure({ pid, startedBytes, emptyBytes, clients });
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
