import { expect } from "bun:test";
import { jetstreamManager } from "@nats-io/jetstream";
import { until, within } from "../../test/support/deadline.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { hearing, ignoreNotices } from "../../test/support/notices.ts";
import { needs } from "../../test/support/programs.ts";
import type { GroupRule } from "../core/rule-store.ts";
import { NatsLink } from "../nats/link.ts";
import { KvRuleStore } from "./kv.ts";

const { test } = needs("nats-server");

const RULE: GroupRule = { hub: "chat", userId: "ann", group: "red", expiresAtMs: 1_700_000_000_000 };

/** A node's store of rules, and what it was told. */
class Node {
  readonly faults: string[] = [];
  readonly remade: number[] = [];
  readonly groups = new Set<string>();
  readonly store: KvRuleStore;

  constructor(link: NatsLink) {
    this.store = new KvRuleStore({
      link,
      prefix: "t",
      replicas: 1,
      form: () => 2,
      report: hearing({
        "rules-remade": ({ count }) => void this.remade.push(count),
        "rules-unavailable": ({ reason }) => void this.faults.push(reason),
      }),
    });
  }

  async watch(): Promise<void> {
    const told = ({ group, expiresAtMs }: { group: string; expiresAtMs: number | null }) =>
      expiresAtMs === null ? void this.groups.delete(group) : void this.groups.add(group);
    await within(this.store.watch(told), "the end of what is kept");
  }

  /** Puts a rule, again while the store is out of reach. */
  async put(group: string): Promise<void> {
    await until(async () => (await this.store.put({ ...RULE, group })).kind === "written", `the rule of ${group}`);
    await until(() => this.groups.has(group), `${group} to be told`);
  }

  get sorted(): string[] {
    return [...this.groups].sort();
  }
}

test("a bucket that is deleted in quiet, and then under a write, is made again and has all rules that a node knows", async () => {
  await using server = await NatsServer.start();
  const options = { servers: [server.url], user: null, password: null, token: null, credsFile: null, tls: null };
  const link = NatsLink.start(options, ignoreNotices);
  const [one, two] = [new Node(link), new Node(link)];
  try {
    await one.watch();
    for (const group of ["red", "blue", "ended"]) await one.put(group);
    await one.store.remove([{ ...RULE, group: "ended" }]);
    await until(() => !one.groups.has("ended"), "the end of a rule");
    if (link.connection === null) throw new Error("no connection");
    const { streams } = await jetstreamManager(link.connection);
    await streams.delete("KV_t_rules");
    // Nobody writes a rule meanwhile.
    await until(() => one.remade.length === 1, "the new bucket");
    expect([one.remade, one.faults]).toEqual([[2], ["the bucket t_rules was deleted"]]);
    await two.watch();
    expect([one.sorted, two.sorted]).toEqual([
      ["blue", "red"],
      ["blue", "red"],
    ]);

    await streams.delete("KV_t_rules");
    await one.put("late");
    const isFilled = async () => (await streams.info("KV_t_rules")).state.num_subjects === 3;
    await until(isFilled, "all rules in the second new bucket");
    await until(() => two.groups.has("late"), "the other node to go on");
    expect([one.sorted, two.sorted]).toEqual([
      ["blue", "late", "red"],
      ["blue", "late", "red"],
    ]);
  } finally {
    await Promise.all([one.store.close(), two.store.close()]);
    await link.stop();
  }
});
