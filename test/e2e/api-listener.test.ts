import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { Gate, within } from "../support/deadline.ts";
import { spelledSends } from "../support/path-spellings.ts";
import type { RawAnswer } from "../support/raw-websocket.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { audienceOf, RestClient, restToken } from "../support/rest-client.ts";
import { publishedPaths, target } from "../support/rest-operations.ts";
import { expectDone, expectError, type Member, RestStage } from "../support/rest-stage.ts";
import { ofConnection } from "../support/stack.ts";

/** `listen.api`: the REST API on a listener of its own. */
setDefaultTimeout(60_000);

const LISTEN = { host: "127.0.0.1", port: 0, api: { host: "127.0.0.1", port: 0 } };
const HEALTH = { method: "GET", target: "/api/health", token: null } as const;
const NAMES = { user: "ada", group: "red", connection: "AAAAAAAAAAAAAAAAAAAAAA" };
const EVERY_PATH = publishedPaths(
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
);

describe("with listen.api", () => {
  let stage: RestStage;
  let member: Member;
  let toClients: RestClient;
  let toApi: RestClient;

  beforeAll(async () => {
    stage = await RestStage.start({ config: { listen: LISTEN } });
    member = await stage.member({ user: "ada" });
  });
  afterAll(() => stage.stop());
  beforeEach(async () => {
    toClients = await RestClient.dial(stage.port);
    toApi = await RestClient.dial(stage.apiPort);
  });
  afterEach(() => {
    toClients.destroy();
    toApi.destroy();
  });

  test("the two listeners have ports of their own", () => {
    expect(stage.apiPort).not.toBe(stage.port);
  });

  test("clients connect to the public listener, and the backend reaches them by the other", async () => {
    const request = { method: "POST", target: target("broadcast", "chat", {}), type: "text/plain", body: "hello" };
    expectDone(await toApi.call(request), 202);
    expect(await member.client.nextText()).toBe("hello");
  });

  test("no spelling of a path sends anything by the public listener; each of them does by the other", async () => {
    const sends = spelledSends(`127.0.0.1:${stage.port}`);
    for (const [number, { target: written, meant }] of sends.entries()) {
      const token = restToken(audienceOf(stage.port, meant));
      const send = (body: string) => ({ method: "POST", target: written, type: "text/plain", body, token });
      expectNothingThere(await toClients.call(send(`by the public listener ${number}`)), "POST");
      expectDone(await toApi.call(send(`by the other ${number}`)), 202);
      expect(await member.client.nextText()).toBe(`by the other ${number}`);
    }
    expect(sends.length).toBeGreaterThan(60);
  });

  test("no random path is an API's path at the public listener; some are at the other", async () => {
    const pieces = [
      "ws",
      "api",
      "client",
      "hubs",
      "chat",
      "messages",
      "v1",
      "..",
      ".",
      "%2e%2e",
      "%2E",
      ";",
      "#",
      "?hub=chat",
    ];
    const seams = ["/", "/", "/", "\\", "//", "%2f", "%5c"];
    const part = fc.tuple(fc.constantFrom(...seams), fc.constantFrom("ws/api/hubs/chat/messages", ...pieces));
    const token = restToken(audienceOf(stage.port, "/ws/api/hubs/chat/messages"));
    const statuses = { clients: new Set<number>(), api: new Set<number>() };
    const send = (parts: readonly (readonly [string, string])[]) => ({
      method: "POST",
      target: `/${parts.flat().slice(1).join("")}`,
      type: "text/plain",
      body: "",
      token,
    });
    await fc.assert(
      fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 8 }), async (parts) => {
        const { status } = await toClients.call(send(parts));
        statuses.clients.add(status);
        // 400 a hub's name or a target of Bun's, 404 nothing there, 426 the client endpoint.
        expect([400, 404, 426]).toContain(status);
        statuses.api.add((await toApi.call(send(parts))).status);
      }),
      { numRuns: 500, seed: 19 },
    );
    for (const status of [404, 426]) expect([...statuses.clients]).toContain(status);
    for (const status of [202, 401, 404]) expect([...statuses.api]).toContain(status);
  });

  test.each(["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"])(
    "%s of every published path is the 404 of a path that is nowhere, with and without a token",
    async (method) => {
      const elsewhere = await toClients.call({ method, target: "/nowhere", token: null });
      for (const path of EVERY_PATH) {
        const request = { method, target: path.target("chat", NAMES) };
        for (const token of [undefined, null]) {
          const answer = await toClients.call({ ...request, ...(token === null ? { token } : {}) });
          expectNothingThere(answer, method);
          expect(answer.body.toString("utf8")).toBe(elsewhere.body.toString("utf8"));
        }
      }
    },
  );

  test("a body that the public listener does not read ends the connection, and nothing of it is taken for a request", async () => {
    const smuggled = `POST ${target("broadcast", "chat", {})} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n`;
    toClients.begin(
      { method: "POST", target: target("broadcast", "chat", {}), type: "text/plain" },
      "Transfer-Encoding: chunked",
    );
    toClients.chunk(smuggled);
    toClients.chunk("");
    expectNothingThere(await toClients.answer("POST"), "POST");
    await toClients.ended();
    expect(toClients.leftover.length).toBe(0);
  });

  test("health is answered by both", async () => {
    for (const caller of [toClients, toApi]) {
      for (const path of ["/api/health", "/api/health/"])
        expectDone(await caller.call({ ...HEALTH, target: path }), 200);
      expectDone(await caller.call({ ...HEALTH, method: "HEAD" }), 200);
      expectError(await caller.call({ ...HEALTH, method: "POST" }), 405);
    }
  });

  test.each([
    "/ws/client",
    "/client",
    "/ws/client/hubs/chat",
    "/client/hubs/chat/",
    "/ws/client?hub=chat",
    "/ws/client/hubs/-",
  ])("a client at the API's listener gets 404, and the backend hears nothing: %s", async (path) => {
    const connects = stage.stack.backend.of("connect").length;
    const client = await RawWebSocket.request({ port: stage.apiPort, path });
    expectNothingThere(await client.answer(), "GET");
    client.destroy();
    expect(stage.stack.backend.of("connect")).toHaveLength(connects);
  });

  test("every published path is there at the API's listener", async () => {
    for (const path of EVERY_PATH) {
      const { status } = await toApi.call({ method: path.method, target: path.target("chat", NAMES), token: null });
      expect([path.template, status]).toEqual([path.template, 401]);
    }
  });
});

