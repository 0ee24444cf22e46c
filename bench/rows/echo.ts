import { makeCertificates } from "../../test/support/certificates.ts";
import { Checker } from "../checker.ts";
import { messageRequest, startBenchGateway } from "../gateway.ts";
import type { LoadReport } from "../load.ts";
import { type Nginx, REPLY, startBackend, startProxy } from "../nginx.ts";
import type { Bench, Row, Sample, Sides } from "../row.ts";

const ACTIVE = 64;
const MANY = 5000;
const BYTES = 64;
const WARMUP_SECONDS = 1;
/** The number of other connections, which say nothing and are pinged. */
const IDLE = 15_000;
const IDLE_RATE = 500;
const PING_PERIOD_SECONDS = 20;
/** So that the generator's own moves between cores are in no latency. */
const PINNED = { core: 0 } as const;
/** One in a thousand is looked at, by chance: among so many it is one at least. */
const MESSAGES_WITH_A_CHECK = 20_000;

/** Message → POST → reply, against one bare HTTP hop. */
export const echoRow: Row = {
  name: "echo",
  what: `message → POST → reply, ${ACTIVE} connections, ${BYTES} B`,
  unit: "replies/s",
  theirs: "nginx proxy_pass, one worker",
  target: "≥ 1.0 ×",
  isMet: ({ ratio, lost }) => ratio >= 1 && lost === 0,
  prepare: async (bench, stack) => {
    const checker = stack.use(new Checker(REPLY));
    const backend = stack.use(await startBackend({ checkerPort: checker.port }));
    const proxy = stack.use(await startProxy(backend));
    const gateway = stack.use(await startBenchGateway(bench, backend));
    return againstProxy(bench, { gateway, proxy, checker });
  },
};

/** The same with TLS towards the backend, on both sides. */
export const echoTlsRow: Row = {
  name: "echo-tls",
  what: `the same with TLS to the backend, ${ACTIVE} connections`,
  unit: "replies/s",
  theirs: "nginx proxy_pass, one worker, with TLS to the backend",
  target: "said",
  isMet: () => null,
  prepare: async (bench, stack) => {
    const certificates = makeCertificates();
    stack.defer(() => certificates.remove());
    const { server: certificate, authority } = certificates;
    const checker = stack.use(new Checker(REPLY));
    const backend = stack.use(await startBackend({ checkerPort: checker.port, certificate }));
    const proxy = stack.use(await startProxy(backend, authority));
    const urlTemplate = `https://localhost:${backend.port}/{event}`;
    const upstreams = [{ urlTemplate, maxConcurrency: 1024, tls: { caFile: authority.certFile } }];
    const gateway = stack.use(await startBenchGateway(bench, backend, { upstreams }));
    return againstProxy(bench, { gateway, proxy, checker });
  },
};

/** The same with many connections that only stay open, against itself without them. */
export const echoManyRow: Row = {
  name: "echo-many",
  what: `the same, ${ACTIVE} of ${MANY} connections active`,
  unit: "replies/s",
  theirs: `${ACTIVE} connections alone`,
  target: "≥ 0.95 ×",
  isMet: ({ ratio, lost }) => ratio >= 0.95 && lost === 0,
  prepare: async (bench, stack) => {
    const { load, seconds } = bench;
    const checker = stack.use(new Checker(REPLY));
    const backend = stack.use(await startBackend({ checkerPort: checker.port }));
    const [many, few] = [
      stack.use(await startBenchGateway(bench, backend)),
      stack.use(await startBenchGateway(bench, backend)),
    ];
    // A gateway of its own each: opening and closing thousands is no part of what is measured.
    const idle = stack.use(await load.start("recv", { conns: MANY - ACTIVE, port: many.port, path: "/ws/client" }));
    const flags = { conns: ACTIVE, bytes: BYTES, seconds, warmup: WARMUP_SECONDS, path: "/ws/client" };
    return {
      ours: async () => {
        const { lost, ...sample } = checkedSample(await load.run("echo", { ...flags, port: many.port }), checker);
        return { ...sample, lost: lost + MANY - ACTIVE - idle.opened };
      },
      theirs: async () => checkedSample(await load.run("echo", { ...flags, port: few.port }), checker),
    };
  },
};

/** At half of what we can, how long one waits more than at the backend itself. */
export const latencyRow: Row = {
  name: "latency",
  what: `p99 in an open loop at half of our own rate, ${ACTIVE} connections, generator pinned`,
  unit: "µs",
  theirs: "the backend called directly",
  target: "p99 ≤ 1 ms more",
  isMet: ({ ours, theirs, lost }) => ours - (theirs ?? 0) <= 1000 && lost === 0,
  prepare: (bench, stack) => openLoop(bench, stack, async (backend) => backend),
};

