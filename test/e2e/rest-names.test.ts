import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { got, RestStage } from "../support/rest-stage.ts";

/** PROTOCOL.md, "Words" and "REST API": which hub, user or group a URL means, with any characters in the name. */
setDefaultTimeout(60_000);

let stage: RestStage;
beforeAll(async () => {
  stage = await RestStage.start();
});
afterAll(async () => {
  await stage.stop();
});

const LONGEST = `${"ä".repeat(255)}xy`;

const AWKWARD_NAMES = [
  "a/b",
  "/",
  "a%2Fb",
  "100%",
  "%",
  "a:b",
  "a?b",
  "?",
  "a#b",
  "#",
  "a b  c",
  "a+b",
  "a&excluded=b",
  "a=b;c",
  "a,b",
  "a\\b",
  "a\"b'c`d",
  "<a>|{b}^[c]",
  "~!@$*()",
  "Jürgen Größe",
  "cafe\u0301",
  "caf\u00e9",
  "\u{1f600}\u{1f468}\u200d\u{1f469}",
  "日本語",
  "messages",
  "groups",
  "users",
  "hubs",
  "v1",
  "...",
  "__proto__",
  "constructor",
  "x".repeat(512),
  LONGEST,
];

test("the longest name of the table is 512 bytes of UTF-8", () => {
  expect(Buffer.byteLength(LONGEST)).toBe(512);
});

describe("a user whose name is awkward gets the message, and nobody else does", () => {
  test.each(AWKWARD_NAMES)("%j", async (user) => {
    const member = await stage.member({ hub: "names", user });
    const other = await stage.member({ hub: "names", user: `${user.slice(0, 5)}-` });
    await stage.send("send to user", "names", { user }, "for you");
    expect(await stage.received("names", member, other)).toEqual([[got("text", "for you")], []]);
    expect(await stage.ask("GET", "user exists", "names", { user })).toBe(200);
    expect(await stage.ask("PUT", "add user to group", "names", { user, group: "crowd" })).toBe(202);
    expect(await stage.ask("HEAD", "is the user in the group", "names", { user, group: "crowd" })).toBe(200);
    await stage.send("send to group", "names", { group: "crowd" }, "for the crowd");
    expect(await stage.received("names", member, other)).toEqual([[got("text", "for the crowd")], []]);
    member.client.destroy();
    other.client.destroy();
  });
});

describe("a group whose name is awkward reaches its members, and nobody else", () => {
  test.each(AWKWARD_NAMES)("%j", async (group) => {
    const member = await stage.member({ hub: "names", user: "ada" });
    const other = await stage.member({ hub: "names", user: "bob" });
    const { connectionId: connection } = member;
    expect(await stage.ask("GET", "group exists", "names", { group })).toBe(404);
    expect(await stage.ask("PUT", "add connection to group", "names", { group, connection })).toBe(200);
    await stage.send("send to group", "names", { group }, "for the group");
    expect(await stage.received("names", member, other)).toEqual([[got("text", "for the group")], []]);
    expect(await stage.ask("GET", "group exists", "names", { group })).toBe(200);
    expect(await stage.ask("GET", "is the user in the group", "names", { user: "ada", group })).toBe(200);
    expect(await stage.ask("GET", "is the user in the group", "names", { user: "bob", group })).toBe(404);
    expect(await stage.ask("DELETE", "remove connection from group", "names", { group, connection })).toBe(200);
    expect(await stage.ask("GET", "group exists", "names", { group })).toBe(404);
    member.client.destroy();
    other.client.destroy();
  });
});

/** Names that are refused everywhere, since URL parsers take them for steps up the path. Source: decision 0008. */
describe("`.` and `..` are no names", () => {
  test.each([".", ".."])("a message to the user %j is refused and reaches nobody", async (user) => {
    const others = [
      await stage.member({ hub: "dots", user: "ada", groups: ["users"] }),
      await stage.member({ hub: "dots", user: "users", groups: ["messages"] }),
    ];
    for (const written of [user, user.replaceAll(".", "%2E"), user.replaceAll(".", "%2e")]) {
      for (const target of [
        `/ws/api/hubs/dots/users/${written}/messages`,
        `/ws/api/hubs/dots/groups/${written}/messages`,
        `/api/users/${written}/messages?hub=dots`,
        `/ws/api/v1/hubs/dots/users/${written}`,
      ]) {
        const { status } = await stage.call({ method: "POST", target, type: "text/plain", body: "for the dots" });
        expect({ target, refused: status >= 400 && status < 500 }).toEqual({ target, refused: true });
      }
    }
    expect(await stage.received("dots", ...others)).toEqual([[], []]);
    for (const { client } of others) client.destroy();
  });

  test.each([".", ".."])("a DELETE with %j in the place of a group is refused and changes nothing", async (name) => {
    const member = await stage.member({ hub: "dots", user: "ada", groups: ["a"] });
    for (const path of [`users/ada/groups/${name}`, `connections/${member.connectionId}/groups/${name}`]) {
      for (const written of [path, path.replaceAll(".", "%2E")]) {
        const { status } = await stage.call({ method: "DELETE", target: `/ws/api/hubs/dots/${written}` });
        expect({ written, refused: status >= 400 && status < 500 }).toEqual({ written, refused: true });
      }
    }
    expect(await stage.ask("GET", "is the user in the group", "dots", { user: "ada", group: "a" })).toBe(200);
    expect(await stage.received("dots", member)).toEqual([[]]);
    member.client.destroy();
  });

  test.each(["user=.", "user=..", "user=ada&group=.", "user=ada&group=.."])(
    "a connect answer with %s is 502",
    async (query) => {
      const client = await stage.stack.request({ path: `/ws/client/hubs/dots?${query}` });
      expect((await client.answer()).status).toBe(502);
      client.destroy();
    },
  );
});

