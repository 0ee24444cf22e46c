import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { GroupRulesStage } from "../../test/support/group-rules-stage.ts";
import { MAX_GROUP_RULES } from "./group-rules.ts";

describe("a group rule", () => {
  test("holds from its put until its end, not a millisecond longer, and its end is told once within a second", async () => {
    const { rules, clock, expired } = new GroupRulesStage();
    await clock.advance(321);
    expect(await rules.put("chat", "ann", "red", 60)).toMatchObject({ kind: "written" });
    await clock.advance(59_999);
    expect([rules.has("chat", "ann", "red"), rules.groupsOf("chat", "ann")]).toEqual([true, ["red"]]);
    expect(expired).toEqual([]);
    await clock.advance(1);
    expect([rules.has("chat", "ann", "red"), rules.groupsOf("chat", "ann")]).toEqual([false, []]);
    await clock.advance(999);
    expect(expired).toEqual(["chat/ann/red"]);
    await clock.advance(3_600_000);
    expect(expired).toHaveLength(1);
    expect(rules.size).toBe(0);
  });

  test("of a second is told within one, wherever in a second it begins", async () => {
    for (const offsetMs of [0, 1, 499, 500, 501, 999]) {
      const { rules, clock, expired } = new GroupRulesStage();
      await clock.advance(offsetMs);
      await rules.put("chat", "ann", "red", 1);
      await clock.advance(999);
      expect(expired).toEqual([]);
      await clock.advance(1000);
      expect(expired).toEqual(["chat/ann/red"]);
    }
  });

  test("belongs to a hub of any spelling, and to one user and group of exactly this", async () => {
    const { rules } = new GroupRulesStage();
    await rules.put("Chat", "ann", "red", 60);
    expect(rules.has("cHAT", "ann", "red")).toBe(true);
    for (const [hub, user, group] of [
      ["news", "ann", "red"],
      ["chat", "Ann", "red"],
      ["chat", "ann", "Red"],
    ] as const) {
      expect(rules.has(hub, user, group)).toBe(false);
    }
    expect([rules.groupsOf("CHAT", "ann"), rules.groupsOf("chat", "Ann")]).toEqual([["red"], []]);
  });

  test("put again has the new end only, sooner or later than before", async () => {
    const { rules, clock, expired } = new GroupRulesStage();
    await rules.put("chat", "ann", "red", 10);
    await rules.put("chat", "bob", "red", 100);
    await rules.put("CHAT", "ann", "red", 100);
    await rules.put("chat", "bob", "red", 10);
    expect(rules.size).toBe(2);
    await clock.advance(11_000);
    expect(expired).toEqual(["chat/bob/red"]);
    await clock.advance(90_000);
    expect(expired).toEqual(["chat/bob/red", "CHAT/ann/red"]);
  });

  test("that was ended is not told, and leaves the user's others alone", async () => {
    const { rules, clock, expired, store } = new GroupRulesStage();
    for (const group of ["red", "blue", "green"]) await rules.put("chat", "ann", group, 10);
    await rules.put("chat", "bob", "red", 10);
    await rules.end("CHAT", "ann", "red");
    await rules.end("chat", "ann", "no such group");
    expect(rules.groupsOf("chat", "ann")).toEqual(["blue", "green"]);
    await rules.end("chat", "ann", null);
    expect(rules.groupsOf("chat", "ann")).toEqual([]);
    expect(store.all().map(({ userId }) => userId)).toEqual(["bob"]);
    await clock.advance(20_000);
    expect(expired).toEqual(["chat/bob/red"]);
  });

  test("whose end brings the end of another is followed by no second callback", async () => {
    const stage = new GroupRulesStage();
    for (const group of ["red", "blue"]) await stage.rules.put("chat", "ann", group, 10);
    stage.onExpired = () => void stage.rules.end("chat", "ann", null);
    await stage.clock.advance(11_000);
    expect(stage.expired).toEqual(["chat/ann/red"]);
  });

  test("whose callback throws is told as a fault, and the others still end", async () => {
    const stage = new GroupRulesStage();
    for (const group of ["red", "blue"]) await stage.rules.put("chat", "ann", group, 10);
    stage.onExpired = () => {
      throw new Error("broken");
    };
    await stage.clock.advance(11_000);
    expect([stage.expired.length, stage.faults.length]).toEqual([2, 2]);
  });
});

