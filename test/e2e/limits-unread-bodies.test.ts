import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { once } from "node:events";
import { connect } from "node:net";
import { DEADLINE_MS, within } from "../support/deadline.ts";
import type { RestRequest } from "../support/rest-client.ts";
import { expectDone, type Member, RestStage } from "../support/rest-stage.ts";

/** Requests that are answered without their body being read: hubwire must not go on reading the rest of it without a bound. */
setDefaultTimeout(60_000);

const HUB = "/ws/api/hubs/chat";
/** The longest announced body that is taken in after its answer; the connection can be used again then. */
const DRAINED_BYTES = 65_536;

let stage: RestStage;
let member: Member;
beforeAll(async () => {
  stage = await RestStage.start({ config: { limits: { maxMessageBytes: 100 } } });
  member = await stage.member({ user: "ada" });
});
afterAll(async () => {
  await stage.stop();
});

const ROWS: readonly (readonly [number, string, RestRequest])[] = [
  [404, "an unknown path below the API", { method: "POST", target: `${HUB}/nonsense` }],
  [404, "any other path", { method: "POST", target: "/upload" }],
  [405, "a method that the path does not take", { method: "PATCH", target: `${HUB}/messages` }],
  [401, "no token", { method: "POST", target: `${HUB}/messages`, type: "text/plain", token: null }],
  [400, "an invalid name", { method: "POST", target: `${HUB}/users/%zz/messages`, type: "text/plain" }],
  [415, "a type that is not one of the three", { method: "POST", target: `${HUB}/messages`, type: "text/html" }],
  [202, "an operation that has no body", { method: "PUT", target: `${HUB}/users/ada/groups/red` }],
  [200, "health", { method: "GET", target: "/api/health", token: null }],
  [405, "health by POST", { method: "POST", target: "/api/health", token: null }],
  [426, "the client endpoint by POST", { method: "POST", target: "/ws/client", token: null }],
  [400, "the client endpoint with an invalid hub name", { method: "POST", target: "/ws/client/hubs/1", token: null }],
];

describe.each(ROWS)("%d for %s", (status, _what, request) => {
  test.each(["Transfer-Encoding: chunked", `Content-Length: ${DRAINED_BYTES + 1}`])(
    "ends the connection where an unread body may be long (%s)",
    async (framing) => {
      using caller = await stage.caller();
      caller.begin(request, framing);
      const answer = await caller.answer(request.method);
      expect(answer.status).toBe(status);
      expect(answer.head.all("connection").map((value) => value.toLowerCase())).toEqual(["close"]);
      await caller.ended();
    },
  );

  test("keeps the connection where it is short, and takes the body for no request", async () => {
    using caller = await stage.caller();
    caller.begin(request, `Content-Length: ${DRAINED_BYTES}`);
    const answer = await caller.answer(request.method);
    expect(answer.status).toBe(status);
    expect(answer.head.all("connection")).not.toContain("close");
    const smuggled = "POST /api/messages HTTP/1.1\r\n\r\n";
    caller.write(smuggled.repeat(DRAINED_BYTES / smuggled.length + 1).slice(0, DRAINED_BYTES));
    caller.begin({ method: "GET", target: `${HUB}/users/ada` }, "X-Next: yes");
    expect((await caller.answer("GET")).status).toBe(200);
  });
});

test("a body that goes on after its answer is soon not taken any more", async () => {
  const socket = connect({ host: "127.0.0.1", port: stage.port });
  await within(once(socket, "connect"), "the TCP connection");
  const over = new Promise<void>((resolve) => {
    for (const end of ["end", "close", "error"]) socket.on(end, () => resolve());
  });
  let isOver = false;
  void over.then(() => {
    isOver = true;
  });
  socket.write(`POST ${HUB}/messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n`);
  const chunk = `10000\r\n${"x".repeat(65_536)}\r\n`;
  // 256 MiB: far beyond what the kernel holds.
  for (let sent = 0; sent < 4096 && !isOver; sent++) {
    await Promise.race([new Promise<void>((resolve) => socket.write(chunk, () => resolve())), over]);
  }
  expect(isOver).toBeTrue();
  socket.destroy();
});

test("a message that was read to its end keeps the connection, however it was sent", async () => {
  using caller = await stage.caller();
  const request = { method: "POST", target: `${HUB}/messages`, type: "text/plain" };
  for (let round = 0; round < 2; round++) {
    expectDone(await caller.call({ ...request, body: "sized" }), 202);
    caller.begin(request, "Transfer-Encoding: chunked");
    caller.chunk("chunked");
    caller.chunk("");
    const answer = await caller.answer("POST");
    expectDone(answer, 202);
    expect(answer.head.all("connection")).not.toContain("close");
  }
  const texts: string[] = [];
  for (let index = 0; index < 4; index++) texts.push(await member.client.nextText());
  expect(texts).toEqual(["sized", "chunked", "sized", "chunked"]);
});

test("a connection on which nothing comes after an answer is closed, also where a body was waited for", async () => {
  const requests: readonly [RestRequest, number][] = [
    [{ method: "GET", target: "/api/health", token: null }, 200],
    [{ method: "POST", target: `${HUB}/users/nobody/messages`, type: "text/plain", body: "a message" }, 202],
  ];
  await using own = await RestStage.start({ config: { listen: { port: 0, keepAliveMs: 1000 } } });
  await Promise.all(
    requests.map(async ([request, status]) => {
      const caller = await own.caller();
      expect((await caller.call(request)).status).toBe(status);
      await caller.ended(3 * DEADLINE_MS);
    }),
  );
});
