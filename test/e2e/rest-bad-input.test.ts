import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Action, publishedPaths, target } from "../support/rest-operations.ts";
import { expectDone, expectError, got, type Member, RestStage } from "../support/rest-stage.ts";

/** PROTOCOL.md, "REST API", the order of checks as far as the query: 404, 405, 401, 400. Bodies: rest-bodies.test.ts. */
setDefaultTimeout(60_000);

let stage: RestStage;
let member: Member;
beforeAll(async () => {
  stage = await RestStage.start();
  member = await stage.member({ user: "ada", groups: ["g"] });
});
afterAll(async () => {
  await stage.stop();
});

/** What was refused has reached nobody, and the service serves on. */
afterEach(async () => {
  expect(await stage.received("chat", member)).toEqual([[]]);
});

const HUB = "/ws/api/hubs/chat";
const LETTER = { type: "text/plain", body: "never to be seen" };

const post = (path: string, token?: string | null) =>
  stage.call({ method: "POST", target: path, ...LETTER, ...(token === undefined ? {} : { token }) });

describe("400: two Host lines, before anything else", () => {
  test.each([`${HUB}/messages`, `${HUB}/nonsense`, "/api/health", "/"])("%s", async (path) => {
    for (const host of ["chat.example", "", `127.0.0.1:${stage.port}`]) {
      expectError(await stage.call({ method: "POST", target: path, ...LETTER, lines: [`Host: ${host}`] }), 400);
    }
  });
});

describe("404: no such path, with any token", () => {
  const paths = [
    "/ws/api/hubs/chat",
    "/ws/api/hubs",
    "/ws/api",
    "/ws/api/hubs/chat/nonsense",
    "/ws/api/hubs/chat/messages/more",
    "/ws/api/hubs/chat/message",
    "/ws/api/hubs/chat/users",
    "/ws/api/hubs/chat/users/a/nonsense",
    "/ws/api/hubs/chat/users/a/messages/more",
    "/ws/api/hubs/chat/users/a/groups/b/more",
    "/ws/api/hubs/chat/users/a/connections/b",
    "/ws/api/hubs/chat/connections/a/users/b",
    "/ws/api/hubs/chat/groups/a/groups/b",
    "/ws/api/v2/hubs/chat",
    "/ws/api/v1/hubs/chat/nonsense/a",
    "/ws/apis/hubs/chat/messages",
    "/api",
    "/api/nonsense?hub=chat",
    "/ws",
    "/messages",
  ];
  test.each(paths)("POST %s", async (path) => {
    expectError(await post(path), 404);
    expectError(await post(path, null), 404);
    expectError(await post(path, "no token"), 404);
  });

  test.each(["GET", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"])("%s of an unknown path", async (method) => {
    expectError(await stage.call({ method, target: `${HUB}/nonsense`, token: null }), 404, method);
  });
});

describe("405: the path is there, the method is not; Allow names those that are", () => {
  const ALL = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
  const every: readonly Action[] = [
    "broadcast",
    "send to user",
    "send to connection",
    "send to group",
    "add connection to group",
    "remove connection from group",
    "add user to group",
    "remove user from group",
    "remove user from all groups",
    "is the user in the group",
    "close connection",
    "connection exists",
    "user exists",
    "group exists",
  ];
  // One path may serve several operations: what is allowed is the sum of them.
  const allowed = Map.groupBy(publishedPaths(...every), (row) => row.template);
  const cases = [...allowed].map(([template, rows]) => {
    const methods = [...new Set(rows.map((row) => row.method))].sort();
    return [template, methods, rows] as const;
  });

  test.each(cases)("%s allows %j only", async (_template, methods, [row]) => {
    const path = row?.target("chat", { user: "a", group: "b", connection: "c" }) ?? "";
    for (const method of ALL.filter((name) => !methods.includes(name))) {
      for (const token of [null, undefined]) {
        const request = { method, target: path, type: "text/html" };
        const answer = await stage.call(token === null ? { ...request, token } : request);
        expectError(answer, 405, method);
        const allow = answer.head.all("allow").join(",").split(/,\s*/).sort();
        // A server may offer OPTIONS of its own accord, but then it would not be refused.
        expect(allow).toEqual(methods);
      }
    }
  });

  test("health allows GET and HEAD only", async () => {
    const answer = await post("/api/health", null);
    expectError(answer, 405);
    expect(answer.head.all("allow").join(",").split(/,\s*/).sort()).toEqual(["GET", "HEAD"]);
  });
});

/** Paths that name something that no name may be. */
const BAD_NAMES: readonly (readonly [string, string])[] = [
  ["malformed percent-encoding", "%zz"],
  ["a lone percent sign", "%"],
  ["half an escape", "%4"],
  ["escapes that are not UTF-8", "%C3"],
  ["an overlong escape", "%C0%AF"],
  ["a surrogate", "%ED%A0%80"],
  ["NUL", "a%00b"],
  ["LF", "a%0Ab"],
  ["CR", "a%0D"],
  ["DEL", "a%7F"],
  ["a C1 control character", "a%C2%85b"],
  ["a space in front", "%20a"],
  ["a space behind", "a%20"],
  ["a space only", "%20"],
  ["nothing", ""],
  ["513 bytes", "x".repeat(513)],
  ["513 bytes of two-byte characters", `${encodeURIComponent("ä".repeat(256))}x`],
  ["2 kB", "x".repeat(2048)],
];

