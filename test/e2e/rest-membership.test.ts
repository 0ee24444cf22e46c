import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Action, publishedPaths } from "../support/rest-operations.ts";
import { expectDone, expectError, got, type Member, RestStage } from "../support/rest-stage.ts";
import { ofConnection } from "../support/stack.ts";

/** PROTOCOL.md, "REST API": who is in which group, and who exists. Rules with a ttl: rest-ttl.test.ts. */
setDefaultTimeout(60_000);

let stage: RestStage;
beforeAll(async () => {
  // All of many clients come from one address, and at once.
  stage = await RestStage.start({ config: { limits: { maxPendingUpgradesPerAddress: 1024 } } });
});
afterAll(async () => {
  await stage.stop();
});

const rows = (...actions: readonly Action[]) =>
  publishedPaths(...actions).map((row) => [row.method, row.template, row] as const);

const hubOf = (namesHub: boolean): string => (namesHub ? "chat" : "_default");

/** Sends to the group and tells which of the members got it. Another TCP connection than the change's asks. */
async function reached(hub: string, group: string, members: readonly Member[]): Promise<boolean[]> {
  await stage.send("send to group", hub, { group }, "who is here?");
  const received = await stage.received(hub, ...members);
  return received.map((messages) => {
    if (messages.length > 0) expect(messages).toEqual([got("text", "who is here?")]);
    return messages.length > 0;
  });
}

async function leave(hub: string, ...members: readonly Member[]): Promise<void> {
  for (const { client, connectionId } of members) {
    client.destroy();
    await stage.stack.backend.next("disconnect", ofConnection(connectionId));
    expect(await stage.ask("GET", "connection exists", hub, { connection: connectionId })).toBe(404);
  }
}

const UNKNOWN = "no-such-connection-0123456789";

describe("add connection to group: in effect with the answer, for that connection only", () => {
  test.each(rows("add connection to group"))("%s %s", async (method, _template, row) => {
    const hub = hubOf(row.namesHub);
    const members = [await stage.member({ hub, user: "ada" }), await stage.member({ hub, user: "ada" })];
    const caller = await stage.caller();
    const names = { connection: members[0]?.connectionId ?? "", group: "joined" };
    for (const _again of [1, 2]) expectDone(await caller.call({ method, target: row.target(hub, names) }), 200);
    expect(await reached(hub, "joined", members)).toEqual([true, false]);
    expect(await stage.ask("HEAD", "is the user in the group", hub, { user: "ada", group: "joined" })).toBe(200);
    const target = row.target(hub, { ...names, connection: UNKNOWN });
    expectError(await caller.call({ method, target }), 404);
    await leave(hub, ...members);
    expect(await stage.ask("HEAD", "group exists", hub, { group: "joined" })).toBe(404);
  });
});

describe("remove connection from group: in effect with the answer, for that connection only", () => {
  test.each(rows("remove connection from group"))("%s %s", async (method, _template, row) => {
    const hub = hubOf(row.namesHub);
    const options = { hub, user: "ada", groups: ["left", "kept"] };
    const members = [await stage.member(options), await stage.member(options)];
    const caller = await stage.caller();
    const names = { connection: members[0]?.connectionId ?? "", group: "left" };
    for (const _again of [1, 2]) expectDone(await caller.call({ method, target: row.target(hub, names) }), 200);
    expect(await reached(hub, "left", members)).toEqual([false, true]);
    expect(await reached(hub, "kept", members)).toEqual([true, true]);
    const target = row.target(hub, { ...names, connection: UNKNOWN });
    expectError(await caller.call({ method, target }), 404);
    await leave(hub, ...members);
  });
});

describe("add user to group: the user's live connections, in effect with the answer", () => {
  test.each(rows("add user to group"))("%s %s", async (method, _template, row) => {
    const hub = hubOf(row.namesHub);
    const members = [
      await stage.member({ hub, user: "ada" }),
      await stage.member({ hub, user: "ada" }),
      await stage.member({ hub, user: "Ada" }),
    ];
    const caller = await stage.caller();
    expectDone(await caller.call({ method, target: row.target(hub, { user: "ada", group: "crew" }) }), 202);
    expect(await reached(hub, "crew", members)).toEqual([true, true, false]);
    const later = await stage.member({ hub, user: "ada" });
    expect(await reached(hub, "crew", [later, ...members])).toEqual([false, true, true, false]);
    expectDone(await caller.call({ method, target: row.target(hub, { user: "nobody", group: "crew" }) }), 202);
    expect(await stage.ask("GET", "is the user in the group", hub, { user: "nobody", group: "crew" })).toBe(404);
    await leave(hub, later, ...members);
  });
});

