import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { ApiStage } from "../../test/support/api-stage.ts";
import type { Client } from "../../test/support/core-stage.ts";
import { MAX_GROUP_RULES } from "../core/group-rules.ts";

const HUB = "/ws/api/hubs/chat";

let stage: ApiStage;

beforeEach(() => {
  stage = new ApiStage({ maxGroupsPerConnection: 2, maxConnections: 20_000 });
});
afterEach(() => {
  stage.stop();
});

/** What every client has got, in the order of the clients. */
function got(...clients: readonly Client[]): unknown[] {
  return clients.map(({ socket }) => socket.sent);
}

describe("sending", () => {
  test("reaches hub, user, connection or group, and is 202 where nobody is", async () => {
    const ann = stage.core.open({ connectionId: "c1", userId: "ann", groups: ["red"] });
    const bob = stage.core.open({ connectionId: "c2", userId: "bob" });
    await stage.send(`${HUB}/messages`, "hub");
    await stage.send(`${HUB}/users/bob/messages`, "user");
    await stage.send(`${HUB}/connections/c1/messages`, "connection");
    await stage.send(`${HUB}/groups/red/messages`, "group");
    for (const target of ["users/x", "connections/x", "groups/x"]) await stage.send(`${HUB}/${target}/messages`, "x");
    await stage.send("/ws/api/hubs/nobody/messages", "x");
    expect(got(ann, bob)).toEqual([
      ["hub", "connection", "group"],
      ["hub", "user"],
    ]);
  });

  test("leaves out the excluded, of a hub and of a group", async () => {
    const clients = ["c1", "c2", "c3"].map((connectionId) => stage.core.open({ connectionId, groups: ["red"] }));
    await stage.send(`${HUB}/messages?excluded=c1&excluded=c2`, "hub");
    await stage.send(`${HUB}/groups/red/messages?excluded=c3&excluded=x`, "group");
    expect(got(...clients)).toEqual([["group"], ["group"], ["hub"]]);
  });

  test("one after the other keeps the order, in every way of sending", async () => {
    const { socket } = stage.core.open({ connectionId: "c1", userId: "ann", groups: ["red"] });
    const ways = ["messages", "users/ann/messages", "connections/c1/messages", "groups/red/messages"];
    const expected = Array.from({ length: 40 }, (_empty, index) => `${index}`);
    for (const text of expected) await stage.send(`${HUB}/${ways[Number(text) % 4]}`, text);
    expect(socket.sent).toEqual(expected);
  });

  test("to a hub in another spelling reaches it; another hub's names reach nobody here", async () => {
    const { socket } = stage.core.open({ connectionId: "c1", userId: "ann", groups: ["red"] });
    await stage.send("/ws/api/hubs/CHAT/messages", "hub");
    for (const target of ["messages", "users/ann/messages", "connections/c1/messages", "groups/red/messages"]) {
      await stage.send(`/ws/api/hubs/news/${target}`, "x");
      await stage.send(`/ws/api/${target}`, "x");
    }
    expect(socket.sent).toEqual(["hub"]);
  });
});

describe("a connection in a group", () => {
  test.each([`${HUB}/groups/red/connections/c1`, `${HUB}/connections/c1/groups/red`])(
    "is put there and taken out before the answer, by %s",
    async (target) => {
      const { socket } = stage.core.open({ connectionId: "c1" });
      expect(await stage.ask("PUT", target)).toBe(200);
      expect(await stage.ask("PUT", target)).toBe(200);
      await stage.send(`${HUB}/groups/red/messages`, "in");
      expect(await stage.ask("DELETE", target)).toBe(200);
      expect(await stage.ask("DELETE", target)).toBe(200);
      await stage.send(`${HUB}/groups/red/messages`, "out");
      expect(socket.sent).toEqual(["in"]);
    },
  );

  test("is unknown where the id is, or where it is of another hub", async () => {
    stage.core.open({ connectionId: "c1", hub: "news" });
    for (const method of ["PUT", "DELETE"]) {
      for (const id of ["c1", "c2"]) {
        const answer = await stage.call({ method, target: `${HUB}/groups/red/connections/${id}` });
        expect(answer).toMatchObject({ status: 404, code: "no_such_connection", target: "connection" });
      }
    }
  });

  test("one group past the limit is 409, and joining a group again does not count", async () => {
    stage.core.open({ connectionId: "c1", groups: ["a"] });
    expect(await stage.ask("PUT", `${HUB}/groups/b/connections/c1`)).toBe(200);
    const refused = await stage.call({ method: "PUT", target: `${HUB}/groups/c/connections/c1` });
    expect(refused).toMatchObject({ status: 409, code: "group_limit", target: "maxGroupsPerConnection" });
    expect(await stage.ask("PUT", `${HUB}/groups/b/connections/c1`)).toBe(200);
    expect(await stage.ask("GET", `${HUB}/groups/c`)).toBe(404);
  });
});