describe("400: a name that no user and no group may have", () => {
  test.each(BAD_NAMES)("%s: %s", async (_what, name) => {
    for (const [method, path] of [
      ["POST", `users/${name}/messages`],
      ["POST", `groups/${name}/messages`],
      ["PUT", `users/${name}/groups/g`],
      ["PUT", `users/ada/groups/${name}`],
      ["PUT", `groups/${name}/connections/${member.connectionId}`],
      ["PUT", `connections/${member.connectionId}/groups/${name}`],
      ["DELETE", `users/${name}/groups`],
      ["GET", `users/${name}/groups/g`],
    ] as const) {
      // An empty last part is a slash at the end, which is the same path without it.
      if (path.endsWith("/")) continue;
      const answer = await stage.call({ method, target: `${HUB}/${path}`, ...(method === "POST" ? LETTER : {}) });
      expect({ method, path, status: answer.status }).toEqual({ method, path, status: 400 });
      expectError(answer, 400);
    }
  });

  test("and HEAD of it has no body", async () => {
    expectError(await stage.call({ method: "HEAD", target: `${HUB}/groups/%zz` }), 400, "HEAD");
  });
});

describe("400: a name that no hub may have", () => {
  test.each([
    "%zz",
    "9chat",
    "-chat",
    "a%20b",
    "a%2Fb",
    "a-b",
    "%C3%A4",
    "chat%00",
    "_other",
    "h".repeat(129),
    "h".repeat(2048),
  ])("%s", async (hub) => {
    expectError(await post(`/ws/api/hubs/${hub}/messages`), 400);
    expectError(await post(`/api/messages?hub=${hub}`), 400);
    expectError(await post(`/ws/api/v1/hubs/${hub}/users/ada`), 400);
  });
});

describe("400: a query that means nothing", () => {
  test.each([
    ["POST", "broadcast", "excluded=%zz"],
    ["POST", "send to group", "excluded=%C3"],
    ["PUT", "add user to group", "ttl=%zz"],
    ["PUT", "add user to group", "ttl=0"],
    ["DELETE", "close connection", "reason=%zz"],
    ["DELETE", "close connection", "reason=%FF"],
  ] as const)("%s %s?%s", async (method, action, query) => {
    const names = { user: "ada", group: "g", connection: member.connectionId };
    const path = target(action, "chat", names, query);
    expectError(await stage.call({ method, target: path, ...(method === "POST" ? LETTER : {}) }), 400);
  });
});

describe("the order of the checks", () => {
  test("405 comes before 401, 400, 415 and 413", async () => {
    const request = { method: "PATCH", target: `${HUB}/users/%zz`, token: null, type: "text/html" };
    expectError(await stage.call({ ...request, body: "x" }), 405);
  });

  test.each([
    ["a malformed name", `${HUB}/users/%zz/messages`],
    ["an empty name", `${HUB}/groups//messages`],
    ["a hub that cannot be", "/ws/api/hubs/9chat/messages"],
    ["a malformed query", `${HUB}/messages?excluded=%zz`],
  ])("401 comes before 400 for %s", async (_what, path) => {
    for (const token of [null, "no token"]) expectError(await post(path, token), 401);
    expectError(await post(path), 400);
  });

  test.each([
    ["a malformed name", `${HUB}/users/%zz/messages`],
    ["a malformed query", `${HUB}/messages?excluded=%zz`],
  ])("400 for %s comes before 415 and 413", async (_what, path) => {
    using caller = await stage.caller();
    caller.begin({ method: "POST", target: path, type: "text/html" }, "Content-Length: 2097152");
    expectError(await caller.answer("POST"), 400);
  });

  test.each([
    ["401", `${HUB}/messages`, null, 401],
    ["415", `${HUB}/messages`, undefined, 415],
  ] as const)("%s comes before 413", async (_what, path, token, status) => {
    using caller = await stage.caller();
    const request = { method: "POST", target: path, type: "text/html" };
    caller.begin(token === null ? { ...request, token } : request, "Content-Length: 2097152");
    expectError(await caller.answer("POST"), status);
  });
});

describe("10,000 excluded values", () => {
  test.each(["broadcast", "send to group"] as const)("of %s harm nobody: 202, or 431", async (action) => {
    const excluded = `excluded=${member.connectionId}`;
    const query = Array.from({ length: 10_000 }, () => excluded).join("&");
    using caller = await stage.caller();
    const path = target(action, "chat", { group: "g" }, query);
    // A server that gives up on the head may answer and leave before it was all sent.
    const status = await caller.call({ method: "POST", target: path, ...LETTER }).then(
      (answer) => answer.status,
      () => 431,
    );
    expect([202, 431]).toContain(status);
  });

  test("as many as fit into a head are honoured", async () => {
    const ids = Array.from({ length: 250 }, (_value, index) => `excluded=no-such-connection-${index}`);
    const other = await stage.member({ user: "bob" });
    const query = [...ids, `excluded=${member.connectionId}`].join("&");
    expectDone(await post(target("broadcast", "chat", {}, query)), 202);
    expect(await stage.received("chat", other)).toEqual([[got("text", LETTER.body)]]);
    other.client.destroy();
  });
});
