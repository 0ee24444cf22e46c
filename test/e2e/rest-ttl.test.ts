import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { within } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { startGatewayProcess } from "../support/process.ts";
import { RestClient } from "../support/rest-client.ts";
import { publishedPaths, target } from "../support/rest-operations.ts";
import { expectDone, expectError, got, RestStage } from "../support/rest-stage.ts";
import { ofConnection } from "../support/stack.ts";

/** PROTOCOL.md, "REST API": group rules, that is a user's membership with a `ttl`. Each test has a user of its own. */
setDefaultTimeout(60_000);

let stage: RestStage;
beforeAll(async () => {
  stage = await RestStage.start();
});
afterAll(async () => {
  await stage.stop();
});

const put = (user: string, group: string, ttl?: number | string, on: RestStage = stage): Promise<number> =>
  on.ask("PUT", "add user to group", "chat", { user, group }, ttl === undefined ? "" : `ttl=${ttl}`);

const isIn = async (user: string, group: string, on: RestStage = stage): Promise<boolean> => {
  const status = await on.ask("GET", "is the user in the group", "chat", { user, group });
  expect([200, 404]).toContain(status);
  return status === 200;
};

/** Connects the user, sends to the group and tells whether the connection got it. */
async function covers(user: string, group: string, on: RestStage = stage): Promise<boolean> {
  const member = await on.member({ user });
  await on.send("send to group", "chat", { group }, "for members");
  const [messages] = await on.received("chat", member);
  member.client.destroy();
  await on.stack.backend.next("disconnect", ofConnection(member.connectionId));
  if (messages?.length === 0) return false;
  expect(messages).toEqual([got("text", "for members")]);
  return true;
}

describe("a rule covers what the user opens later, under every published path", () => {
  const rows = publishedPaths("add user to group").map((row) => [row.template, row] as const);
  test.each(rows)("%s", async (template, row) => {
    const hub = row.namesHub ? "chat" : "_default";
    const names = { user: `later ${template}`, group: "ruled" };
    const early = await stage.member({ hub, user: names.user });
    expectDone(await stage.call({ method: "PUT", target: row.target(hub, names, "ttl=600") }), 202);
    const late = await stage.member({ hub, user: names.user });
    const stranger = await stage.member({ hub, user: "stranger" });
    await stage.send("send to group", hub, { group: "ruled" }, "both");
    const both = [got("text", "both")];
    expect(await stage.received(hub, early, late, stranger)).toEqual([both, both, []]);
    for (const { client } of [early, late, stranger]) client.destroy();
  });
});

describe("what is asked about a user who is not connected", () => {
  test("a rule makes the user a member; group and user exist by live connections only", async () => {
    const names = { user: "absent", group: "absentees" };
    expect(await put(names.user, names.group, 600)).toBe(202);
    expect(await isIn(names.user, names.group)).toBe(true);
    expect(await stage.ask("GET", "user exists", "chat", names)).toBe(404);
    expect(await stage.ask("HEAD", "group exists", "chat", names)).toBe(404);
    const member = await stage.member({ user: names.user });
    expect(await stage.ask("GET", "user exists", "chat", names)).toBe(200);
    expect(await stage.ask("GET", "group exists", "chat", names)).toBe(200);
    member.client.destroy();
    await stage.stack.backend.next("disconnect", ofConnection(member.connectionId));
    expect(await stage.ask("GET", "group exists", "chat", names)).toBe(404);
    expect(await isIn(names.user, names.group)).toBe(true);
  });

  test("a rule is of its hub (in any case), user and group only", async () => {
    expect(await put("precise", "exact", 600)).toBe(202);
    const ask = (hub: string, user: string, group: string) =>
      stage.ask("GET", "is the user in the group", hub, { user, group });
    expect(await ask("CHAT", "precise", "exact")).toBe(200);
    expect(await ask("_default", "precise", "exact")).toBe(404);
    expect(await ask("chat", "Precise", "exact")).toBe(404);
    expect(await ask("chat", "precise", "Exact")).toBe(404);
  });
});