describe("a user in a group, without ttl", () => {
  const target = `${HUB}/users/ann/groups/red`;

  test.each([target, `${HUB}/groups/red/users/ann`])("by %s is for the live connections alone", async (path) => {
    const live = [stage.core.open({ userId: "ann" }), stage.core.open({ userId: "ann" })];
    expect(await stage.ask("PUT", path)).toBe(202);
    const later = stage.core.open({ userId: "ann" });
    await stage.send(`${HUB}/groups/red/messages`, "x");
    expect(got(...live, later)).toEqual([["x"], ["x"], []]);
    expect(await stage.ask("DELETE", path)).toBe(202);
    expect(await stage.ask("GET", path)).toBe(404);
  });

  test("is 202 where nobody is connected, and has no effect later", async () => {
    expect(await stage.ask("PUT", target)).toBe(202);
    expect(await stage.ask("HEAD", target)).toBe(404);
    expect(stage.core.open({ userId: "ann" }).connection.groups).toBeNull();
  });

  test("past the bound is 409", async () => {
    stage.core.open({ userId: "ann", groups: ["a", "b"] });
    expect(await stage.call({ method: "PUT", target })).toMatchObject({ status: 409, code: "group_limit" });
  });

  test("is in none after the removal from all groups, which is 200", async () => {
    const { connection } = stage.core.open({ userId: "ann", groups: ["a", "b"] });
    expect(await stage.ask("DELETE", `${HUB}/users/ann/groups`)).toBe(200);
    expect(connection.groups).toBeNull();
    expect(await stage.ask("DELETE", `${HUB}/users/nobody/groups`)).toBe(200);
  });

  test("is asked of every node, since a user may have connections on each", async () => {
    await stage.ask("PUT", target);
    await stage.ask("DELETE", target);
    await stage.ask("DELETE", `${HUB}/users/ann/groups`);
    expect(stage.broker.questions.map(({ scope }) => scope)).toEqual(["every-node", "every-node", "every-node"]);
  });
});

