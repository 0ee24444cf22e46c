import { heapStats } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { someFacts } from "../../test/support/core-stage.ts";
import type { ConnectionFacts } from "../protocol/facts.ts";
import { Connection } from "./connection.ts";
import { GroupNames } from "./group-names.ts";
import { Registry } from "./registry.ts";

function connection(over: Partial<ConnectionFacts>, ...groups: readonly string[]): Connection {
  const made = new Connection(someFacts(over));
  if (groups.length > 0) made.groups = new GroupNames(groups);
  return made;
}

describe("Registry", () => {
  test("finds a connection by its id, its user and its groups", () => {
    const registry = new Registry();
    const one = connection({ connectionId: "1", userId: "alice" }, "a", "b");
    const two = connection({ connectionId: "2", userId: "alice" }, "b");
    registry.add(one);
    registry.add(two);
    expect(registry.size).toBe(2);
    expect(registry.connection("CHAT", "1")).toBe(one);
    expect(registry.connection("other", "1")).toBeUndefined();
    expect([...registry.user("chat", "alice")]).toEqual([one, two]);
    expect([...registry.group("chat", "a")]).toEqual([one]);
    expect([...registry.group("chat", "b")]).toEqual([one, two]);
    expect(registry.all()).toEqual([one, two]);
  });

  test("hubs are compared without case; users and groups are not, and never cross hubs", () => {
    const registry = new Registry();
    const one = connection({ connectionId: "1", hub: "Chat", userId: "alice" }, "g");
    registry.add(one);
    expect([...registry.user("cHAT", "alice")]).toEqual([one]);
    expect([...registry.group("chat", "g")]).toEqual([one]);
    expect(registry.user("chat", "Alice").length).toBe(0);
    expect(registry.group("chat", "G").size).toBe(0);
    expect(registry.user("other", "alice").length).toBe(0);
    expect(registry.group("other", "g").size).toBe(0);
  });

  test("a connection without a user is found by id and group, and is no user's", () => {
    const registry = new Registry();
    const [one, two] = ["1", "2"].map((connectionId) => connection({ connectionId, userId: null }, "g"));
    if (one === undefined || two === undefined) throw new Error("there are two");
    registry.add(one);
    registry.add(two);
    expect(registry.connection("chat", "1")).toBe(one);
    expect([...registry.group("chat", "g")]).toEqual([one, two]);
    for (const name of ["", "null"]) expect(registry.user("chat", name).length).toBe(0);
    registry.remove(one);
    expect(registry.all()).toEqual([two]);
  });

  test("a snapshot may be walked while its connections leave", () => {
    const registry = new Registry();
    for (let i = 0; i < 5; i++) registry.add(connection({ connectionId: String(i), userId: "u" }));
    let seen = 0;
    for (const each of registry.all()) {
      registry.remove(each);
      seen++;
    }
    expect([seen, registry.size]).toEqual([5, 0]);
  });

  test("a user's connections come and go, one or many", () => {
    const registry = new Registry();
    const [one, two, three] = ["1", "2", "3"].map((connectionId) => connection({ connectionId, userId: "alice" }));
    if (one === undefined || two === undefined || three === undefined) throw new Error("there are three");
    const found = () => registry.user("chat", "alice");
    const seen: (readonly Connection[])[] = [];
    for (const change of ["add", "add", "remove", "add", "remove", "remove"] as const) {
      const who = seen.length === 0 || seen.length === 2 ? one : seen.length === 1 || seen.length === 4 ? two : three;
      registry[change](who);
      seen.push(found());
    }
    expect(seen).toEqual([[one], [one, two], [two], [two, three], [three], []]);
  });

  test("removing what is not there changes nothing", () => {
    const registry = new Registry();
    const one = connection({ connectionId: "1", userId: "alice" }, "g");
    registry.add(one);
    registry.remove(connection({ connectionId: "2", userId: "alice" }, "g"));
    expect(registry.user("chat", "alice").length).toBe(1);
    registry.remove(one);
    registry.remove(one);
    expect(registry.size).toBe(0);
  });

  test("after 10,000 connections in hubs, groups and users came and went, nothing is left of any", () => {
    const registry = new Registry();
    const nobody = registry.group("never", "seen");
    const noUser = registry.user("never", "seen");
    const all = Array.from({ length: 10_000 }, (_unused, i) =>
      connection(
        { connectionId: `c${i}`, hub: `Hub${i % 7}`, userId: `u${i % 997}` },
        `g${i % 13}`,
        `g${i % 101}`,
        `own${i}`,
      ),
    );
    for (const each of all) registry.add(each);
    expect(registry.size).toBe(10_000);
    expect(registry.user("hub0", "u0").length).toBe(all.filter((_each, i) => i % 7 === 0 && i % 997 === 0).length);
    const inGroup = all.filter((each, i) => i % 7 === 1 && each.groups?.has("g5") === true);
    expect(registry.group("HUB1", "g5")).toEqual(new Set(inGroup));
    // One stays in each hub, so that what is left of the others is left in an index that lives on.
    const staying = new Set(all.slice(0, 7));
    const leaving = all.filter((each) => !staying.has(each));
    for (const each of leaving.filter((_each, i) => i % 2 === 1)) registry.remove(each);
    for (const each of leaving.filter((_each, i) => i % 2 === 0)) registry.remove(each);
    expect(registry.all()).toEqual([...staying]);
    expect(registry.user("hub3", "u3")).toEqual(all.slice(3, 4));
    for (const each of leaving) {
      expect(registry.connection(each.hub, each.connectionId)).toBeUndefined();
      // Not just empty, but the shared set for everybody unknown: no set of its own is left.
      expect(registry.group(each.hub, each.connectionId.replace("c", "own"))).toBe(nobody);
    }
    for (const each of staying) registry.remove(each);
    expect(registry.size).toBe(0);
    for (const each of all) {
      expect(registry.user(each.hub, each.userId ?? "")).toBe(noUser);
      for (const group of each.groups ?? []) expect(registry.group(each.hub, group)).toBe(nobody);
    }
  });

  test("a user's or group's last member takes its set away while the hub lives on", () => {
    const registry = new Registry();
    const nobody = registry.group("never", "seen");
    const noUser = registry.user("never", "seen");
    registry.add(connection({ connectionId: "stays", userId: "bob" }, "h"));
    const one = connection({ connectionId: "1", userId: "alice" }, "g", "h");
    registry.add(one);
    registry.remove(one);
    expect(registry.user("chat", "alice")).toBe(noUser);
    expect(registry.group("chat", "g")).toBe(nobody);
    expect(registry.group("chat", "h").size).toBe(1);
  });

  test("nothing is left of a hub whose last connection has gone", () => {
    const registry = new Registry();
    const mapCount = () => {
      Bun.gc(true);
      return heapStats().objectTypeCounts["Map"] ?? 0;
    };
    const before = mapCount();
    const all = Array.from({ length: 2000 }, (_unused, i) =>
      connection({ connectionId: `c${i}`, hub: `h${i}`, userId: "u" }),
    );
    for (const each of all) registry.add(each);
    expect(mapCount()).toBeGreaterThan(before + 3000);
    for (const each of all) registry.remove(each);
    expect(mapCount()).toBeLessThan(before + 500);
    expect(registry.size).toBe(0);
  });
});