describe("ttl", () => {
  test.each(["1", "600", "31536000"])("%s is taken", async (ttl) => {
    expect(await put("bounds", `taken ${ttl}`, ttl)).toBe(202);
    expect(await isIn("bounds", `taken ${ttl}`)).toBe(true);
  });

  test.each(["0", "-1", "31536001", "99999999999999999999", "abc", "1.5", "1s", "0x10", "NaN", ""])(
    "%j is 400 and changes nothing",
    async (ttl) => {
      const member = await stage.member({ user: "bounds" });
      expect(await put("bounds", `refused:${ttl}`, ttl)).toBe(400);
      expect(await isIn("bounds", `refused:${ttl}`)).toBe(false);
      member.client.destroy();
    },
  );

  test("that is wrong leaves the rule that is there", async () => {
    expect(await put("steady", "kept", 600)).toBe(202);
    expect(await put("steady", "kept", 0)).toBe(400);
    expect(await isIn("steady", "kept")).toBe(true);
    expect(await covers("steady", "kept")).toBe(true);
  });
});

describe("the end of a rule", () => {
  test("comes after its ttl: it covers nobody, and live connections are no members any more", async () => {
    const live = await stage.member({ user: "brief" });
    const byConnect = await stage.member({ user: "brief", groups: ["short", "other"] });
    const other = await stage.member({ user: "lasting", groups: ["short"] });
    const startedAtMs = performance.now();
    expect(await put("brief", "short", 1)).toBe(202);
    await stage.until(async () => !(await isIn("brief", "short")));
    expect(performance.now() - startedAtMs).toBeGreaterThan(900);
    await stage.send("send to group", "chat", { group: "short" }, "after the end");
    const got1 = [got("text", "after the end")];
    expect(await stage.received("chat", live, byConnect, other)).toEqual([[], [], got1]);
    expect(await isIn("brief", "other")).toBe(true);
    expect(await covers("brief", "short")).toBe(false);
    for (const { client } of [live, byConnect, other]) client.destroy();
  });

  test("is put off by a longer one, and brought forward by a shorter one", async () => {
    const live = await stage.member({ user: "longer" });
    // A live member is one until the rule's end was worked off; without it the answer may come from the time alone.
    const witness = await stage.member({ user: "shorter" });
    expect(await put("longer", "l", 1)).toBe(202);
    expect(await put("longer", "l", 600)).toBe(202);
    expect(await put("shorter", "s", 600)).toBe(202);
    expect(await put("shorter", "s", 1)).toBe(202);
    expect(await isIn("shorter", "s")).toBe(true);
    // The shorter one began last: when it has ended, the first of the longer's would have too.
    await stage.until(async () => !(await isIn("shorter", "s")));
    expect(await isIn("longer", "l")).toBe(true);
    await stage.send("send to group", "chat", { group: "l" }, "still in");
    expect(await stage.received("chat", live)).toEqual([[got("text", "still in")]]);
    expect(await covers("longer", "l")).toBe(true);
    expect(await covers("shorter", "s")).toBe(false);
    for (const { client } of [live, witness]) client.destroy();
  });

  test("comes by a PUT without ttl, which adds the live connections for as long as they live", async () => {
    const live = await stage.member({ user: "plain" });
    expect(await put("plain", "p", 600)).toBe(202);
    expect(await put("plain", "p")).toBe(202);
    expect(await covers("plain", "p")).toBe(false);
    expect(await isIn("plain", "p")).toBe(true);
    await stage.send("send to group", "chat", { group: "p" }, "live");
    expect((await stage.received("chat", live)).at(0)).toContainEqual(got("text", "live"));
    live.client.destroy();
    await stage.stack.backend.next("disconnect", ofConnection(live.connectionId));
    expect(await isIn("plain", "p")).toBe(false);
  });

  test("by a PUT without ttl means that the old ttl removes nobody", async () => {
    const live = await stage.member({ user: "saved" });
    const witness = await stage.member({ user: "clock" });
    expect(await put("saved", "s", 1)).toBe(202);
    expect(await put("saved", "s")).toBe(202);
    expect(await put("clock", "c", 1)).toBe(202);
    await stage.until(async () => !(await isIn("clock", "c")));
    expect(await isIn("saved", "s")).toBe(true);
    await stage.send("send to group", "chat", { group: "s" }, "still in");
    expect(await stage.received("chat", live)).toEqual([[got("text", "still in")]]);
    for (const { client } of [live, witness]) client.destroy();
  });

  const deletes = publishedPaths("remove user from group", "remove user from all groups");
  test.each(deletes.map((row) => [row.template, row] as const))("comes by DELETE %s", async (template, row) => {
    const hub = row.namesHub ? "chat" : "_default";
    const names = { user: `deleted ${template}`, group: "d" };
    const other = { user: `spared ${template}`, group: "d" };
    for (const each of [names, other]) {
      expect(await stage.ask("PUT", "add user to group", hub, each, "ttl=600")).toBe(202);
    }
    const live = await stage.member({ hub, user: names.user });
    const status = row.action === "remove user from group" ? 202 : 200;
    expectDone(await stage.call({ method: "DELETE", target: row.target(hub, names) }), status);
    expect(await stage.ask("GET", "is the user in the group", hub, names)).toBe(404);
    expect(await stage.ask("GET", "is the user in the group", hub, other)).toBe(200);
    const later = await stage.member({ hub, user: names.user });
    await stage.send("send to group", hub, { group: "d" }, "nobody");
    expect(await stage.received(hub, live, later)).toEqual([[], []]);
    for (const { client } of [live, later]) client.destroy();
  });

  test("does not come by DELETE of a connection, which only takes that connection out", async () => {
    expect(await put("firm", "f", 600)).toBe(202);
    const live = await stage.member({ user: "firm" });
    const names = { connection: live.connectionId, group: "f" };
    expect(await stage.ask("DELETE", "remove connection from group", "chat", names)).toBe(200);
    await stage.send("send to group", "chat", { group: "f" }, "not for it");
    expect(await stage.received("chat", live)).toEqual([[]]);
    expect(await isIn("firm", "f")).toBe(true);
    expect(await covers("firm", "f")).toBe(true);
    live.client.destroy();
  });
});