describe("a user in a group, with ttl", () => {
  const target = `${HUB}/users/ann/groups/red`;
  const put = (ttl: number) => stage.ask("PUT", `${target}?ttl=${ttl}`);
  const isMember = async () => (await stage.ask("GET", target)) === 200;

  test("holds for live connections and for those that open until its end", async () => {
    const live = stage.core.open({ userId: "ann" });
    // Shorter than the deadline for a pong, which nobody sends here.
    expect(await put(10)).toBe(202);
    await stage.core.clock.advance(9000);
    const later = stage.core.open({ userId: "ann" });
    for (const { connection } of [live, later]) expect([...(connection.groups ?? [])]).toEqual(["red"]);
    await stage.core.clock.advance(2000);
    for (const { connection } of [live, later]) expect(connection.groups).toBeNull();
    expect(stage.core.open({ userId: "ann" }).connection.groups).toBeNull();
    expect(await isMember()).toBe(false);
  });

  test("is a yes without any connection, while group and user do not exist", async () => {
    await put(60);
    expect(await isMember()).toBe(true);
    expect(await stage.ask("HEAD", `${HUB}/groups/red/users/ann`)).toBe(200);
    expect(await stage.ask("GET", `${HUB}/groups/red`)).toBe(404);
    expect(await stage.ask("GET", `${HUB}/users/ann`)).toBe(404);
  });

  test("is replaced by a later PUT, shorter or longer", async () => {
    await put(60);
    await put(5);
    await stage.core.clock.advance(6000);
    expect(await isMember()).toBe(false);
    await put(5);
    await put(60);
    await stage.core.clock.advance(6000);
    expect(await isMember()).toBe(true);
  });

  test("is ended by a PUT without one, which adds the live connections for good", async () => {
    const { connection } = stage.core.open({ userId: "ann" });
    await put(5);
    expect(await stage.ask("PUT", target)).toBe(202);
    await stage.core.clock.advance(10_000);
    expect([...(connection.groups ?? [])]).toEqual(["red"]);
    expect(stage.core.open({ userId: "ann" }).connection.groups).toBeNull();
  });

  test.each([target, `${HUB}/users/ann/groups`])("is ended by DELETE %s", async (path) => {
    const { connection } = stage.core.open({ userId: "ann" });
    await put(60);
    await stage.ask("DELETE", path);
    expect(connection.groups).toBeNull();
    expect(await isMember()).toBe(false);
    expect(stage.core.open({ userId: "ann" }).connection.groups).toBeNull();
  });

  test("of another user, group or hub stays", async () => {
    await put(60);
    for (const path of ["users/Ann/groups", "users/ann/groups/Red", "users/bob/groups/red"]) {
      await stage.ask("DELETE", `${HUB}/${path}`);
    }
    await stage.ask("DELETE", "/ws/api/hubs/news/users/ann/groups");
    expect(await isMember()).toBe(true);
    await stage.ask("DELETE", "/ws/api/hubs/CHAT/users/ann/groups/red");
    expect(await isMember()).toBe(false);
  });

  test.each([1, 31_536_000])("may be %d seconds", async (ttl) => {
    expect(await put(ttl)).toBe(202);
  });

  test.each([0, 31_536_001])("of %d seconds is 400 and changes nothing", async (ttl) => {
    const { connection } = stage.core.open({ userId: "ann" });
    expect(await put(ttl)).toBe(400);
    expect(connection.groups).toBeNull();
    expect(await isMember()).toBe(false);
  });

  test("is one of 100,000 at most: another is 503, a new end for one that is there is not", async () => {
    for (let index = 0; index < MAX_GROUP_RULES; index++) stage.rules.put("chat", `u${index}`, "red", 600);
    const live = stage.core.open({ userId: "ann" });
    const refused = await stage.call({ method: "PUT", target: `${target}?ttl=60` });
    expect(refused).toMatchObject({ status: 503, code: "rule_limit", target: "ttl" });
    expect(live.connection.groups).toBeNull();
    expect(await stage.ask("PUT", `${HUB}/users/u7/groups/red?ttl=60`)).toBe(202);
    expect(await stage.ask("DELETE", `${HUB}/users/u8/groups/red`)).toBe(202);
    expect(await put(60)).toBe(202);
  });
});

test("a store that throws is 503 and a fault of the log; membership stays as it was", async () => {
  const { connection } = stage.core.open({ userId: "ann" });
  await stage.ask("PUT", `${HUB}/users/ann/groups/red?ttl=60`);
  stage.store.failure = new Error("the disk is full");
  const calls = [
    { method: "PUT", target: `${HUB}/users/ann/groups/blue?ttl=60` },
    { method: "PUT", target: `${HUB}/users/ann/groups/red` },
    { method: "DELETE", target: `${HUB}/users/ann/groups/red` },
    { method: "DELETE", target: `${HUB}/users/ann/groups` },
  ];
  for (const call of calls) {
    expect(await stage.call(call)).toMatchObject({ status: 503, code: "rules_unavailable", target: "dataDir" });
  }
  expect(stage.core.report.faults).toEqual(calls.map(() => stage.store.failure));
  expect([...(connection.groups ?? [])]).toEqual(["red"]);
  stage.store.failure = null;
  expect(await stage.ask("DELETE", `${HUB}/users/ann/groups`)).toBe(200);
  expect(connection.groups).toBeNull();
});