describe("a store that other nodes write too", () => {
  test("tells of each rule that begins, those that were there at the start among them, and of none that had ended", async () => {
    const stage = new GroupRulesStage();
    await stage.rules.put("Chat", "ann", "red", 60);
    await stage.rules.put("chat", "ann", "blue", 5);
    expect(stage.begun).toEqual(["Chat/ann/red", "chat/ann/blue"]);
    await stage.restart(10_000);
    expect(stage.begun.slice(2)).toEqual(["Chat/ann/red"]);
  });

  test("that is not current takes no change, since what is to be ended may not have been heard of", async () => {
    const stage = new GroupRulesStage();
    await stage.rules.put("chat", "ann", "red", 60);
    stage.store.isCurrent = false;
    expect(await stage.rules.end("chat", "bob", null)).toEqual({ kind: "unavailable" });
    expect(await stage.rules.put("chat", "ann", "red", 5)).toEqual({ kind: "unavailable" });
    expect(stage.rules.has("chat", "ann", "red")).toBe(true);
  });

  test("is waited for until a revision has come, for five seconds at most", async () => {
    const { rules, clock, store } = new GroupRulesStage();
    expect(rules.reached(0)).toBeNull();
    const [soon, never] = [rules.reached(1), rules.reached(7)];
    const late = never?.catch((error: Error) => error.message);
    await store.put({ hub: "chat", userId: "ann", group: "red", expiresAtMs: Number.MAX_SAFE_INTEGER });
    await soon;
    expect(rules.reached(1)).toBeNull();
    await clock.advance(6000);
    expect(await late).toBe("revision 7 of the group rules has not come");
  });
});

describe("over a restart", () => {
  test("a rule goes on for what is left of it", async () => {
    const stage = new GroupRulesStage();
    await stage.rules.put("Chat", "ann", "red", 60);
    await stage.clock.advance(10_000);
    await stage.restart(20_000);
    expect(stage.rules.groupsOf("chat", "ann")).toEqual(["red"]);
    await stage.clock.advance(29_999);
    expect([stage.rules.has("chat", "ann", "red"), stage.expired]).toEqual([true, []]);
    await stage.clock.advance(1001);
    expect([stage.rules.has("chat", "ann", "red"), stage.expired]).toEqual([false, ["Chat/ann/red"]]);
  });

  test("a rule that ended meanwhile is gone from the store, without a callback", async () => {
    const stage = new GroupRulesStage();
    await stage.rules.put("chat", "ann", "red", 60);
    await stage.rules.put("chat", "ann", "blue", 600);
    await stage.restart(60_000);
    expect([stage.rules.groupsOf("chat", "ann"), stage.rules.size]).toEqual([["blue"], 1]);
    await stage.clock.advance(1000);
    expect(stage.store.all().map(({ group }) => group)).toEqual(["blue"]);
    expect(stage.expired).toEqual([]);
  });

  test("an ended rule that is put again before its row is removed keeps its row", async () => {
    const stage = new GroupRulesStage();
    await stage.rules.put("chat", "ann", "red", 60);
    await stage.restart(60_000);
    await stage.rules.put("chat", "ann", "red", 60);
    await stage.clock.advance(5000);
    await stage.restart(1000);
    expect(stage.rules.has("chat", "ann", "red")).toBe(true);
  });
});

describe("a time of day that jumps", () => {
  for (const [where, offsetMs] of [
    ["back", -86_400_000],
    ["ahead", 86_400_000],
  ] as const) {
    test(`${where} neither loses a rule nor ends it twice or at another time`, async () => {
      const stage = new GroupRulesStage();
      await stage.rules.put("chat", "ann", "red", 60);
      await stage.clock.advance(59_000);
      stage.dayOffsetMs = offsetMs;
      await stage.rules.put("chat", "bob", "red", 60);
      expect([stage.rules.has("chat", "ann", "red"), stage.expired]).toEqual([true, []]);
      await stage.clock.advance(2000);
      expect(stage.expired).toEqual(["chat/ann/red"]);
      await stage.clock.advance(60_000);
      stage.dayOffsetMs = 0;
      await stage.clock.advance(60_000);
      expect(stage.expired).toEqual(["chat/ann/red", "chat/bob/red"]);
    });
  }
});

