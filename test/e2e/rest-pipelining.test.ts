import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { audienceOf, RestClient, restToken } from "../support/rest-client.ts";
import { target } from "../support/rest-operations.ts";
import { got, type Member, RestStage } from "../support/rest-stage.ts";

/** PROTOCOL.md, "Pipelined calls". */
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

let tokenCount = 0;

/** A token that the gateway has not seen before. */
function newToken(path: string): string {
  return restToken(audienceOf(stage.apiPort, path), { jti: String(++tokenCount) });
}

interface PipelinedCall {
  readonly method: string;
  readonly path: string;
  readonly body: string;
  readonly token: string;
}

/** Sends all calls in one segment and reads their statuses. */
async function pipeline(...calls: readonly PipelinedCall[]): Promise<number[]> {
  using caller = await RestClient.dial(stage.apiPort);
  const requests = calls.map(({ method, path, body, token }) =>
    [
      `${method} ${path} HTTP/1.1`,
      `Host: 127.0.0.1:${stage.apiPort}`,
      `Authorization: Bearer ${token}`,
      "Content-Type: text/plain",
      `Content-Length: ${Buffer.byteLength(body)}`,
      "",
      body,
    ].join("\r\n"),
  );
  caller.write(requests.join(""));
  const statuses: number[] = [];
  for (const { method } of calls) statuses.push((await caller.answer(method)).status);
  return statuses;
}

const sends = [
  target("send to connection", "chat", { connection: "nobody" }),
  target("send to user", "chat", { user: "ada" }),
  target("send to group", "chat", { group: "g" }),
  target("broadcast", "chat"),
];

test.each(sends)("POST %s: five calls in one segment are answered, each with a token not seen before", async (path) => {
  const calls = ["1", "2", "3", "4", "5"].map((body) => ({ method: "POST", path, body, token: newToken(path) }));
  expect(await pipeline(...calls)).toEqual([202, 202, 202, 202, 202]);
  const texts = path === sends[0] ? [] : ["1", "2", "3", "4", "5"];
  expect(await stage.received("chat", member)).toEqual([texts.map((text) => got("text", text))]);
});

test("five calls with one token are answered", async () => {
  const path = target("broadcast", "chat");
  const call = { method: "POST", path, body: "again", token: newToken(path) };
  expect(await pipeline(call, call, call, call, call)).toEqual([202, 202, 202, 202, 202]);
  expect((await stage.received("chat", member))[0]).toHaveLength(5);
});

test("questions and changes of connections are answered in a pipeline on a gateway of one node", async () => {
  const { connectionId: connection } = member;
  const names = { connection, user: "ada", group: "g" };
  const calls = [
    ["HEAD", target("connection exists", "chat", names)],
    ["HEAD", target("user exists", "chat", names)],
    ["PUT", target("add connection to group", "chat", { connection, group: "h" })],
    ["DELETE", target("remove connection from group", "chat", { connection, group: "h" })],
    ["HEAD", target("group exists", "chat", names)],
  ] as const;
  const made = calls.map(([method, path]) => ({ method, path, body: "", token: newToken(path) }));
  expect(await pipeline(...made)).toEqual([200, 200, 200, 200, 200]);
});

test("a refused token is answered in its turn", async () => {
  const path = target("broadcast", "chat");
  const good = { method: "POST", path, body: "good", token: newToken(path) };
  const bad = { ...good, token: restToken(audienceOf(stage.apiPort, path), {}, { key: "another" }) };
  expect(await pipeline(good, bad, { ...good, token: newToken(path) })).toEqual([202, 401, 202]);
  expect((await stage.received("chat", member))[0]).toHaveLength(2);
});
