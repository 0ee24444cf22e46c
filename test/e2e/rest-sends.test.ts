import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Action, type Names, publishedPaths } from "../support/rest-operations.ts";
import { expectDone, got, type Member, RestStage } from "../support/rest-stage.ts";

/** PROTOCOL.md, "REST API": every send under every published path, text and binary. Names: rest-names.test.ts. */
setDefaultTimeout(60_000);

let stage: RestStage;
beforeAll(async () => {
  stage = await RestStage.start();
});
afterAll(async () => {
  await stage.stop();
});

/** Text that shows a change of encoding, of line ends or of a NUL; bytes that are no UTF-8. */
const PAYLOADS = [
  { type: "text/plain", frame: "text", body: "grüß\u0000 dich\r\n\u{1f600}" },
  { type: "application/octet-stream", frame: "binary", body: Uint8Array.from([0, 255, 13, 10, 128, 192, 1]) },
] as const;

const sends = (...actions: readonly Action[]) =>
  publishedPaths(...actions).flatMap((row) =>
    PAYLOADS.map((payload) => [row.template, payload.frame, row, payload] as const),
  );

/** Four clients of a hub that differ in user and group, and one of another hub that is called the same. */
async function audience(namesHub: boolean) {
  const hub = namesHub ? "chat" : "_default";
  const otherHub = namesHub ? "_default" : "chat";
  const members = {
    target: await stage.member({ hub, user: "ada", groups: ["red"] }),
    sameUser: await stage.member({ hub, user: "ada" }),
    sameGroup: await stage.member({ hub, user: "bob", groups: ["blue", "red"] }),
    stranger: await stage.member({ hub, user: "Ada", groups: ["Red"] }),
  };
  const outsider = await stage.member({ hub: otherHub, user: "ada", groups: ["red"] });
  return {
    hub,
    otherHub,
    members,
    outsider,
    names: { user: "ada", group: "red", connection: members.target.connectionId } satisfies Names,
    leave: () => {
      for (const { client } of [...Object.values(members), outsider]) client.destroy();
    },
  };
}

type MemberName = "target" | "sameUser" | "sameGroup" | "stranger";

const REACHES: Readonly<Partial<Record<Action, readonly MemberName[]>>> = {
  broadcast: ["target", "sameUser", "sameGroup", "stranger"],
  "send to user": ["target", "sameUser"],
  "send to connection": ["target"],
  "send to group": ["target", "sameGroup"],
};

for (const action of Object.keys(REACHES) as Action[]) {
  describe(`${action} reaches exactly those it names, with the very bytes`, () => {
    test.each(sends(action))("%s, %s", async (_template, frame, row, { type, body }) => {
      const { hub, otherHub, members, outsider, names, leave } = await audience(row.namesHub);
      const answer = await stage.call({ method: row.method, target: row.target(hub, names), type, body });
      expectDone(answer, 202);
      const entries = Object.entries(members) as [MemberName, Member][];
      const received = await stage.received(hub, ...entries.map(([, member]) => member));
      for (const [index, [name]] of entries.entries()) {
        const expected = REACHES[action]?.includes(name) === true ? [got(frame, body)] : [];
        expect({ name, messages: received[index] }).toEqual({ name, messages: expected });
      }
      expect(await stage.received(otherHub, outsider)).toEqual([[]]);
      leave();
    });
  });
}

describe("excluded", () => {
  const rows = publishedPaths("broadcast", "send to group").map((row) => [row.action, row.template, row] as const);
  test.each(rows)("%s, %s: those connections get nothing, all others do", async (_action, _template, row) => {
    const { hub, members, names, leave } = await audience(row.namesHub);
    const fourth = await stage.member({ hub, user: "ada", groups: ["red"] });
    const query = `excluded=${members.target.connectionId}&excluded=nobody&excluded=${fourth.connectionId}`;
    const target = row.target(hub, names, query);
    expectDone(await stage.call({ method: "POST", target, type: "text/plain", body: "to the rest" }), 202);
    const received = await stage.received(hub, members.target, fourth, members.sameGroup);
    expect(received).toEqual([[], [], [got("text", "to the rest")]]);
    fourth.client.destroy();
    leave();
  });

  test("does not apply to the next message", async () => {
    const one = await stage.member({ groups: ["later"] });
    const two = await stage.member({ groups: ["later"] });
    const group = { group: "later" };
    await stage.send("send to group", "chat", group, "without one", `excluded=${one.connectionId}`);
    await stage.send("send to group", "chat", group, "both");
    await stage.send("broadcast", "chat", {}, "without two", `excluded=${two.connectionId}`);
    expect(await stage.received("chat", one, two)).toEqual([
      [got("text", "both"), got("text", "without two")],
      [got("text", "without one"), got("text", "both")],
    ]);
    for (const { client } of [one, two]) client.destroy();
  });

  test("of a whole group reaches nobody, and is still 202", async () => {
    const one = await stage.member({ groups: ["empty"] });
    await stage.send("send to group", "chat", { group: "empty" }, "x", `excluded=${one.connectionId}`);
    expect(await stage.received("chat", one)).toEqual([[]]);
    one.client.destroy();
  });
});

describe("a send to somebody who is not there is 202", () => {
  const rows = publishedPaths("broadcast", "send to user", "send to connection", "send to group")
    .filter((row) => !row.template.endsWith("/"))
    .map((row) => [row.template, row] as const);
  test.each(rows)("%s", async (_template, row) => {
    const names = { user: "nobody", group: "nowhere", connection: "no-such-connection-0123456789" };
    const target = row.target("emptyHub", names);
    expectDone(await stage.call({ method: "POST", target, type: "text/plain", body: "hello?" }), 202);
  });
});

describe("types", () => {
  test.each([
    ["text/plain", "text"],
    ["TEXT/Plain", "text"],
    ["text/plain; charset=utf-8", "text"],
    ["text/plain;charset=UTF-8", "text"],
    ['text/plain; charset="utf-8"', "text"],
    ["application/json", "text"],
    ["application/json; charset=utf-8", "text"],
    ["application/octet-stream", "binary"],
    ["Application/Octet-Stream", "binary"],
  ] as const)("%s is sent as a %s message", async (type, frame) => {
    const member = await stage.member();
    const body = '{"ü":"not { valid"';
    const target = `/ws/api/hubs/chat/connections/${member.connectionId}/messages`;
    expectDone(await stage.call({ method: "POST", target, type, body }), 202);
    expect(await stage.received("chat", member)).toEqual([[got(frame, body)]]);
    member.client.destroy();
  });

  test.each(PAYLOADS.map(({ type, frame }) => [type, frame] as const))(
    "an empty body of %s is sent as an empty %s message",
    async (type, frame) => {
      const member = await stage.member();
      for (const part of ["connections", "users", "groups"]) {
        const name = part === "connections" ? member.connectionId : part === "users" ? "somebody" : "void";
        expect(await stage.ask("PUT", "add connection to group", "chat", memberIn("void", member))).toBe(200);
        const target = `/ws/api/hubs/chat/${part}/${name}/messages`;
        expectDone(await stage.call({ method: "POST", target, type, body: "" }), 202);
        expect(await stage.received("chat", member)).toEqual([[got(frame, "")]]);
      }
      member.client.destroy();
    },
  );
});

function memberIn(group: string, member: Member): Names {
  return { group, connection: member.connectionId };
}