describe("remove user from group: all the user's connections, in effect with the answer", () => {
  test.each(rows("remove user from group"))("%s %s", async (method, _template, row) => {
    const hub = hubOf(row.namesHub);
    const groups = ["crew", "kept"];
    const members = [
      await stage.member({ hub, user: "ada", groups }),
      await stage.member({ hub, user: "ada", groups }),
      await stage.member({ hub, user: "bob", groups }),
    ];
    const caller = await stage.caller();
    const target = row.target(hub, { user: "ada", group: "crew" });
    for (const _again of [1, 2]) expectDone(await caller.call({ method, target }), 202);
    expect(await reached(hub, "crew", members)).toEqual([false, false, true]);
    expect(await reached(hub, "kept", members)).toEqual([true, true, true]);
    expect(await stage.ask("GET", "is the user in the group", hub, { user: "ada", group: "crew" })).toBe(404);
    await leave(hub, ...members);
  });
});

describe("remove user from all groups: every group of every connection, in effect with the answer", () => {
  test.each(rows("remove user from all groups"))("%s %s", async (method, _template, row) => {
    const hub = hubOf(row.namesHub);
    const members = [
      await stage.member({ hub, user: "ada", groups: ["a", "b"] }),
      await stage.member({ hub, user: "ada", groups: ["c"] }),
      await stage.member({ hub, user: "bob", groups: ["a", "c"] }),
    ];
    const caller = await stage.caller();
    for (const user of ["ada", "ada", "nobody"]) {
      expectDone(await caller.call({ method, target: row.target(hub, { user }) }), 200);
    }
    expect(await reached(hub, "a", members)).toEqual([false, false, true]);
    expect(await reached(hub, "c", members)).toEqual([false, false, true]);
    expect(await stage.ask("GET", "group exists", hub, { group: "b" })).toBe(404);
    expect(await stage.ask("GET", "user exists", hub, { user: "ada" })).toBe(200);
    await leave(hub, ...members);
  });
});

describe("questions are answered 200 and 404, HEAD without a body", () => {
  test.each(rows("is the user in the group"))("%s %s", async (method, _template, row) => {
    const hub = hubOf(row.namesHub);
    const member = await stage.member({ hub, user: "ada", groups: ["asked"] });
    const bystander = await stage.member({ hub, user: "bob", groups: ["other"] });
    const ask = (user: string, group: string) => stage.call({ method, target: row.target(hub, { user, group }) });
    expectDone(await ask("ada", "asked"), 200);
    for (const [user, group] of [
      ["ada", "Asked"],
      ["Ada", "asked"],
      ["ada", "other"],
      ["bob", "asked"],
      ["nobody", "asked"],
    ] as const) {
      expectError(await ask(user, group), 404, method);
    }
    await leave(hub, member, bystander);
    expectError(await ask("ada", "asked"), 404, method);
  });

  test.each(rows("connection exists", "user exists", "group exists"))("%s %s", async (method, _template, row) => {
    const hub = hubOf(row.namesHub);
    const member = await stage.member({ hub, user: "one", groups: ["lone"] });
    const names = { user: "one", group: "lone", connection: member.connectionId };
    const ask = (changed: Partial<typeof names> = {}) =>
      stage.call({ method, target: row.target(hub, { ...names, ...changed }) });
    expectDone(await ask(), 200);
    expectError(await ask({ user: "One", group: "Lone", connection: UNKNOWN }), 404, method);
    await leave(hub, member);
    expectError(await ask(), 404, method);
  });
});

