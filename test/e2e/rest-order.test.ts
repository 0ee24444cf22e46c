import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { RestClient } from "../support/rest-client.ts";
import { target } from "../support/rest-operations.ts";
import { expectDone, type Member, RestStage } from "../support/rest-stage.ts";

/** PROTOCOL.md, "REST API": messages of one caller reach a connection in their order. */
setDefaultTimeout(60_000);

const MESSAGE_COUNT = 500;

let stage: RestStage;
beforeAll(async () => {
  stage = await RestStage.start();
});
afterAll(async () => {
  await stage.stop();
});

async function send(caller: RestClient, path: string, body: string): Promise<void> {
  expectDone(await caller.call({ method: "POST", target: path, type: "text/plain", body }), 202);
}

async function take(member: Member, count: number): Promise<string[]> {
  const texts: string[] = [];
  for (let index = 0; index < count; index++) texts.push(await member.client.nextText());
  return texts;
}

const numbered = (count: number, prefix = ""): string[] => Array.from({ length: count }, (_value, i) => prefix + i);

test("500 messages of one caller to one connection arrive in their order, none twice, none lost", async () => {
  const member = await stage.member();
  const caller = await stage.caller();
  const path = target("send to connection", "chat", { connection: member.connectionId });
  for (const text of numbered(MESSAGE_COUNT)) await send(caller, path, text);
  expect(await take(member, MESSAGE_COUNT)).toEqual(numbered(MESSAGE_COUNT));
  expect(await stage.received("chat", member)).toEqual([[]]);
  member.client.destroy();
});

test("a caller's sends by connection, user, group and hub, mixed, arrive in the caller's order", async () => {
  const member = await stage.member({ user: "ada", groups: ["g", "h"] });
  const bystander = await stage.member({ user: "bob", groups: ["h"] });
  const caller = await stage.caller();
  const { connectionId: connection } = member;
  const paths = [
    target("send to connection", "chat", { connection }),
    target("broadcast", "chat"),
    "/api/users/ada/messages?hub=chat",
    "/ws/api/v1/hubs/chat/groups/g",
    target("send to group", "chat", { group: "h" }),
    target("broadcast", "chat", {}, `excluded=${bystander.connectionId}`),
    target("send to group", "chat", { group: "h" }, `excluded=${bystander.connectionId}`),
    target("send to user", "chat", { user: "ada" }),
  ];
  // Every path follows every other one, as 1, 3 and 5 are prime to 8.
  const order = [1, 3, 5].flatMap((step) => Array.from({ length: 80 }, (_value, index) => (index * step) % 8));
  for (const [index, which] of order.entries()) await send(caller, paths[which] ?? "", String(index));
  expect(await take(member, order.length)).toEqual(numbered(order.length));
  const forBystander = [...order.entries()].filter(([, which]) => which === 1 || which === 4);
  expect(await take(bystander, forBystander.length)).toEqual(forBystander.map(([index]) => String(index)));
  expect(await stage.received("chat", member, bystander)).toEqual([[], []]);
  for (const { client } of [member, bystander]) client.destroy();
});

test("a caller that waits for each answer keeps its order over changing TCP connections", async () => {
  const member = await stage.member({ user: "ada", groups: ["g"] });
  const callers = [await stage.caller(), await stage.caller(), await stage.caller()];
  const paths = [
    target("send to connection", "chat", { connection: member.connectionId }),
    target("send to group", "chat", { group: "g" }),
  ];
  for (let index = 0; index < 120; index++) {
    const caller = callers[index % 3];
    if (caller !== undefined) await send(caller, paths[index % 2] ?? "", String(index));
  }
  expect(await take(member, 120)).toEqual(numbered(120));
  member.client.destroy();
});

test("callers at once: each one's order is kept for everybody, and nothing is lost", async () => {
  const members = await Promise.all([0, 1, 2, 3].map(() => stage.member({ hub: "crowd", groups: ["g"] })));
  const names = ["a", "b", "c", "d"];
  const callers = await Promise.all(
    names.map(async (name, index) => {
      const caller = await stage.caller();
      const path = index % 2 === 0 ? target("broadcast", "crowd") : target("send to group", "crowd", { group: "g" });
      return { name, caller, path };
    }),
  );
  await Promise.all(
    callers.map(async ({ name, caller, path }) => {
      for (const text of numbered(100, name)) await send(caller, path, text);
    }),
  );
  for (const member of members) {
    const texts = await take(member, 400);
    for (const name of names) expect(texts.filter((text) => text.startsWith(name))).toEqual(numbered(100, name));
    member.client.destroy();
  }
});

test("a change of membership takes effect between two sends, as it was between the calls", async () => {
  const member = await stage.member({ user: "ada" });
  const names = { group: "door", connection: member.connectionId };
  const expected: string[] = [];
  for (let round = 0; round < 50; round++) {
    await stage.send("send to group", "chat", names, `outside ${round}`);
    expect(await stage.ask("PUT", "add connection to group", "chat", names)).toBe(200);
    await stage.send("send to group", "chat", names, `inside ${round}`);
    expected.push(`inside ${round}`);
    expect(await stage.ask("DELETE", "remove connection from group", "chat", names)).toBe(200);
  }
  const [messages] = await stage.received("chat", member);
  expect(messages?.map(({ bytes }) => bytes)).toEqual(expected);
  member.client.destroy();
});

test("small and large, text and binary messages do not overtake each other", async () => {
  const member = await stage.member();
  const path = target("send to connection", "chat", { connection: member.connectionId });
  const sent: string[] = [];
  for (let index = 0; index < 60; index++) {
    const body = `${index}:${"x".repeat(index % 3 === 0 ? 200_000 : index)}`;
    const type = index % 2 === 0 ? "text/plain" : "application/octet-stream";
    expectDone(await stage.call({ method: "POST", target: path, type, body }), 202);
    sent.push(`${index % 2 === 0 ? "text" : "binary"} ${index} ${body.length}`);
  }
  const [messages] = await stage.received("chat", member);
  const seen = messages?.map(({ type, bytes }) => `${type} ${bytes.slice(0, bytes.indexOf(":"))} ${bytes.length}`);
  expect(seen).toEqual(sent);
  member.client.destroy();
});
