// A node's broker alone, in a process of its own: bun bench/subscriber.ts NATS_URL COUNT. Subscribes to so many users, says what that
// took and holds, and then how long a message to one of them is under way from another broker in this process.
import { NatsBroker } from "../src/broker/nats.ts";
import type { BrokerHandler } from "../src/core/ports/broker.ts";
import { systemClock } from "../src/gateway/system-clock.ts";
import { NatsLink } from "../src/nats/link.ts";
import { NEWEST_FORM } from "../src/protocol/forms.ts";
import type { Report } from "../src/protocol/notices.ts";
import { until } from "../test/support/deadline.ts";
import { residentBytes } from "./gateway.ts";
import { median } from "./median.ts";

const PREFIX = "bench";
const HUB = "_default";
const JOINED_AT_ONCE = 1000;
const SENDS = 2000;
const DEADLINE_MS = 60_000;

/** What the helper says. */
export interface SubscriberReport {
  readonly seconds: number;
  /** Growth of this process by the subscriptions. */
  readonly bytes: number;
  /** From `publish` to `receive`, p50. Units: µs. */
  readonly micros: number;
  readonly lost: number;
}

/** The user of this number; as long as a typical id. */
export function userName(number: number): string {
  return `user-${String(number).padStart(12, "0")}`;
}

async function main(url: string, count: number): Promise<void> {
  let receive: () => void = () => {};
  const listener = await startBroker(url, "listener", { receive: () => receive(), answer: async () => "no" });
  const caller = await startBroker(url, "caller00", { receive: () => {}, answer: async () => "no" });
  Bun.gc(true);
  const emptyBytes = residentBytes(process.pid);
  const from = performance.now();
  for (let first = 0; first < count; first += JOINED_AT_ONCE) {
    const size = Math.min(JOINED_AT_ONCE, count - first);
    const joined = Array.from({ length: size }, (_, i) =>
      listener.join({ kind: "user", hub: HUB, name: userName(first + i) }),
    );
    await Promise.all(joined);
  }
  const seconds = (performance.now() - from) / 1000;
  Bun.gc(true);
  const bytes = residentBytes(process.pid) - emptyBytes;
  const times: number[] = [];
  for (let send = 0; send < SENDS; send++) {
    const name = userName(Math.floor(Math.random() * count));
    const arrived = new Promise<void>((resolve) => {
      receive = resolve;
    });
    const sentAt = performance.now();
    const payload = { type: "text", data: "hello" } as const;
    await caller.publish({ verb: "send", target: { kind: "user", hub: HUB, name }, excluded: [], payload });
    await Promise.race([arrived, Bun.sleep(1000)]);
    times.push((performance.now() - sentAt) * 1000);
  }
  const lost = times.filter((micros) => micros > 900_000).length;
  console.log(JSON.stringify({ seconds, bytes, micros: median(times), lost } satisfies SubscriberReport));
}

async function startBroker(url: string, nodeId: string, handler: BrokerHandler): Promise<NatsBroker> {
  const report: Report = (notice) => {
    if (notice.kind !== "nats-up") console.error(notice);
  };
  const options = { servers: [url], user: null, password: null, token: null, credsFile: null, tls: null };
  const broker = new NatsBroker({
    link: NatsLink.start(options, report),
    prefix: PREFIX,
    nodeId,
    nodeIdBefore: null,
    handler,
    clock: systemClock,
    form: () => NEWEST_FORM,
    report,
    isMember: () => true,
  });
  broker.start();
  await until(() => broker.isReady, "the broker to be ready", DEADLINE_MS);
  return broker;
}

if (import.meta.main) {
  const [url = "", count = "0"] = process.argv.slice(2);
  await main(url, Number(count));
  // What must be read from outside, such as the server's memory, is read while this process lives.
  for await (const _line of console) break;
  process.exit(0);
}
