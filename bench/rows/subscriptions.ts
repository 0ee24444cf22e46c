import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { findFreePort } from "../../test/support/command.ts";
import { until } from "../../test/support/deadline.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { residentBytes } from "../gateway.ts";
import type { Row, Sample } from "../row.ts";
import type { SubscriberReport } from "../subscriber.ts";

const MANY = 100_000;
const FEW = 100;
/** How long the other server may take to hear of all subscriptions. */
const ROUTE_DEADLINE_MS = 60_000;

/** A node with many users: by the broker alone, for which no connections are needed. */
export const subscriptionsRow: Row = {
  name: "subscriptions",
  what: `${MANY.toLocaleString("en")} users on one NATS: publish → receive through the broker, p50`,
  unit: "µs",
  theirs: `${FEW} users`,
  target: "said",
  usualPairs: 2,
  isOfGateway: false,
  isMet: () => null,
  prepare: async () => ({ ours: () => subscribe(MANY), theirs: () => subscribe(FEW) }),
};

/** The same ten times: whether what one subscription costs holds. Not among the rows that run unasked. */
export const millionRow: Row = {
  name: "million",
  what: "1,000,000 users on one NATS: publish → receive through the broker, p50",
  unit: "µs",
  theirs: `${FEW} users`,
  target: "said",
  isOfGateway: false,
  isMet: () => null,
  prepare: async () => ({ ours: () => subscribe(10 * MANY), theirs: () => subscribe(FEW) }),
};

/** Two servers with a route between them; the node is on the first, and the second learns of its interest. */
async function subscribe(count: number): Promise<Sample> {
  const [port, otherPort] = [await findFreePort(), await findFreePort()];
  await using first = await NatsServer.start({ config: serverConfig("a", port, otherPort) });
  await using second = await NatsServer.start({ config: serverConfig("b", otherPort, port) });
  await until(() => /Route connection created/i.test(second.output()), "the route between the servers");
  const [firstBytes, secondBytes] = [residentBytes(first.pid), residentBytes(second.pid)];
  const child = spawn(process.execPath, [join(import.meta.dir, "..", "subscriber.ts"), first.url, String(count)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(child, "exit");
  try {
    const lines = createInterface({ input: child.stdout });
    const [line] = (await Promise.race([once(lines, "line"), ended])) as [string];
    const report = JSON.parse(line) as SubscriberReport;
    await settled(second.pid);
    // Of few subscriptions, what a first use takes would be all of it.
    const each = (bytes: number) => bytes / count;
    const atServer = each(residentBytes(first.pid) - firstBytes);
    const atOther = each(residentBytes(second.pid) - secondBytes);
    const details = {
      "joins/s": count / report.seconds,
      "bytes each at the node": each(report.bytes),
      "at its server": atServer,
      "at a server with a route": atOther,
    };
    return { value: report.micros, lost: report.lost, ...(count > FEW ? { details } : {}) };
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
}

function serverConfig(name: string, routePort: number, otherPort: number): string {
  return `server_name: "${name}"
cluster { name: bench, listen: "127.0.0.1:${routePort}", routes: ["nats://127.0.0.1:${otherPort}"] }
`;
}

async function settled(pid: number): Promise<void> {
  const end = performance.now() + ROUTE_DEADLINE_MS;
  for (let last = 0; performance.now() < end; ) {
    const now = residentBytes(pid);
    if (now === last) return;
    last = now;
    await Bun.sleep(1000);
  }
}
