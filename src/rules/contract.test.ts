import { describe, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { within } from "../../test/support/deadline.ts";
import { MemoryRuleStore } from "../../test/support/memory-rule-store.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { hearing, ignoreNotices, unexpected } from "../../test/support/notices.ts";
import { needs } from "../../test/support/programs.ts";
import type { GroupRule, RuleChange, RuleKey, RuleStore, RuleWrite } from "../core/rule-store.ts";
import { NatsLink } from "../nats/link.ts";
import { isName } from "../protocol/names.ts";
import { KvRuleStore } from "./kv.ts";
import { SqliteRuleStore } from "./sqlite.ts";

const RULE: GroupRule = { hub: "chat", userId: "ann", group: "red", expiresAtMs: 1_700_000_000_000 };

/** Where stores of one kind keep their rules; each `open` is another process that comes to them. */
interface Place {
  open(): RuleStore;
  end(): Promise<void>;
}

const CREDENTIALS = { user: null, password: null, token: null, credsFile: null, tls: null };
const optionsOf = (server: NatsServer) => ({ servers: [server.url], ...CREDENTIALS });
const BUCKET = { prefix: "rules", replicas: 1, form: () => 2 };

async function natsPlace(): Promise<Place> {
  const server = await NatsServer.start();
  const links: NatsLink[] = [];
  const report = hearing({ "nats-up": () => {}, "nats-down": () => {} });
  return {
    open: () => {
      const link = NatsLink.start(optionsOf(server), report);
      links.push(link);
      return new KvRuleStore({ link, ...BUCKET, report: unexpected });
    },
    end: async () => {
      for (const link of links) await link.stop();
      await server[Symbol.asyncDispose]();
    },
  };
}

const places: readonly (readonly [name: string, make: (folder: string) => Promise<Place>])[] = [
  [
    "MemoryRuleStore",
    async () => {
      const store = new MemoryRuleStore();
      return { open: () => store, end: async () => {} };
    },
  ],
  [
    "SqliteRuleStore",
    async (folder) => ({
      open: () =>
        new SqliteRuleStore({
          dataDir: join(folder, "data"),
          report: unexpected,
        }),
      end: async () => {},
    }),
  ],
  ["KvRuleStore", natsPlace],
];

/** A store and what it has told. */
class Watched {
  readonly store: RuleStore;
  readonly told: RuleChange[] = [];
  readonly #rules = new Map<string, GroupRule>();
  #wake: () => void = () => {};

  private constructor(store: RuleStore) {
    this.store = store;
  }

  static async open(place: Place): Promise<Watched> {
    const watched = new Watched(place.open());
    const watching = watched.store.watch((change) => watched.#hear(change));
    await within(watching, "the end of what is kept");
    return watched;
  }

  /** Puts rules, and waits until they were told. */
  async put(...rules: readonly GroupRule[]): Promise<void> {
    for (const rule of rules) await this.heard(await this.store.put(rule));
  }

  async remove(...keys: readonly RuleKey[]): Promise<void> {
    await this.heard(await this.store.remove(keys));
  }

  /** Waits until a write was told, by this process or another. */
  async heard(written: RuleWrite): Promise<void> {
    if (written.kind !== "written") throw new Error("the store is out of reach");
    while ((this.told.at(-1)?.revision ?? 0) < written.revision) {
      await within(new Promise<void>((resolve) => (this.#wake = resolve)), `revision ${written.revision}`);
    }
  }

  /** What holds by all that was told. */
  get rules(): string[] {
    return sorted([...this.#rules.values()]);
  }

  #hear(change: RuleChange): void {
    this.told.push(change);
    const { hub, userId, group, expiresAtMs } = change;
    if (expiresAtMs === null) this.#rules.delete(keyOf(change));
    else this.#rules.set(keyOf(change), { hub, userId, group, expiresAtMs });
    this.#wake();
  }
}

function keyOf({ hub, userId, group }: RuleKey): string {
  return JSON.stringify([hub.toLowerCase(), userId, group]);
}

function sorted(rules: readonly GroupRule[]): string[] {
  return rules.map((rule) => JSON.stringify([rule.hub, rule.userId, rule.group, rule.expiresAtMs])).sort();
}

describe.each(places)("%s", (name, make) => {
  const { afterEach, beforeEach, test } = name === "KvRuleStore" ? needs("nats-server") : needs();
  let folder: string;
  let place: Place;
  let watched: Watched;
  let opened: Watched[];

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "hubwire-rules-"));
    place = await make(folder);
    opened = [];
    watched = await open();
  });
  afterEach(async () => {
    for (const { store } of opened) await store.close();
    await place.end();
    rmSync(folder, { recursive: true, force: true });
  });

  async function open(): Promise<Watched> {
    const one = await Watched.open(place);
    opened.push(one);
    return one;
  }

  /** What another process finds; within one only one may have the files open. */
  async function kept(): Promise<string[]> {
    if (name === "SqliteRuleStore") await watched.store.close();
    watched = await open();
    return watched.rules;
  }

  test("is empty at first, and removing from it is no error", async () => {
    expect(watched.told).toEqual([]);
    await watched.remove(RULE);
    await watched.remove();
    await watched.store.forget([{ ...RULE, revision: 1 }]);
    expect(await kept()).toEqual([]);
  });

  test("tells and keeps what was put, expired or not, with the hub as it was written", async () => {
    const rules = [RULE, { ...RULE, group: "blue", expiresAtMs: 1 }, { ...RULE, hub: "Chat.EU", userId: "bob" }];
    await watched.put(...rules);
    expect(watched.rules).toEqual(sorted(rules));
    expect(await kept()).toEqual(sorted(rules));
  });

  test("tells each change once, under growing revisions", async () => {
    await watched.put(RULE, { ...RULE, group: "blue" });
    await watched.remove(RULE);
    expect(watched.told.map(({ group, expiresAtMs }) => [group, expiresAtMs])).toEqual([
      ["red", RULE.expiresAtMs],
      ["blue", RULE.expiresAtMs],
      ["red", null],
    ]);
    const revisions = watched.told.map(({ revision }) => revision);
    expect(revisions).toEqual([...new Set(revisions)].sort((one, other) => one - other));
  });

  test("replaces the rule of the same hub, user and group, with the hub in any case", async () => {
    await watched.put(RULE, { ...RULE, hub: "CHAT", expiresAtMs: 2 });
    expect(watched.rules).toEqual(sorted([{ ...RULE, hub: "CHAT", expiresAtMs: 2 }]));
    expect(await kept()).toEqual(sorted([{ ...RULE, hub: "CHAT", expiresAtMs: 2 }]));
  });

  test("removes several rules at once, by exactly their names but for the hub's case, and no other", async () => {
    const others = [
      { ...RULE, userId: "Ann" },
      { ...RULE, group: "Red" },
      { ...RULE, userId: "bob" },
      { ...RULE, hub: "news" },
    ];
    await watched.put(RULE, { ...RULE, group: "blue" }, ...others);
    await watched.remove({ ...RULE, hub: "CHAT" }, { ...RULE, group: "blue" }, { ...RULE, group: "none" });
    expect(watched.rules).toEqual(sorted(others));
    expect(await kept()).toEqual(sorted(others));
  });

  test("forgets what has ended", async () => {
    await watched.put(RULE, { ...RULE, group: "blue" });
    const [ended] = watched.told;
    await watched.store.forget(ended === undefined ? [] : [ended]);
    expect(await kept()).toEqual(sorted([{ ...RULE, group: "blue" }]));
  });

  test("a changed rule of the caller changes nothing that is kept", async () => {
    const mine = { ...RULE };
    await watched.put(mine);
    mine.group = "blue";
    expect(await kept()).toEqual(sorted([RULE]));
  });

  test("keeps any text apart from any other, as a map would", async () => {
    const text = fc.oneof(
      fc.constantFrom(
        "a",
        "A",
        "a'",
        'a"',
        "a\\",
        "%",
        "_",
        "null",
        "é",
        "e\u0301",
        "*",
        ">",
        "a.b",
        "=2A",
        "x".repeat(70),
      ),
      fc.string({ unit: "grapheme", minLength: 1, maxLength: 8 }).filter(isName),
    );
    const rule = fc.record({
      hub: fc.constantFrom("chat", "Chat", "news"),
      userId: text,
      group: text,
      expiresAtMs: fc.maxSafeNat(),
    });
    const expected = new Map<string, GroupRule>();
    await fc.assert(
      fc.asyncProperty(fc.array(rule, { maxLength: 20 }), fc.array(rule, { maxLength: 5 }), async (put, removed) => {
        await watched.put(...put);
        for (const one of put) expected.set(keyOf(one), one);
        await watched.remove(...removed);
        for (const one of removed) expected.delete(keyOf(one));
        expect(watched.rules).toEqual(sorted([...expected.values()]));
      }),
      { numRuns: 30 },
    );
    expect(await kept()).toEqual(sorted([...expected.values()]));
  });

  test("may be closed twice", async () => {
    await watched.put(RULE);
    await watched.store.close();
    await watched.store.close();
  });
});

describe("KvRuleStore of several nodes", () => {
  const { afterEach, beforeEach, test } = needs("nats-server");
  let place: Place;
  let nodes: Watched[];

  beforeEach(async () => {
    place = await natsPlace();
    nodes = [await Watched.open(place), await Watched.open(place)];
  });
  afterEach(async () => {
    for (const { store } of nodes) await store.close();
    await place.end();
  });

  function both(): [Watched, Watched] {
    const [one, other] = nodes;
    if (one === undefined || other === undefined) throw new Error("there are two");
    return [one, other];
  }

  test("each hears of the other's changes under the same revisions", async () => {
    const [one, other] = both();
    await one.put(RULE);
    await other.heard(await one.store.put({ ...RULE, group: "blue" }));
    await one.heard(await other.store.remove([RULE]));
    const last = await one.store.put({ ...RULE, expiresAtMs: 5 });
    for (const node of [one, other]) await node.heard(last);
    expect(one.told).toEqual(other.told);
    expect(one.rules).toEqual(other.rules);
  });

  test("a rule that another has put again is not forgotten, however late the first is", async () => {
    const [one, other] = both();
    const written = await one.store.put(RULE);
    await one.heard(written);
    await other.heard(written);
    const [ended] = one.told;
    if (ended === undefined) throw new Error("a rule was told");
    await one.heard(await other.store.put({ ...RULE, expiresAtMs: 7 }));
    await one.store.forget([ended]);
    const third = await Watched.open(place);
    nodes.push(third);
    expect(third.rules).toEqual(sorted([{ ...RULE, expiresAtMs: 7 }]));
  });

  test("a removal is told to one that never heard of the rule, by its revision", async () => {
    const [one] = both();
    await one.put(RULE);
    const written = await one.store.remove([RULE]);
    const third = await Watched.open(place);
    nodes.push(third);
    await third.heard(written);
    expect(third.rules).toEqual([]);
  });
});

needs("nats-server").test(
  "KvRuleStore reports and ignores rules in the bucket that have an invalid name or no end",
  async () => {
    await using server = await NatsServer.start();
    const faults: string[] = [];
    const link = NatsLink.start(optionsOf(server), ignoreNotices);
    const open = () =>
      new KvRuleStore({
        link,
        ...BUCKET,
        report: hearing({ "rules-unavailable": ({ reason }) => void faults.push(reason) }),
      });
    const node = await Watched.open({ open, end: async () => {} });
    const bad = [
      { ...RULE, hub: "no hub" },
      { ...RULE, userId: " ann" },
      { ...RULE, userId: "a\r\nb" },
      { ...RULE, group: ".." },
      { ...RULE, group: "g".repeat(513) },
    ];
    // A store that writes them is one that does not check.
    for (const rule of bad) await node.store.put(rule);
    const endless = await link.connection?.request(
      "$KV.rules_rules.chat.ann.endless",
      JSON.stringify({ ...RULE, group: "endless" }).replace(String(RULE.expiresAtMs), "1e999"),
    );
    expect(endless?.json<{ seq: number }>().seq).toBe(bad.length + 1);
    await node.put(RULE);
    expect(node.rules).toEqual(sorted([RULE]));
    expect(faults).toHaveLength(bad.length + 1);
    await node.store.close();
    await link.stop();
  },
);

describe("KvRuleStore without NATS", () => {
  const { test } = needs("nats-server");
  test("answers unavailable, and goes on with what the bucket has when NATS is back", async () => {
    await using server = await NatsServer.start();
    const faults: string[] = [];
    const link = NatsLink.start(optionsOf(server), ignoreNotices);
    const place: Place = {
      open: () =>
        new KvRuleStore({
          link,
          ...BUCKET,
          report: hearing({ "rules-unavailable": ({ reason }) => void faults.push(reason) }),
        }),
      end: async () => {},
    };
    const node = await Watched.open(place);
    await node.put(RULE, { ...RULE, group: "blue" });
    const down = Promise.withResolvers<void>();
    const back = Promise.withResolvers<void>();
    let isLost = false;
    link.onChange((isUp) => {
      if (!isUp) isLost = true;
      if (isLost) (isUp ? back : down).resolve();
    });
    await server.stop("SIGKILL");
    await within(down.promise, "the loss");
    expect(await node.store.put(RULE)).toEqual({ kind: "unavailable" });
    expect(await node.store.remove([RULE])).toEqual({ kind: "unavailable" });
    await server.restart();
    await within(back.promise, "the return");
    // The store may still be opening its watch: until then it answers as before.
    let written = await node.store.put({ ...RULE, group: "green" });
    while (written.kind === "unavailable") {
      await new Promise((resolve) => setImmediate(resolve));
      written = await node.store.put({ ...RULE, group: "green" });
    }
    await node.heard(written);
    expect(node.rules).toEqual(sorted(["red", "blue", "green"].map((group) => ({ ...RULE, group }))));
    await node.store.close();
    await link.stop();
  });
});