/** The same with a bare hop in our place: what the machine leaves of the difference. */
export const latencyHopRow: Row = {
  name: "latency-hop",
  what: "the same against a bare hop",
  unit: "µs",
  theirs: "nginx proxy_pass, one worker",
  target: "said",
  isMet: () => null,
  prepare: (bench, stack) => openLoop(bench, stack, async (backend) => stack.use(await startProxy(backend))),
};

async function openLoop(
  bench: Bench,
  stack: AsyncDisposableStack,
  peerOf: (backend: Nginx) => Promise<{ readonly port: number }>,
): Promise<Sides> {
  const { load, seconds } = bench;
  const checker = stack.use(new Checker(REPLY));
  const backend = stack.use(await startBackend({ checkerPort: checker.port }));
  const peer = await peerOf(backend);
  const gateway = stack.use(await startBenchGateway(bench, backend));
  const requests = load.requests([messageRequest(peer.port, BYTES)]);
  const flags = { conns: ACTIVE, bytes: BYTES, seconds, warmup: WARMUP_SECONDS };
  const ours = { ...flags, port: gateway.port, path: "/ws/client" };
  const rate = Math.round((await load.run("echo", ours, PINNED)).rate / 2);
  return {
    ours: async () => {
      const report = await load.run("echo", { ...ours, rate }, PINNED);
      return waited(report, report.p99, checker.takeFaults());
    },
    theirs: async () => {
      const report = await load.run("http", { ...flags, port: peer.port, requests, rate }, PINNED);
      return waited(report, report.p99);
    },
  };
}

/** A sample of an open loop, by one of its quantiles. */
function waited(report: LoadReport, value: number, lostElsewhere = 0): Sample {
  const { p50, p99, p999, rate, lost, bad, failed } = report;
  const details = { "messages/s": rate, "p50 µs": p50, "p99 µs": p99, "p99.9 µs": p999 };
  return { value, lost: lost + bad + failed + lostElsewhere, details };
}

/** How long one waits while many that came at one time are pinged. */
export const latencyIdleRow: Row = {
  name: "latency-idle",
  what: `p99.9 next to ${IDLE.toLocaleString("en")} idle connections, ${IDLE_RATE} messages/s, over ${PING_PERIOD_SECONDS} s (one ping each)`,
  unit: "µs",
  theirs: "the same without the idle ones",
  target: "said",
  usualPairs: 3,
  isMet: () => null,
  prepare: async (bench, stack) => {
    const { load } = bench;
    const checker = stack.use(new Checker(REPLY));
    const backend = stack.use(await startBackend({ checkerPort: checker.port }));
    const [many, few] = [
      stack.use(await startBenchGateway(bench, backend)),
      stack.use(await startBenchGateway(bench, backend)),
    ];
    const idle = stack.use(await load.start("recv", { conns: IDLE, port: many.port, path: "/ws/client" }));
    const flags = { conns: ACTIVE, bytes: BYTES, seconds: PING_PERIOD_SECONDS, warmup: WARMUP_SECONDS };
    const side = async (port: number, lostBefore: number): Promise<Sample> => {
      const report = await load.run("echo", { ...flags, port, path: "/ws/client", rate: IDLE_RATE }, PINNED);
      return waited(report, report.p999, checker.takeFaults() + lostBefore);
    };
    return { ours: () => side(many.port, IDLE - idle.opened), theirs: () => side(few.port, 0) };
  },
};

interface Compared {
  readonly gateway: { readonly port: number };
  readonly proxy: { readonly port: number };
  readonly checker: Checker;
}

function againstProxy({ load, seconds }: Bench, { gateway, proxy, checker }: Compared): Sides {
  const requests = load.requests([messageRequest(proxy.port, BYTES)]);
  const flags = { conns: ACTIVE, bytes: BYTES, seconds, warmup: WARMUP_SECONDS };
  return {
    ours: async () =>
      checkedSample(await load.run("echo", { ...flags, port: gateway.port, path: "/ws/client" }), checker),
    theirs: async () => sampleOf(await load.run("http", { ...flags, port: proxy.port, requests })),
  };
}

function checkedSample(report: LoadReport, checker: Checker): Sample {
  const { details, ...sample } = sampleOf(report);
  const lost = sample.lost + checker.takeFaults();
  const checked = checker.takeChecked();
  if (checked === 0 && report.messages > MESSAGES_WITH_A_CHECK) throw new Error("no message was looked at");
  return { ...sample, lost, details: { ...details, checked } };
}

/** Rate, what was lost, and how long an answer took. */
export function sampleOf({ rate, lost, bad, failed, p50, p99, p999 }: LoadReport): Sample {
  return { value: rate, lost: lost + bad + failed, details: { "p50 µs": p50, "p99 µs": p99, "p99.9 µs": p999 } };
}
