import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { acceptAs } from "../support/raw-backend.ts";
import { target } from "../support/rest-operations.ts";
import { expectError, RestStage } from "../support/rest-stage.ts";
import { connectionIdOf, jsonError, ofConnection, Stack } from "../support/stack.ts";

/** `maxGroupsPerConnection`, by the connect answer and by the API. */
setDefaultTimeout(60_000);

const MAX_GROUPS = 3;
const config = { limits: { maxGroupsPerConnection: MAX_GROUPS } };
const groupLine = (names: readonly string[]): string => `X-ASRS-Connection-Group: ${names.join(", ")}`;

describe("the connect answer", () => {
  test.each([
    ["as many as allowed", ["a", "b", "c"]],
    ["as many, some named twice", ["a", "b", "a", "c", "b"]],
  ])("%s: 101, and a member of each", async (_what, names) => {
    await using stack = await Stack.start({ config });
    stack.backend.onConnect = acceptAs("ada", [groupLine(names)]);
    const { connectionId } = await stack.connect();
    for (const name of new Set(names)) expect(stack.gateway.groupMembers("chat", name)).toEqual([connectionId]);
  });

  test.each([
    ["in one line", [groupLine(["a", "b", "c", "d"])]],
    ["in several", [groupLine(["a", "b"]), groupLine(["c"]), groupLine(["d"])]],
  ])("one more, %s: 502, a member of none, and the disconnect", async (_what, lines) => {
    await using stack = await Stack.start({ config });
    stack.backend.onConnect = acceptAs("ada", lines);
    const answer = await (await stack.request()).answer();
    expect(answer.status).toBe(502);
    expect(jsonError(answer.body)).toMatchObject({ code: "upstream_failed", target: "maxGroupsPerConnection" });
    const connectionId = connectionIdOf(await stack.backend.next("connect"));
    const disconnect = await stack.backend.next("disconnect", ofConnection(connectionId));
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1006");
    expect(disconnect.header("X-Hubwire-Connect-Outcome")).toBeUndefined();
    expect(disconnect.header("X-ASRS-User-Id")).toBe("ada");
    for (const name of ["a", "b", "c", "d"]) expect(stack.gateway.groupMembers("chat", name)).toEqual([]);
  });
});

describe("the API", () => {
  let stage: RestStage;
  beforeAll(async () => {
    stage = await RestStage.start({ config });
  });
  afterAll(async () => {
    await stage.stop();
  });

  const WAYS = ["add connection to group", "add user to group"] as const;

  test.each(WAYS)("%s: one within the limit is done, one more is 409 and changes nothing", async (action) => {
    const user = action.replaceAll(" ", "-");
    const { connectionId: connection } = await stage.member({ user, groups: ["given"] });
    const done = action === "add user to group" ? 202 : 200;
    const fourth = `fourth of ${user}`;
    const names = (group: string) => ({ user, connection, group });
    for (const group of ["second", "third"]) expect(await stage.ask("PUT", action, "chat", names(group))).toBe(done);
    const refused = await stage.call({ method: "PUT", target: target(action, "chat", names(fourth)) });
    expectError(refused, 409);
    expect(jsonError(refused.body)).toMatchObject({ code: "group_limit", target: "maxGroupsPerConnection" });
    expect(stage.stack.gateway.groupMembers("chat", fourth)).toEqual([]);
    // A group that the connection is already in does not count again, and a place that was given back is free.
    expect(await stage.ask("PUT", action, "chat", names("given"))).toBe(done);
    expect(await stage.ask("DELETE", "remove connection from group", "chat", names("given"))).toBe(200);
    expect(await stage.ask("PUT", action, "chat", names(fourth))).toBe(done);
    expect(stage.stack.gateway.groupMembers("chat", fourth)).toEqual([connection]);
    expect(stage.stack.gateway.groupMembers("chat", "given")).toEqual([]);
  });

  test("another connection has its own limit", async () => {
    const first = await stage.member({ user: "ann", groups: ["a", "b", "c"] });
    const second = await stage.member({ user: "bob", groups: ["a", "b"] });
    const put = (connection: string) =>
      stage.ask("PUT", "add connection to group", "chat", { connection, group: "more" });
    expect(await put(first.connectionId)).toBe(409);
    expect(await put(second.connectionId)).toBe(200);
  });
});
