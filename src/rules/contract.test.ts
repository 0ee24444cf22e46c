import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { MemoryRuleStore } from "../../test/support/memory-rule-store.ts";
import type { GroupRule, RuleStore } from "../core/ports.ts";
import { SqliteRuleStore } from "./sqlite.ts";

const RULE: GroupRule = { hub: "chat", userId: "ann", group: "red", expiresAtMs: 1_700_000_000_000 };

const stores: readonly (readonly [name: string, create: (folder: string) => RuleStore])[] = [
  ["MemoryRuleStore", () => new MemoryRuleStore()],
  [
    "SqliteRuleStore",
    (folder) =>
      new SqliteRuleStore({
        dataDir: join(folder, "data"),
        onDamaged: (_movedTo, reason) => {
          throw new Error(`a file that was never there is damaged: ${reason}`);
        },
      }),
  ],
];

describe.each(stores)("%s", (_name, create) => {
  let folder: string;
  let store: RuleStore;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "hubwire-rules-"));
    store = create(folder);
  });
  afterEach(() => {
    store.close();
    rmSync(folder, { recursive: true, force: true });
  });

  function sorted(rules: readonly GroupRule[]): string[] {
    return rules.map((rule) => JSON.stringify([rule.hub, rule.userId, rule.group, rule.expiresAtMs])).sort();
  }

  test("is empty at first, and removing from it is no error", () => {
    expect(store.all()).toEqual([]);
    store.remove("chat", "ann", "red");
    store.remove("chat", "ann", null);
    expect(store.all()).toEqual([]);
  });

  test("gives back what was put, expired or not, with the hub as it was written", () => {
    const rules = [RULE, { ...RULE, group: "blue", expiresAtMs: 1 }, { ...RULE, hub: "Chat.EU", userId: "bob" }];
    for (const rule of rules) store.put(rule);
    expect(sorted(store.all())).toEqual(sorted(rules));
  });

  test("replaces the rule of the same hub, user and group, whatever the hub's case", () => {
    store.put(RULE);
    store.put({ ...RULE, hub: "CHAT", expiresAtMs: 2 });
    expect(store.all()).toEqual([{ ...RULE, hub: "CHAT", expiresAtMs: 2 }]);
  });

  test("keeps users and groups apart by case", () => {
    const rules = [RULE, { ...RULE, userId: "Ann" }, { ...RULE, group: "Red" }];
    for (const rule of rules) store.put(rule);
    store.remove("chat", "Ann", null);
    store.remove("chat", "ann", "RED");
    expect(sorted(store.all())).toEqual(sorted([RULE, { ...RULE, group: "Red" }]));
  });

  test("removes one rule and no other", () => {
    const others = [
      { ...RULE, group: "blue" },
      { ...RULE, userId: "bob" },
      { ...RULE, hub: "news" },
    ];
    for (const rule of [RULE, ...others]) store.put(rule);
    store.remove("CHAT", "ann", "red");
    expect(sorted(store.all())).toEqual(sorted(others));
  });

  test("removes all rules of a user in a hub and no other's", () => {
    const others = [
      { ...RULE, userId: "bob" },
      { ...RULE, hub: "news" },
    ];
    for (const rule of [RULE, { ...RULE, group: "blue" }, ...others]) store.put(rule);
    store.remove("Chat", "ann", null);
    expect(sorted(store.all())).toEqual(sorted(others));
  });

  test("a changed list or rule of the caller changes nothing that is kept", () => {
    const mine = { ...RULE };
    store.put(mine);
    mine.group = "blue";
    store.all().pop();
    expect(store.all()).toEqual([RULE]);
  });

  test("keeps any text apart from any other, as a map would", () => {
    const name = fc.oneof(
      fc.constantFrom("a", "A", "a'", 'a"', "a\\", "%", "_", "null", "é", "e\u0301"),
      fc.string({ unit: "grapheme", minLength: 1, maxLength: 8 }),
    );
    const rule = fc.record({
      hub: fc.constantFrom("chat", "Chat", "news"),
      userId: name,
      group: name,
      expiresAtMs: fc.maxSafeNat(),
    });
    fc.assert(
      fc.property(fc.array(rule, { maxLength: 20 }), fc.array(rule, { maxLength: 5 }), (put, removed) => {
        const keyOf = ({ hub, userId, group }: GroupRule) => JSON.stringify([hub.toLowerCase(), userId, group]);
        const expected = new Map<string, GroupRule>();
        for (const one of put) {
          store.put(one);
          expected.set(keyOf(one), one);
        }
        for (const one of removed) {
          store.remove(one.hub, one.userId, one.group);
          expected.delete(keyOf(one));
        }
        expect(sorted(store.all())).toEqual(sorted([...expected.values()]));
        for (const { hub, userId } of put) store.remove(hub, userId, null);
        expect(store.all()).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });

  test("may be closed twice", () => {
    store.put(RULE);
    store.close();
    store.close();
  });
});
