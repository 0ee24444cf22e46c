import { join } from "node:path";
import { sendRequests, startBenchGateway } from "../gateway.ts";
import { connectionIds, startBackend } from "../nginx.ts";
import type { Bench, Row, Sides } from "../row.ts";
import { startServer } from "../server.ts";

const CLIENTS = 5120;
const CALLERS = 64;
const WARMUP_SECONDS = 1;
const TARGET_PER_SECOND = 20_000;
/** So many different targets are called in turn. */
const TARGETS = 256;

/** Sends through the REST API, against a server in Bun that only answers the same requests. */
export const sendRows: readonly Row[] = [
  sendRow("group", "send to group, 256 groups of about 20", (id) => `/groups/${id.slice(-2)}`),
  sendRow("user", `send to user, ${CLIENTS} users`, (id) => `/users/u-${id}`),
  sendRow("connection", "send to connection", (id) => `/connections/${id}`),
];

function sendRow(kind: string, what: string, targetOf: (id: string) => string): Row {
  return {
    name: `send-${kind}`,
    what,
    unit: "calls/s",
    theirs: "an empty Bun.serve",
    target: "≥ 20,000/s and ≥ 0.5 ×",
    isMet: ({ ours, ratio, lost }) => ours >= TARGET_PER_SECOND && ratio >= 0.5 && lost === 0,
    prepare: (bench, stack) => prepare(bench, stack, targetOf),
  };
}

async function prepare(bench: Bench, stack: AsyncDisposableStack, targetOf: (id: string) => string): Promise<Sides> {
  const { load, seconds } = bench;
  const backend = stack.use(await startBackend());
  const gateway = stack.use(await startBenchGateway(bench, backend));
  const server = stack.use(await startServer(process.execPath, [join(import.meta.dir, "..", "empty-server.ts")]));
  const path = "/ws/client";
  const flags = { conns: CALLERS, seconds, warmup: WARMUP_SECONDS };
  const theirs = load.requests(
    sendRequests(
      server.port,
      Array.from({ length: TARGETS }, (_, i) => `/users/u-${i}`),
    ),
  );
  let asked = 0;
  return {
    ours: async () => {
      await using receiver = await load.start("recv", { conns: CLIENTS, port: gateway.port, path });
      asked += CLIENTS;
      const ids = (await connectionIds(backend, asked)).slice(-CLIENTS);
      const members = countOf(ids.map(targetOf));
      const targets = [...members.keys()].slice(0, TARGETS);
      const requests = load.requests(sendRequests(gateway.port, targets));
      const report = await load.run("http", { ...flags, port: gateway.port, requests });
      const { messages, failed, closed } = await receiver.stop();
      let due = 0;
      for (let call = 0; call < report.answers; call++) due += members.get(targets[call % targets.length] ?? "") ?? 0;
      const lost = due - messages + failed + closed + report.bad + report.lost;
      return {
        value: report.rate,
        lost,
        details: {
          "deliveries/s": (messages / report.answers) * report.rate,
          "p50 µs": report.p50,
          "p99 µs": report.p99,
        },
      };
    },
    theirs: async () => {
      const { rate, bad, lost, p50, p99 } = await load.run("http", { ...flags, port: server.port, requests: theirs });
      return { value: rate, lost: bad + lost, details: { "p50 µs": p50, "p99 µs": p99 } };
    },
  };
}

function countOf(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}