describe("what exists", () => {
  test.each([
    ["connections/c1", "no_such_connection", "connection"],
    ["users/ann", "no_such_user", "user"],
    ["groups/red", "no_such_group", "group"],
    ["users/ann/groups/red", "not_a_member", "user"],
    ["groups/red/users/ann", "not_a_member", "user"],
  ])("%s is 200 while it is live and in this hub, else 404", async (path, code, about) => {
    const target = `${HUB}/${path}`;
    const { leave } = stage.core.open({ connectionId: "c1", userId: "ann", groups: ["red"] });
    expect(await stage.call({ method: "GET", target })).toMatchObject({ status: 200, body: "" });
    expect(await stage.ask("HEAD", target)).toBe(200);
    expect(await stage.ask("GET", `/ws/api/hubs/news/${path}`)).toBe(404);
    await leave();
    expect(await stage.call({ method: "GET", target })).toMatchObject({ status: 404, code, target: about });
    expect(await stage.ask("HEAD", target)).toBe(404);
  });
});

describe("closing a connection", () => {
  test("is 202, with 1000 and the reason, cut to 123 bytes; the disconnect follows", async () => {
    const { socket } = stage.core.open({ connectionId: "c1" });
    const reason = encodeURIComponent("ü".repeat(100));
    expect(await stage.ask("DELETE", `${HUB}/connections/c1?reason=${reason}`)).toBe(202);
    expect(socket.done).toEqual([`close 1000 ${"ü".repeat(61)}`]);
    const [disconnect] = stage.core.upstream.of("disconnect");
    expect(disconnect?.event).toMatchObject({ closeCode: 1000, closeReason: "ü".repeat(61) });
    expect(await stage.ask("GET", `${HUB}/connections/c1`)).toBe(404);
  });

  test("that is unknown, or of another hub, is 202 and touches nobody", async () => {
    const { socket } = stage.core.open({ connectionId: "c1", hub: "news" });
    expect(await stage.ask("DELETE", `${HUB}/connections/c1`)).toBe(202);
    expect(await stage.ask("DELETE", `${HUB}/connections/c2`)).toBe(202);
    expect(socket.done).toEqual([]);
  });
});

test("10,000 connections that join and leave by the API leave every index empty", async () => {
  const clients = Array.from({ length: 10_000 }, (_empty, index) =>
    stage.core.open({ connectionId: `c${index}`, userId: `u${index % 500}` }),
  );
  // One token for each path would only measure signatures: a connection joins by the broker's question that its call is.
  for (const [index, { connection }] of clients.entries()) {
    const target = { kind: "connection", hub: "chat", name: connection.connectionId } as const;
    await stage.broker.ask({ verb: "join", target, group: `g${index % 1000}`, afterRules: 0 }, "first-yes");
  }
  for (let user = 0; user < 500; user += 5) await stage.ask("PUT", `${HUB}/users/u${user}/groups/all?ttl=60`);
  expect(stage.core.registry.group("chat", "all").size).toBe(2000);
  expect(stage.core.registry.group("chat", "g7").size).toBe(10);
  for (let user = 0; user < 500; user += 10) await stage.ask("DELETE", `${HUB}/users/u${user}/groups`);
  expect(stage.core.registry.group("chat", "all").size).toBe(1000);
  await stage.core.clock.advance(61_000);
  expect(stage.core.registry.group("chat", "all").size).toBe(0);
  for (const [index, { socket, connection }] of clients.entries()) {
    if (index % 2 === 0)
      await stage.broker.publish({
        verb: "close",
        target: { kind: "connection", hub: "chat", name: connection.connectionId },
        reason: "",
      });
    else socket.leave({ code: 1001, reason: "" });
  }
  const { registry } = stage.core;
  expect([registry.size, registry.hubSize("chat")]).toEqual([0, 0]);
  for (const { connection } of clients) expect(registry.user("chat", connection.userId ?? "").length).toBe(0);
  for (let group = 0; group < 1000; group++) expect(registry.group("chat", `g${group}`).size).toBe(0);
  expect(stage.rules.size).toBe(0);
  expect(stage.store.all()).toEqual([]);
});
