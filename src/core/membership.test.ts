import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { CoreStage, someFacts } from "../../test/support/core-stage.ts";
import { settled } from "../../test/support/fake-clock.ts";
import { Connection } from "./connection.ts";
import { GroupNames } from "./group-names.ts";
import { topicOf } from "./topic.ts";

const HUB = topicOf({ kind: "hub", hub: "chat" }, "raw");
const group = (name: string): string => topicOf({ kind: "group", hub: "chat", name }, "raw");

let stage: CoreStage;

beforeEach(() => {
  stage = new CoreStage({ maxGroupsPerConnection: 3 });
});
afterEach(() => {
  stage.stop();
});

describe("a connection that opens", () => {
  test("is in its hub and the groups that it came with before it gets its first message", () => {
    const { connection, socket } = stage.open({ groups: ["red", "blue"], first: "welcome" });
    expect([...socket.topics].sort()).toEqual([HUB, group("red"), group("blue")].sort());
    expect([...stage.registry.group("chat", "red")]).toEqual([connection]);
  });

  test("joins the groups of its user's rules, up to the bound", () => {
    stage.rulesOf = (hub, userId) => (hub === "chat" && userId === "ann" ? ["red", "blue", "green", "white"] : []);
    const ann = stage.open({ userId: "ann", groups: ["own", "red"] });
    expect([...(ann.connection.groups ?? [])]).toEqual(["own", "red", "blue"]);
    expect([...ann.socket.topics].sort()).toEqual([HUB, group("own"), group("red"), group("blue")].sort());
    expect(stage.open({ userId: "bob" }).connection.groups).toBeNull();
  });

  test("without a user has no rules, and the broker hears of its hub and groups only", async () => {
    stage.rulesOf = (_hub, userId) => [userId];
    const { connection, leave } = stage.open({ userId: null, groups: ["red"] });
    expect([...(connection.groups ?? [])]).toEqual(["red"]);
    expect([...stage.broker.counts.keys()].sort()).toEqual([HUB, group("red")].sort());
    await leave();
    expect([...stage.broker.counts]).toEqual([]);
  });

  test("of a hub in another spelling has the same topics", () => {
    const { socket } = stage.open({ hub: "CHAT", groups: ["red"] });
    expect([...socket.topics].sort()).toEqual([HUB, group("red")].sort());
  });
});

describe("joining", () => {
  test("twice is joining once", () => {
    const { connection, socket } = stage.open();
    expect(stage.membership.join(connection, "red")).not.toBe("limit");
    expect(stage.membership.join(connection, "red")).not.toBe("limit");
    expect([...(connection.groups ?? [])]).toEqual(["red"]);
    expect(socket.topics).toContain(group("red"));
    stage.membership.leave(connection, "red");
    expect(connection.groups).toBeNull();
    expect(socket.topics).not.toContain(group("red"));
  });

  test("at the bound changes nothing, and a group that it is in is no new one", () => {
    const { connection, socket } = stage.open({ groups: ["a", "b"] });
    expect(stage.membership.join(connection, "c")).not.toBe("limit");
    expect(stage.membership.join(connection, "d")).toBe("limit");
    expect(stage.membership.join(connection, "a")).not.toBe("limit");
    expect(socket.topics).not.toContain(group("d"));
    expect(stage.registry.group("chat", "d").size).toBe(0);
    stage.membership.leave(connection, "b");
    expect(stage.membership.join(connection, "d")).not.toBe("limit");
  });
});

describe("leaving", () => {
  test("one group leaves the others, all groups leaves the hub", () => {
    const { connection, socket } = stage.open({ groups: ["a", "b", "c"] });
    stage.membership.leave(connection, "a");
    expect([...(connection.groups ?? [])]).toEqual(["b", "c"]);
    stage.membership.leave(connection, null);
    expect(connection.groups).toBeNull();
    expect([...socket.topics]).toEqual([HUB]);
    expect(stage.registry.group("chat", "b").size).toBe(0);
  });

  test("a group that it is not in changes nothing", () => {
    const { connection, socket } = stage.open({ groups: ["a"] });
    stage.membership.leave(connection, "b");
    stage.membership.leave(stage.open().connection, null);
    expect([...socket.topics].sort()).toEqual([HUB, group("a")].sort());
  });
});

test("a connection that has closed is in nothing any more", async () => {
  const { leave } = stage.open({ connectionId: "c9", userId: "ann", groups: ["a"] });
  await leave();
  expect(stage.registry.connection("chat", "c9")).toBeUndefined();
  expect(stage.registry.user("chat", "ann").length).toBe(0);
  expect(stage.registry.group("chat", "a").size).toBe(0);
});