describe("publicUrls", () => {
  test("may name the API's host: its tokens are taken, and those for no named host are not", async () => {
    const publicUrls = ["https://clients.example", "http://api.internal:9000"];
    await using stage = await RestStage.start({ config: { listen: LISTEN, publicUrls } });
    const path = target("user exists", "chat", { user: "nobody" });
    using caller = await RestClient.dial(stage.apiPort);
    const statusOf = async (origin: string) =>
      (await caller.call({ method: "GET", target: path, token: restToken(origin + path) })).status;
    expect(await statusOf("http://api.internal")).toBe(404);
    expect(await statusOf("https://clients.example")).toBe(404);
    expect(await statusOf(`http://127.0.0.1:${stage.apiPort}`)).toBe(401);
  });
});

describe("a shutdown", () => {
  test("has health 503 on both, takes calls while it is delayed, and ends both listeners", async () => {
    const shutdown = { delayMs: 2000, spreadMs: 0, drainTimeoutMs: 10_000 };
    await using stage = await RestStage.start({ config: { listen: LISTEN, shutdown } });
    const member = await stage.member();
    using toClients = await RestClient.dial(stage.port);
    using toApi = await RestClient.dial(stage.apiPort);
    for (const caller of [toClients, toApi]) expectDone(await caller.call(HEALTH), 200);
    const stopped = stage.stack.gateway.stop();
    for (const caller of [toClients, toApi]) expectDone(await caller.call(HEALTH), 503);
    const send = { method: "POST", target: target("broadcast", "chat", {}), type: "text/plain", body: "still served" };
    expectDone(await toApi.call(send), 202);
    expect(await member.client.nextText()).toBe("still served");
    expect((await member.client.closed()).code).toBe(1012);
    await within(stopped, "stop()");
    expect([await dialed(stage.port), await dialed(stage.apiPort)]).toEqual(["refused", "refused"]);
  });

  test("lets nobody new in at either while messages are in flight, and answers a call that was under way", async () => {
    await using stage = await RestStage.start({ config: { listen: LISTEN } });
    const { backend, gateway } = stage.stack;
    const [busy, idle] = [await stage.member(), await stage.member()];
    const gate = new Gate();
    backend.onMessage = async (exchange) => {
      await gate.opened;
      exchange.reply(200, [], "answered");
    };
    busy.client.text("question");
    await backend.next("message", ofConnection(busy.connectionId));
    using caller = await RestClient.dial(stage.apiPort);
    const send = { method: "POST", target: target("broadcast", "chat", {}), type: "text/plain" };
    caller.begin(send, "Content-Length: 9");
    caller.write("under ");
    // Calls on another connection, so that the head above has been read by now.
    using other = await RestClient.dial(stage.apiPort);
    for (let call = 0; call < 3; call++) expectDone(await other.call(HEALTH), 200);
    const stopped = gateway.stop();
    expect((await idle.client.closed()).code).toBe(1012);
    expect([await dialed(stage.port), await dialed(stage.apiPort)]).toEqual(["refused", "refused"]);
    caller.write("way");
    expectDone(await caller.answer("POST"), 202);
    expect(await busy.client.nextText()).toBe("under way");
    gate.open();
    expect(await busy.client.nextText()).toBe("answered");
    expect((await busy.client.closed()).code).toBe(1012);
    await within(stopped, "stop()");
  });
});

test("a reload leaves both listeners as they are, and names listen", async () => {
  const publicUrls = ["http://127.0.0.1"];
  await using stage = await RestStage.start({ config: { listen: LISTEN } });
  const { gateway } = stage.stack;
  const member = await stage.member();
  expect(gateway.reload({ publicUrls, listen: { host: "127.0.0.1", port: 0 } })).toEqual(["listen"]);
  using toClients = await RestClient.dial(stage.port);
  const request = { method: "POST", target: target("broadcast", "chat", {}), type: "text/plain", body: "hello" };
  expectNothingThere(await toClients.call(request), "POST");
  expectDone(await stage.call(request), 202);
  expect(await member.client.nextText()).toBe("hello");
});

test("without listen.api both are at one port, as before", async () => {
  await using stage = await RestStage.start();
  const member = await stage.member();
  expect(stage.apiPort).toBe(stage.port);
  await stage.send("broadcast", "chat", {}, "hello");
  expect(await member.client.nextText()).toBe("hello");
});

function expectNothingThere(answer: RawAnswer, method: string): void {
  expectError(answer, 404, method);
  if (method !== "HEAD") expect(JSON.parse(answer.body.toString("utf8"))).toMatchObject({ code: "not_found" });
}

/** Whether somebody listens. */
async function dialed(port: number): Promise<"open" | "refused"> {
  const caller = await RestClient.dial(port).catch(() => null);
  caller?.destroy();
  return caller === null ? "refused" : "open";
}