describe("a restart with the same dataDir", () => {
  test("keeps the rules that run, ends those that ran out, and brings back none that was ended", async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "hubwire-rules-"));
    try {
      {
        await using first = await RestStage.start({ config: { dataDir } });
        expect(await put("kept", "k", 600, first)).toBe(202);
        expect(await put("ends", "e", 2, first)).toBe(202);
        expect(await put("ended", "d", 600, first)).toBe(202);
        expect(await put("replaced", "r", 600, first)).toBe(202);
        expect(await put("replaced", "r", 2, first)).toBe(202);
        expect(await first.ask("DELETE", "remove user from all groups", "chat", { user: "ended" })).toBe(200);
      }
      await using second = await RestStage.start({ config: { dataDir } });
      expect(await isIn("kept", "k", second)).toBe(true);
      expect(await covers("kept", "k", second)).toBe(true);
      expect(await isIn("ended", "d", second)).toBe(false);
      await second.until(async () => !(await isIn("ends", "e", second)));
      await second.until(async () => !(await isIn("replaced", "r", second)));
      expect(await covers("ends", "e", second)).toBe(false);
      expect(await isIn("kept", "k", second)).toBe(true);
    } finally {
      await rm(dataDir, { recursive: true, force: true });
    }
  });

  test("after SIGKILL keeps every rule that was answered 202", async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "hubwire-rules-"));
    const config = { dataDir, accessKeys: KEYS };
    const rule = (user: string) => target("add user to group", "chat", { user, group: "g" });
    try {
      {
        await using first = await startGatewayProcess({ through: "bin", config });
        using caller = await RestClient.dial(first.port);
        for (const user of ["one", "two", "gone"]) {
          expectDone(await caller.call({ method: "PUT", target: `${rule(user)}?ttl=600` }), 202);
        }
        expectDone(await caller.call({ method: "DELETE", target: rule("gone") }), 202);
        // The child is the launcher; the gateway is its only child.
        const children = await readFile(`/proc/${first.child.pid}/task/${first.child.pid}/children`, "utf8");
        process.kill(Number(children.trim()), "SIGKILL");
        expect(await within(first.exited, "the gateway's end")).toBe(137);
      }
      await using second = await startGatewayProcess({ through: "bin", config });
      using caller = await RestClient.dial(second.port);
      for (const user of ["one", "two"]) expectDone(await caller.call({ method: "GET", target: rule(user) }), 200);
      expectError(await caller.call({ method: "GET", target: rule("gone") }), 404);
    } finally {
      await rm(dataDir, { recursive: true, force: true });
    }
  });
});