describe("a store that fails", () => {
  test("lets put and end throw, and nothing has changed", async () => {
    const { rules, store, clock, expired } = new GroupRulesStage();
    await rules.put("chat", "ann", "red", 60);
    store.failing = true;
    await expect(rules.put("chat", "ann", "red", 5)).rejects.toThrow("full");
    await expect(rules.put("chat", "ann", "blue", 5)).rejects.toThrow("full");
    await expect(rules.end("chat", "ann", null)).rejects.toThrow("full");
    expect(rules.groupsOf("chat", "ann")).toEqual(["red"]);
    // Who has no rule has nothing that a disk would have to take.
    await rules.end("chat", "bob", null);
    await clock.advance(59_000);
    expect(expired).toEqual([]);
    await clock.advance(2000);
    expect(expired).toEqual(["chat/ann/red"]);
  });

  test("at a rule's end is told once, and the row does not come back to life", async () => {
    const stage = new GroupRulesStage();
    await stage.rules.put("chat", "ann", "red", 60);
    stage.store.failing = true;
    await stage.clock.advance(120_000);
    expect([stage.expired, stage.faults.length, stage.store.all().length]).toEqual([["chat/ann/red"], 1, 1]);
    stage.store.failing = false;
    await stage.restart(1000);
    expect(stage.rules.has("chat", "ann", "red")).toBe(false);
    await stage.clock.advance(1000);
    expect(stage.store.all()).toEqual([]);
  });
});

test("at most MAX_GROUP_RULES are kept; replacing one is always possible, and so is one more when one has ended", async () => {
  const { rules } = new GroupRulesStage();
  for (let index = 0; index < MAX_GROUP_RULES; index++) await rules.put("chat", `user-${index}`, "red", 60);
  expect(await rules.put("chat", "one more", "red", 60)).toEqual({ kind: "full" });
  expect(rules.has("chat", "one more", "red")).toBe(false);
  expect(await rules.put("chat", "user-7", "red", 120)).toMatchObject({ kind: "written" });
  await rules.end("chat", "user-0", null);
  expect(await rules.put("chat", "one more", "red", 60)).toMatchObject({ kind: "written" });
  expect(await rules.put("chat", "user-0", "red", 60)).toEqual({ kind: "full" });
});

test("100,000 rules that end in one second all end in it, and their rows are gone soon after", async () => {
  const { rules, clock, expired, store } = new GroupRulesStage();
  for (let index = 0; index < MAX_GROUP_RULES; index++) await rules.put("chat", `user-${index}`, "red", 5);
  await clock.advance(6000);
  expect([expired.length, rules.size]).toEqual([MAX_GROUP_RULES, 0]);
  await clock.advance(200_000);
  expect(store.all()).toEqual([]);
});

test("after stop nothing is called back and no timer is left; it may be called twice", async () => {
  const { rules, clock, expired, store } = new GroupRulesStage();
  await rules.put("chat", "ann", "red", 5);
  rules.stop();
  rules.stop();
  await clock.advance(60_000);
  expect([clock.timerCount, expired, store.all().length]).toEqual([0, [], 1]);
});

test("after any calls in any order, each rule ends once, within a second of its end, and none is left", async () => {
  const name = fc.constantFrom("a", "b", "c");
  const step = fc.oneof(
    fc.record({
      kind: fc.constant("put" as const),
      user: name,
      group: name,
      ttlSeconds: fc.integer({ min: 1, max: 9 }),
    }),
    fc.record({ kind: fc.constant("end" as const), user: name, group: fc.option(name) }),
    fc.record({ kind: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 4000 }) }),
    fc.record({ kind: fc.constant("jump" as const), ms: fc.integer({ min: -1e7, max: 1e7 }) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const stage = new GroupRulesStage();
      const ends = new Map<string, number>();
      stage.onExpired = (_hub, user, group) => {
        const endsAt = ends.get(`${user}/${group}`) ?? Number.POSITIVE_INFINITY;
        const lateMs = stage.clock.now() - endsAt;
        expect(lateMs >= 0 && lateMs < 1000).toBe(true);
        ends.delete(`${user}/${group}`);
      };
      for (const one of steps) {
        if (one.kind === "wait") await stage.clock.advance(one.ms);
        else if (one.kind === "jump") stage.dayOffsetMs += one.ms;
        else if (one.kind === "put") {
          await stage.rules.put("chat", one.user, one.group, one.ttlSeconds);
          ends.set(`${one.user}/${one.group}`, stage.clock.now() + one.ttlSeconds * 1000);
        } else {
          await stage.rules.end("chat", one.user, one.group);
          for (const key of [...ends.keys()]) {
            if (one.group === null ? key.startsWith(`${one.user}/`) : key === `${one.user}/${one.group}`)
              ends.delete(key);
          }
        }
        for (const user of ["a", "b", "c"]) {
          const now = stage.clock.now();
          const held = [...ends].filter(([key, endsAt]) => key.startsWith(`${user}/`) && endsAt > now);
          expect(stage.rules.groupsOf("chat", user).toSorted()).toEqual(held.map(([key]) => key.slice(2)).sort());
        }
      }
      await stage.clock.advance(10_000);
      expect([ends.size, stage.rules.size, stage.store.all(), stage.faults]).toEqual([0, 0, [], []]);
    }),
    { numRuns: 60 },
  );
});
