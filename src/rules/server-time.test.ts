import { expect, setSystemTime } from "bun:test";
import { until, within } from "../../test/support/deadline.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { ignoreNotices, unexpected } from "../../test/support/notices.ts";
import { needs } from "../../test/support/programs.ts";
import { GroupRules } from "../core/group-rules.ts";
import type { Clock } from "../core/ports/clock.ts";
import { NatsLink } from "../nats/link.ts";
import { KvRuleStore } from "./kv.ts";

const { afterEach, test } = needs("nats-server");

/** Nodes whose clocks are wrong, over one real bucket: the servers' clock decides. */

const HOUR_MS = 3_600_000;
const DAYS_200_MS = 200 * 24 * HOUR_MS;

/** The servers' clock cannot be faked, so the nodes here use real time too. */
const realClock: Clock = {
  now: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
  every(intervalMs, callback) {
    const timer = setInterval(callback, intervalMs);
    return () => clearInterval(timer);
  },
};

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  setSystemTime();
  for (const stop of stops.splice(0).reverse()) await stop();
});

/** A node that starts with its clock so far off; `setSystemTime()` sets it right. */
async function startNode(server: NatsServer, offMs: number) {
  setSystemTime(Date.now() + offMs);
  const options = { servers: [server.url], user: null, password: null, token: null, credsFile: null, tls: null };
  const link = NatsLink.start(options, ignoreNotices);
  const store = new KvRuleStore({
    link,
    prefix: "t",
    replicas: 1,
    form: () => 2,
    report: unexpected,
  });
  const expired: string[] = [];
  const rules = new GroupRules({
    store,
    clock: realClock,
    report: unexpected,
    onBegun: () => {},
    onExpired: (_hub, userId) => void expired.push(userId),
  });
  stops.push(async () => {
    rules.stop();
    await store.close();
    await link.stop();
  });
  await within(rules.load(), "the rules");
  return { rules, expired };
}

test.each([
  ["ahead", DAYS_200_MS],
  ["behind", -DAYS_200_MS],
])(
  "a node that starts with a clock 200 days %s has the rules that all others have, and its own end as theirs do",
  async (_what, offMs) => {
    await using server = await NatsServer.start();
    const right = await startNode(server, 0);
    expect((await right.rules.put("chat", "ann", "red", 3600)).kind).toBe("written");
    const wrong = await startNode(server, offMs);
    expect(wrong.rules.has("chat", "ann", "red")).toBe(true);
    expect((await wrong.rules.put("chat", "bob", "red", 2)).kind).toBe("written");
    await until(() => right.rules.has("chat", "bob", "red"), "the other node's rule");
    await until(() => right.expired.length > 0 && wrong.expired.length > 0, "its end on both");
    expect([right.expired, wrong.expired]).toEqual([["bob"], ["bob"]]);
    setSystemTime();

    // And it took no rule out of the bucket.
    const later = await startNode(server, 0);
    expect(later.rules.has("chat", "ann", "red")).toBe(true);
  },
);
