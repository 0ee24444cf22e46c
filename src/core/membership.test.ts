import { expect, test } from "bun:test";
import { CoreStage } from "../../test/support/core-stage.ts";
import { subjectOf } from "../protocol/envelope.ts";

const group = (name: string) => subjectOf({ kind: "group", hub: "chat", name });
const HUB = subjectOf({ kind: "hub", hub: "chat" });

test("an opened connection subscribes to its hub and to the groups it came with", () => {
  const { socket } = new CoreStage().open({ groups: ["a", "b"] });
  expect([...socket.topics]).toEqual([HUB, group("a"), group("b")]);
});

test("it joins its user's rule groups too, once each, up to the limit", () => {
  const stage = new CoreStage({ maxGroupsPerConnection: 3 });
  stage.rulesOf = (hub, user) => [hub, user, "a", "past the limit"];
  const { connection, socket } = stage.open({ userId: "ada", groups: ["a"] });
  expect([...(connection.groups ?? [])]).toEqual(["a", "chat", "ada"]);
  expect([...socket.topics]).toEqual([HUB, group("a"), group("chat"), group("ada")]);
});

test("a join takes effect at once and leaves no second trace when repeated", () => {
  const stage = new CoreStage();
  const { connection, socket } = stage.open();
  expect(stage.membership.join(connection, "a")).toBe(true);
  expect(stage.membership.join(connection, "a")).toBe(true);
  expect([...stage.registry.group("CHAT", "a")]).toEqual([connection]);
  expect([...socket.topics]).toEqual([HUB, group("a")]);
  stage.membership.leave(connection, "a");
  expect(stage.registry.group("chat", "a").size).toBe(0);
  expect([...socket.topics]).toEqual([HUB]);
  expect(connection.groups).toBeNull();
});

test("the group past the limit is refused and changes nothing; one that it is in is not", () => {
  const stage = new CoreStage({ maxGroupsPerConnection: 2 });
  const { connection, socket } = stage.open({ groups: ["a", "b"] });
  expect(stage.membership.join(connection, "c")).toBe(false);
  expect(stage.membership.join(connection, "b")).toBe(true);
  expect(stage.registry.group("chat", "c").size).toBe(0);
  expect(socket.topics.has(group("c"))).toBe(false);
  stage.membership.leave(connection, "a");
  expect(stage.membership.join(connection, "c")).toBe(true);
});

test("leaving all groups leaves the hub's topic", () => {
  const stage = new CoreStage();
  const { connection, socket } = stage.open({ groups: ["a", "b"] });
  stage.membership.leave(connection, null);
  expect([...socket.topics]).toEqual([HUB]);
  expect(stage.registry.group("chat", "a").size + stage.registry.group("chat", "b").size).toBe(0);
});

test("10,000 connections that join, leave and close leave every index empty", async () => {
  const stage = new CoreStage({ maxConnections: 20_000 });
  const clients = Array.from({ length: 10_000 }, (_, index) => stage.open({ userId: `user ${index % 100}` }));
  clients.forEach(({ connection }, index) => {
    stage.membership.join(connection, `g${index % 50}`);
    stage.membership.join(connection, `h${index}`);
    if (index % 2 === 0) stage.membership.leave(connection, `g${index % 50}`);
  });
  expect(stage.registry.group("chat", "g1").size).toBe(200);
  expect(stage.registry.group("chat", "g2").size).toBe(0);
  expect(stage.registry.hubSize("chat")).toBe(10_000);
  for (const { socket } of clients) socket.leave({ code: 1000, reason: "" });
  expect([stage.registry.size, stage.registry.hubSize("chat"), stage.registry.user("chat", "user 1").size]).toEqual([
    0, 0, 0,
  ]);
  for (const name of ["g1", "h9999"]) expect(stage.registry.group("chat", name).size).toBe(0);
});