describe("groups given by the connect answer", () => {
  test("count before the client can receive anything, and end with the connection", async () => {
    const options = { user: "ada", groups: ["eins", "zwei drei", "vier\u{1f600}"] };
    const [one, two] = [await stage.member(options), await stage.member(options)];
    for (const group of options.groups) expect(await reached("chat", group, [one, two])).toEqual([true, true]);
    await leave("chat", one);
    for (const group of options.groups) {
      expect(await stage.ask("GET", "group exists", "chat", { group })).toBe(200);
      expect(await reached("chat", group, [two])).toEqual([true]);
    }
    await leave("chat", two);
    for (const group of options.groups) expect(await stage.ask("GET", "group exists", "chat", { group })).toBe(404);
    const back = await stage.member({ user: "ada" });
    expect(await reached("chat", "eins", [back])).toEqual([false]);
    await leave("chat", back);
  });

  test("a connection is present before its 101: every question right after it is answered yes", async () => {
    for (let round = 0; round < 20; round++) {
      const names = { user: `swift-${round}`, group: `swift-${round}` };
      const query = `user=${names.user}&group=${names.group}`;
      const client = await stage.stack.open({ path: `/ws/client/hubs/chat?${query}` });
      expect(await stage.ask("HEAD", "user exists", "chat", names)).toBe(200);
      expect(await stage.ask("HEAD", "is the user in the group", "chat", names)).toBe(200);
      await stage.send("send to group", "chat", names, "at once");
      expect(await client.nextText()).toBe("at once");
      client.destroy();
    }
  });
});

describe("many", () => {
  test("500 connections in groups and users that all leave leave nothing behind", async () => {
    const users = 50;
    const everybody: Member[] = [];
    // Of one address, 256 may wait for the connect event at the same time.
    for (let from = 0; from < 500; from += 250) {
      const some = Array.from({ length: 250 }, (_value, i) =>
        stage.member({ hub: "many", user: `u${(from + i) % users}`, groups: ["all", `g${(from + i) % 20}`] }),
      );
      everybody.push(...(await Promise.all(some)));
    }
    for (let index = 0; index < users; index++) {
      const names = { user: `u${index}`, group: `by-user-${index}` };
      expect(await stage.ask("PUT", "add user to group", "many", names)).toBe(202);
      expect(await stage.ask("HEAD", "group exists", "many", names)).toBe(200);
    }
    await stage.send("send to group", "many", { group: "all" }, "all");
    for (const messages of await stage.received("many", ...everybody)) expect(messages).toEqual([got("text", "all")]);
    for (const [index, { client }] of everybody.entries()) {
      if (index % 2 === 0) client.destroy();
      else client.close(1000);
    }
    for (const { connectionId } of everybody) {
      await stage.stack.backend.next("disconnect", ofConnection(connectionId));
    }
    const groups = ["all", ...Array.from({ length: 20 }, (_value, index) => `g${index}`)];
    for (const group of groups) expect(await stage.ask("GET", "group exists", "many", { group })).toBe(404);
    for (let index = 0; index < users; index++) {
      const names = { user: `u${index}`, group: `by-user-${index}` };
      expect(await stage.ask("GET", "user exists", "many", names)).toBe(404);
      expect(await stage.ask("GET", "group exists", "many", names)).toBe(404);
      expect(await stage.ask("GET", "is the user in the group", "many", names)).toBe(404);
    }
    expect(stage.stack.gateway.groupMembers("many", "all")).toEqual([]);
  });

  test("a connection joins and leaves 500 groups", async () => {
    const member = await stage.member({ user: "keen" });
    const groups = Array.from({ length: 500 }, (_value, index) => `keen-${index}`);
    const names = (group: string) => ({ connection: member.connectionId, group });
    for (const group of groups) {
      expect(await stage.ask("PUT", "add connection to group", "chat", names(group))).toBe(200);
    }
    for (const group of groups.slice(0, 250)) {
      expect(await stage.ask("DELETE", "remove connection from group", "chat", names(group))).toBe(200);
    }
    for (const [index, group] of groups.entries()) {
      expect(await stage.ask("HEAD", "group exists", "chat", { group })).toBe(index < 250 ? 404 : 200);
    }
    await leave("chat", member);
    for (const group of groups) expect(await stage.ask("HEAD", "group exists", "chat", { group })).toBe(404);
  });
});
