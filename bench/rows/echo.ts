import { messageRequest, startBenchGateway } from "../gateway.ts";
import type { LoadReport } from "../load.ts";
import { startBackend, startProxy } from "../nginx.ts";
import type { Row, Sample } from "../row.ts";

const CONNECTIONS = 64;
const BYTES = 64;
const WARMUP_SECONDS = 1;

/** Message → POST → reply, against one bare HTTP hop. */
export const echoRow: Row = {
  name: "echo",
  what: `message → POST → reply, ${CONNECTIONS} connections, ${BYTES} B`,
  unit: "replies/s",
  theirs: "nginx proxy_pass, one worker",
  target: "≥ 1.0 ×",
  isMet: ({ ratio, lost }) => ratio >= 1 && lost === 0,
  prepare: async ({ load, seconds }, stack) => {
    const backend = stack.use(await startBackend());
    const proxy = stack.use(await startProxy(backend));
    const gateway = stack.use(await startBenchGateway(backend));
    const requests = load.requests([messageRequest(proxy.port, BYTES)]);
    const flags = { conns: CONNECTIONS, bytes: BYTES, seconds, warmup: WARMUP_SECONDS };
    return {
      ours: async () => sampleOf(await load.run("echo", { ...flags, port: gateway.port, path: "/ws/client" })),
      theirs: async () => sampleOf(await load.run("http", { ...flags, port: proxy.port, requests })),
    };
  },
};

/** Rate, what was lost, and how long an answer took. */
export function sampleOf({ rate, lost, bad, failed, p50, p99, p999 }: LoadReport): Sample {
  return { value: rate, lost: lost + bad + failed, details: { "p50 µs": p50, "p99 µs": p99, "p99.9 µs": p999 } };
}