test("10,000 connections that join, leave and close leave every index empty", () => {
  const clients = Array.from({ length: 10_000 }, (_empty, index) => stage.open({ userId: `user ${index % 100}` }));
  for (const [index, { connection }] of clients.entries()) {
    stage.membership.join(connection, `g${index % 50}`);
    stage.membership.join(connection, `h${index}`);
    if (index % 2 === 0) stage.membership.leave(connection, `g${index % 50}`);
  }
  expect(stage.registry.group("chat", "g1").size).toBe(200);
  expect(stage.registry.group("chat", "g2").size).toBe(0);
  expect(stage.registry.hubSize("chat")).toBe(10_000);
  for (const { socket } of clients) socket.leave({ code: 1000, reason: "" });
  const { registry } = stage;
  expect([registry.size, registry.hubSize("chat"), registry.user("chat", "user 1").length]).toEqual([0, 0, 0]);
  for (const name of ["g1", "h9999"]) expect(registry.group("chat", name).size).toBe(0);
});

test("after any joins and leaves, groups, indexes and topics say the same", () => {
  const name = fc.constantFrom("a", "b", "c", "d", "e");
  const step = fc.oneof(
    fc.record({ kind: fc.constant("join" as const), name }),
    fc.record({ kind: fc.constant("leave" as const), name: fc.option(name, { freq: 4 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const own = new CoreStage({ maxGroupsPerConnection: 3 });
      const { connection, socket } = own.open();
      const expected = new Set<string>();
      for (const { kind, name: target } of steps) {
        if (kind === "join") {
          const fits = expected.has(target) || expected.size < 3;
          expect(own.membership.join(connection, target) !== "limit").toBe(fits);
          if (fits) expected.add(target);
        } else {
          own.membership.leave(connection, target);
          if (target === null) expected.clear();
          else expected.delete(target);
        }
        expect([...(connection.groups ?? [])].sort()).toEqual([...expected].sort());
        expect([...socket.topics].sort()).toEqual([HUB, ...[...expected].map(group)].sort());
        for (const one of ["a", "b", "c", "d", "e"]) {
          expect(own.registry.group("chat", one).size).toBe(expected.has(one) ? 1 : 0);
        }
      }
      own.stop();
    }),
  );
});

describe("with the broker", () => {
  const user = (name: string): string => topicOf({ kind: "user", hub: "chat", name }, "raw");

  test("a connection is known with its hub, its user and every group, each once, and with nothing after it has closed", async () => {
    stage.rulesOf = () => ["blue", "red"];
    const one = stage.open({ userId: "ann", groups: ["red"] });
    const two = stage.open({ userId: "ann" });
    await settled();
    void stage.membership.join(two.connection, "green");
    void stage.membership.join(two.connection, "green");
    await settled();
    expect(Object.fromEntries(stage.broker.counts)).toEqual({
      [HUB]: 2,
      [user("ann")]: 2,
      [group("red")]: 2,
      [group("blue")]: 2,
      [group("green")]: 1,
    });
    stage.membership.leave(two.connection, "green");
    stage.membership.leave(two.connection, "green");
    stage.membership.leave(one.connection, null);
    expect(stage.broker.counts.has(group("green"))).toBe(false);
    expect(stage.broker.counts.get(group("red"))).toBe(1);
    await one.leave();
    await two.leave();
    expect([...stage.broker.counts]).toEqual([]);
  });

  test("joining resolves when the broker knows of it, the second time too", async () => {
    const { connection } = stage.open();
    const known = Promise.withResolvers<void>();
    stage.broker.known = known.promise;
    const done: number[] = [];
    for (const nth of [1, 2]) {
      const joined = stage.membership.join(connection, "red");
      if (joined !== "limit") void joined.then(() => done.push(nth));
    }
    await settled();
    expect(done).toEqual([]);
    known.resolve();
    await settled();
    expect(done).toEqual([1, 2]);
    expect(stage.broker.counts.get(group("red"))).toBe(1);
  });

  test("a client is let in when the broker knows of it, and is found by changes of its groups before", async () => {
    const known = Promise.withResolvers<void>();
    stage.broker.known = known.promise;
    stage.rulesOf = () => ["red", "blue"];
    const connection = new Connection(someFacts({ connectionId: "c1", userId: "ann" }));
    connection.groups = new GroupNames(["own"]);
    let isPrepared = false;
    void stage.membership.prepare(connection).then(() => {
      isPrepared = true;
    });
    await settled();
    expect([isPrepared, stage.broker.counts.has(group("red"))]).toEqual([false, true]);
    // Meanwhile one rule ends and another begins, which finds it as it finds an open one.
    for (const found of stage.registry.user("chat", "ann")) {
      stage.membership.leave(found, "red");
      void stage.membership.join(found, "green");
    }
    known.resolve();
    await settled();
    expect(isPrepared).toBe(true);
    expect([...(connection.groups ?? [])]).toEqual(["own", "blue", "green"]);
    expect([...stage.broker.counts.keys()].sort()).toEqual(
      [HUB, user("ann"), group("own"), group("blue"), group("green")].sort(),
    );
    stage.membership.exit(connection);
    expect([...stage.broker.counts]).toEqual([]);
  });
});