describe("hubs", () => {
  test.each([
    ["chat", "chat"],
    ["Chat", "cHAT"],
    ["CHAT", "chat"],
    ["a.b_c,d", "A.B_C,D"],
    ["x[1]", "X%5B1%5D"],
    [`h${"9".repeat(127)}`, `H${"9".repeat(127)}`],
    ["_default", "_default"],
  ])("a client in %s is reached through %s", async (hub, asked) => {
    const member = await stage.member({ hub, user: "ada", groups: ["g"] });
    const calls = [
      `/ws/api/hubs/${asked}/messages`,
      `/api/users/ada/messages?hub=${asked}`,
      `/ws/api/v1/hubs/${asked}/groups/g`,
      `/ws/api/hubs/${asked}/connections/${member.connectionId}/messages`,
    ];
    for (const target of calls) {
      const answer = await stage.call({ method: "POST", target, type: "text/plain", body: target });
      expect([target, answer.status]).toEqual([target, 202]);
    }
    expect(await stage.received(hub, member)).toEqual([calls.map((target) => got("text", target))]);
    for (const path of [`connections/${member.connectionId}`, "users/ada", "groups/g"]) {
      expect((await stage.call({ method: "HEAD", target: `/ws/api/hubs/${asked}/${path}` })).status).toBe(200);
      expect((await stage.call({ method: "HEAD", target: `/api/${path}?hub=${asked}` })).status).toBe(200);
    }
    member.client.destroy();
  });

  test("share nothing: users, groups and connections of one are unknown in the other", async () => {
    const here = await stage.member({ hub: "here", user: "ada", groups: ["g"] });
    const there = await stage.member({ hub: "there", user: "bob", groups: ["h"] });
    const connection = here.connectionId;
    for (const hub of ["there", "_default"]) {
      expect(await stage.ask("GET", "connection exists", hub, { connection })).toBe(404);
      expect(await stage.ask("GET", "user exists", hub, { user: "ada" })).toBe(404);
      expect(await stage.ask("GET", "group exists", hub, { group: "g" })).toBe(404);
      expect(await stage.ask("PUT", "add connection to group", hub, { connection, group: "h" })).toBe(404);
      expect(await stage.ask("DELETE", "remove connection from group", hub, { connection, group: "g" })).toBe(404);
      expect(await stage.ask("PUT", "add user to group", hub, { user: "ada", group: "h" })).toBe(202);
      expect(await stage.ask("DELETE", "remove user from all groups", hub, { user: "ada" })).toBe(200);
      expect(await stage.ask("DELETE", "close connection", hub, { connection })).toBe(202);
      await stage.send("send to connection", hub, { connection }, "lost");
      await stage.send("send to group", hub, { group: "g" }, "lost");
    }
    await stage.send("send to group", "there", { group: "h" }, "for bob");
    expect(await stage.received("here", here)).toEqual([[]]);
    expect(await stage.received("there", there)).toEqual([[got("text", "for bob")]]);
    expect(await stage.ask("GET", "is the user in the group", "here", { user: "ada", group: "g" })).toBe(200);
    here.client.destroy();
    there.client.destroy();
  });
});

describe("users and groups are case-sensitive", () => {
  test.each([
    ["Ada", "ada"],
    ["Ä", "ä"],
    ["cafe\u0301", "caf\u00e9"],
  ])("%j is not %j", async (one, other) => {
    const first = await stage.member({ hub: "case", user: one, groups: [one] });
    const second = await stage.member({ hub: "case", user: other, groups: [other] });
    await stage.send("send to user", "case", { user: one }, "user one");
    await stage.send("send to group", "case", { group: other }, "group other");
    expect(await stage.received("case", first, second)).toEqual([
      [got("text", "user one")],
      [got("text", "group other")],
    ]);
    expect(await stage.ask("GET", "is the user in the group", "case", { user: one, group: other })).toBe(404);
    first.client.destroy();
    second.client.destroy();
  });
});
