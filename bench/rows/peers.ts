import { join } from "node:path";
import { broadcast } from "../broadcast.ts";
import { messageRequest, startBenchGateway } from "../gateway.ts";
import { EVENTS_PATH, type Nginx, startBackend } from "../nginx.ts";
import { missingPackages } from "../peers/installed.ts";
import { NCHAN, startNchan } from "../peers/nchan.ts";
import { Pushpin } from "../peers/pushpin.ts";
import type { Bench, Row, Sample } from "../row.ts";
import { startServer } from "../server.ts";
import { openAll } from "./connections.ts";
import { sampleOf } from "./echo.ts";

const ACTIVE = 64;
const BYTES = 64;
const WARMUP_SECONDS = 1;
/** At 200 at a time, Pushpin answers some with 502. */
const CONNECTS_AT_ONCE = 50;
const CONNECTS = 4000;
const WARMUP_CONNECTS = 2000;
const SUBSCRIBERS = 2000;
const MIN_DELIVERIES_PER_SECOND = 500_000;
const OUR_CALLERS = 4;
const NCHAN_CALLERS = [1, 2, 4, 16] as const;

const ECHO = `message → POST → reply, ${ACTIVE} connections, ${BYTES} B`;

/** Message → POST → reply, against what one would write oneself. */
const echoNodeRow: Row = {
  name: "echo-node",
  what: ECHO,
  unit: "replies/s",
  theirs: "`ws` + `undici` on Node",
  target: "said",
  isOfGateway: false,
  isMet: () => null,
  prepare: async (bench, stack) => {
    const backend = stack.use(await startBackend());
    const gateway = stack.use(await startBenchGateway(bench, backend));
    const program = join(import.meta.dir, "..", "peers", "node-gateway.mjs");
    const node = stack.use(await startServer("node", [program, `${backend.port}`]));
    return { ours: () => echo(bench, gateway.port, "/ws/client"), theirs: () => echo(bench, node.port, "/") };
  },
};

/** The same against the other gateway that calls a backend for each message. */
const echoPushpinRow: Row = {
  name: "echo-pushpin",
  what: ECHO,
  unit: "replies/s",
  theirs: "Pushpin with zurl",
  target: "≥ 10 ×",
  isOfGateway: false,
  missing: () => missingPackages("pushpin", "zurl"),
  isMet: ({ ratio, lost }) => ratio >= 10 && lost === 0,
  prepare: async (bench, stack) => {
    const backend = stack.use(await startBackend());
    const gateway = stack.use(await startBenchGateway(bench, backend));
    const pushpin = stack.use(await Pushpin.start(backend));
    return {
      ours: () => echo(bench, gateway.port, "/ws/client"),
      theirs: () => echo(bench, pushpin.port, EVENTS_PATH),
    };
  },
};

/** How fast clients come in, each asked about at the backend. */
const connectPushpinRow: Row = {
  name: "connect-pushpin",
  what: `connects with webhook, ${CONNECTS_AT_ONCE} at a time`,
  unit: "connects/s",
  theirs: "Pushpin with zurl",
  target: "≥ 5 ×",
  isOfGateway: false,
  missing: () => missingPackages("pushpin", "zurl"),
  isMet: ({ ratio, lost }) => ratio >= 5 && lost === 0,
  prepare: async (bench, stack) => {
    const backend = stack.use(await startBackend());
    return {
      ours: async () => {
        await using gateway = await startBenchGateway(bench, backend);
        return await connects(bench, gateway.port, "/ws/client");
      },
      theirs: async () => {
        await using pushpin = await Pushpin.start(backend);
        return await connects(bench, pushpin.port, EVENTS_PATH);
      },
    };
  },
};

/** One message to everybody, against a module in C that does nothing else. */
const broadcastNchanRow: Row = {
  name: "broadcast-nchan",
  what: `broadcast to ${SUBSCRIBERS} connections, 64 B`,
  unit: "deliveries/s",
  theirs: "nchan, at its best number of callers",
  target: "≥ 3 × or ≥ 500,000/s",
  isOfGateway: false,
  missing: () => missingPackages("libnginx-mod-nchan"),
  isMet: ({ ours, ratio, lost }) => (ratio >= 3 || ours >= MIN_DELIVERIES_PER_SECOND) && lost === 0,
  prepare: async (bench, stack) => {
    const backend = stack.use(await startBackend());
    const gateway = stack.use(await startBenchGateway(bench, backend));
    const nchan = stack.use(await startNchan());
    const tried = [];
    for (const callers of NCHAN_CALLERS) {
      tried.push({ callers, rate: (await publish({ ...bench, seconds: 1 }, nchan, callers)).value });
    }
    const [best = { callers: 1 }] = tried.toSorted((a, b) => b.rate - a.rate);
    return {
      ours: async () => {
        const options = { gateways: [gateway], clients: SUBSCRIBERS, callers: OUR_CALLERS, seconds: bench.seconds };
        return sampleOfBroadcast(await broadcast(bench.load, options), OUR_CALLERS);
      },
      theirs: () => publish(bench, nchan, best.callers),
    };
  },
};

/** Against what others run: only with `--peers`, or where they are named. */
export const peerRows: readonly Row[] = [echoNodeRow, echoPushpinRow, connectPushpinRow, broadcastNchanRow];

async function echo({ load, seconds }: Bench, port: number, path: string): Promise<Sample> {
  return sampleOf(await load.run("echo", { port, path, conns: ACTIVE, bytes: BYTES, seconds, warmup: WARMUP_SECONDS }));
}

async function connects({ load }: Bench, port: number, path: string): Promise<Sample> {
  return await openAll(load, { port, path, count: CONNECTS, warmup: WARMUP_CONNECTS, burst: CONNECTS_AT_ONCE });
}

async function publish({ load, seconds }: Bench, nchan: Nginx, callers: number): Promise<Sample> {
  const { subscribers: path, publish } = NCHAN;
  const request = messageRequest(nchan.port, BYTES, publish);
  const options = { gateways: [nchan], clients: SUBSCRIBERS, callers, seconds, path, request };
  return sampleOfBroadcast(await broadcast(load, options), callers);
}

function sampleOfBroadcast(
  { deliveriesPerSecond, lost, refused, cpuMicros }: Awaited<ReturnType<typeof broadcast>>,
  callers: number,
): Sample {
  const details = { callers, "calls refused": refused, "CPU µs per delivery": cpuMicros };
  return { value: deliveriesPerSecond, lost, details };
}
