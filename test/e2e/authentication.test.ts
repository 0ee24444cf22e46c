import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { KEYS } from "../support/gateway.ts";
import type { ClientOptions, RawAnswer } from "../support/raw-websocket.ts";
import { jsonError, Stack } from "../support/stack.ts";
import { secondsFromNow, signRsaToken, signToken } from "../support/tokens.ts";

/** PROTOCOL.md, "Authentication of the client": anonymous clients and tokens. Certificates: certificates.test.ts. */
setDefaultTimeout(60_000);

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start();
});
afterAll(async () => {
  await stack.stop();
});

type Claims = Readonly<Record<string, unknown>>;

const audience = (hub = "chat"): string => `http://127.0.0.1:${stack.port}/ws/client/hubs/${hub}`;

/** Claims that open the hub `chat`, with changes; `undefined` leaves a claim out. */
const claims = (changes: Claims = {}): Claims => ({
  sub: "alice",
  aud: audience(),
  exp: secondsFromNow(600),
  ...changes,
});

const good = (changes: Claims = {}): string => signToken(claims(changes), { key: KEYS.primary });

async function ask(options: Omit<ClientOptions, "port">, through: Stack = stack): Promise<RawAnswer> {
  const client = await through.request(options);
  try {
    return await client.answer();
  } finally {
    client.destroy();
  }
}

const withToken = (token: string, path = "/ws/client/hubs/chat"): Promise<RawAnswer> =>
  ask({ path: `${path}?access_token=${token}` });

/** Expects 401 in the JSON form, and that the upstream was not asked. */
async function expectUnauthorized(answer: RawAnswer, connectsBefore: number): Promise<void> {
  expect(answer.status).toBe(401);
  jsonError(answer.body);
  await stack.cycle();
  expect(stack.backend.of("connect", (request) => !request.target.includes("/cycle/")).length).toBe(connectsBefore);
}

const connectCount = (): number => stack.backend.of("connect", (r) => !r.target.includes("/cycle/")).length;

describe("anonymous clients", () => {
  test.each([
    [{}, "/ws/client/hubs/chat", 101],
    [{ anonymous: "deny" }, "/ws/client/hubs/chat", 401],
    [{ anonymous: "deny", hubs: { chat: { anonymous: "allow" } } }, "/ws/client/hubs/CHAT", 101],
    [{ hubs: { closed: { anonymous: "deny" } } }, "/ws/client/hubs/closed", 401],
    [{ hubs: { closed: { anonymous: "deny" } } }, "/ws/client/hubs/CLOSED", 401],
    [{ hubs: { Closed: { anonymous: "deny" } } }, "/ws/client?hub=closed", 401],
    [{ hubs: { _default: { anonymous: "deny" } } }, "/ws/client", 401],
    [{ hubs: { closed: { anonymous: "deny" } } }, "/ws/client/hubs/chat", 101],
  ])("%j, %s: %d", async (config, path, status) => {
    await using own = await Stack.start({ config });
    const answer = await ask({ path }, own);
    expect(answer.status).toBe(status);
    if (status === 401) jsonError(answer.body);
    expect(own.backend.of("connect").length).toBe(status === 101 ? 1 : 0);
  });

  test("a hub that denies them lets a token in", async () => {
    await using own = await Stack.start({ config: { anonymous: "deny" } });
    const aud = `http://127.0.0.1:${own.port}/client/hubs/chat`;
    const token = signToken(claims({ aud }), { key: KEYS.primary });
    expect((await ask({ path: `/client/hubs/chat?access_token=${token}` }, own)).status).toBe(101);
  });
});

describe("a token is taken", () => {
  test.each([
    ["signed by the primary key", () => signToken(claims(), { key: KEYS.primary })],
    ["signed by the secondary key", () => signToken(claims(), { key: KEYS.secondary })],
    ["expired 30 s ago: within the leeway", () => good({ exp: secondsFromNow(-30) })],
    ["valid in 30 s: within the leeway", () => good({ nbf: secondsFromNow(30) })],
    ["with an nbf that is past", () => good({ nbf: secondsFromNow(-600) })],
    ["without typ in its header", () => signToken(claims(), { key: KEYS.primary, header: { typ: undefined } })],
    ["with a kid in its header", () => signToken(claims(), { key: KEYS.primary, header: { kid: "1234" } })],
  ])("%s", async (_what, token) => {
    expect((await withToken(token())).status).toBe(101);
  });

  test("from the Authorization header as well", async () => {
    expect((await ask({ lines: [`Authorization: Bearer ${good()}`] })).status).toBe(101);
  });

  test("from a pair whose name is written access%5Ftoken, which then is stripped", async () => {
    const path = `/ws/client/hubs/chat?a=1&access%5Ftoken=${good({ sub: "percent" })}&b=2`;
    expect((await ask({ path })).status).toBe(101);
    const connect = await stack.backend.next("connect", (r) => r.head.all("x-asrs-user-id").includes("percent"));
    expect(connect.header("X-ASRS-Client-Query")).toBe("a=1&b=2");
    expect(connect.head.bytes.toString("latin1")).not.toContain("access");
  });
});

describe("aud", () => {
  const host = (): string => `127.0.0.1:${stack.port}`;
  test.each([
    ["http with the port", () => `http://${host()}/ws/client/hubs/chat`],
    ["without the port", () => "http://127.0.0.1/ws/client/hubs/chat"],
    ["another port", () => "http://127.0.0.1:1/ws/client/hubs/chat"],
    ["https", () => `https://${host()}/ws/client/hubs/chat`],
    ["ws", () => `ws://${host()}/ws/client/hubs/chat`],
    ["wss", () => `wss://${host()}/ws/client/hubs/chat`],
    ["a trailing slash", () => `http://${host()}/ws/client/hubs/chat/`],
    ["the later path", () => `http://${host()}/client/hubs/chat`],
    ["the hub in the query", () => `http://${host()}/ws/client?hub=chat`],
    ["the hub in the query as hubs", () => `http://${host()}/client/?hubs=chat`],
    ["other query parameters", () => `http://${host()}/ws/client/hubs/chat?a=1&hub=other`],
    ["another case of the hub", () => `http://${host()}/ws/client/hubs/CHAT`],
    ["a list that holds it", () => ["http://elsewhere.example/", `http://${host()}/ws/client/hubs/chat`]],
  ])("%s names the endpoint", async (_what, aud) => {
    expect((await withToken(good({ aud: aud() }))).status).toBe(101);
    expect((await withToken(good({ aud: aud() }), "/client/hubs/Chat")).status).toBe(101);
  });

  test.each([
    ["another host", () => "http://elsewhere.example/ws/client/hubs/chat"],
    ["another hub", () => audience("other")],
    ["no hub, which is _default", () => `http://${host()}/ws/client`],
    ["an empty hub in the query", () => `http://${host()}/ws/client?hub=`],
    ["another path", () => `http://${host()}/ws/api/hubs/chat`],
    ["a path below", () => `http://${host()}/ws/client/hubs/chat/more`],
    ["another scheme", () => `ftp://${host()}/ws/client/hubs/chat`],
    ["no URL", () => "chat"],
    ["empty", () => ""],
    ["an empty list", () => []],
    ["a number", () => 7],
    ["none", () => undefined],
    ["a user in front of the host", () => `http://127.0.0.1@elsewhere.example/ws/client/hubs/chat`],
  ])("%s does not: 401", async (_what, aud) => {
    const before = connectCount();
    await expectUnauthorized(await withToken(good({ aud: aud() })), before);
  });

  test("a token for _default opens /ws/client and no other hub", async () => {
    const token = good({ aud: `http://${host()}/ws/client` });
    expect((await withToken(token, "/ws/client")).status).toBe(101);
    expect((await withToken(token, "/client/hubs/_default")).status).toBe(101);
    expect((await withToken(token)).status).toBe(401);
  });

  test("with publicUrls only their hosts count, not the Host header", async () => {
    await using own = await Stack.start({ config: { publicUrls: ["https://chat.example", "wss://other.example/"] } });
    const path = (aud: string): string => `/ws/client/hubs/chat?access_token=${good({ aud })}`;
    const options = (aud: string, host: string): Omit<ClientOptions, "port"> => ({
      path: path(aud),
      without: ["host"],
      lines: [`Host: ${host}`],
    });
    const told = "https://chat.example/ws/client/hubs/chat";
    expect((await ask(options(told, "anything.example"), own)).status).toBe(101);
    expect((await ask(options("http://OTHER.example/client/hubs/chat", "x"), own)).status).toBe(101);
    const evil = "http://evil.example/ws/client/hubs/chat";
    expect((await ask(options(evil, "evil.example"), own)).status).toBe(401);
    expect((await ask(options(audience(), `127.0.0.1:${own.port}`), own)).status).toBe(401);
    expect(own.backend.of("connect").length).toBe(2);
  });
});

describe("a token is refused with 401 before any upstream call", () => {
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ type: "pkcs8", format: "pem" });
  test.each([
    ["expired 90 s ago", () => good({ exp: secondsFromNow(-90) })],
    ["no exp", () => good({ exp: undefined })],
    ["an exp that is no number", () => good({ exp: "tomorrow" })],
    ["valid in 90 s", () => good({ nbf: secondsFromNow(90) })],
    ["alg none", () => signToken(claims(), { key: "", alg: "none" })],
    ["alg None", () => signToken(claims(), { key: KEYS.primary, alg: "None" })],
    [
      "alg none with a good HMAC behind",
      () => `${signToken(claims(), { key: "", alg: "none" })}${good().split(".")[2]}`,
    ],
    ["HS512", () => signToken(claims(), { key: KEYS.primary, alg: "HS512" })],
    ["HS384", () => signToken(claims(), { key: KEYS.primary, alg: "HS384" })],
    ["RS256 in the header, HMAC below", () => signToken(claims(), { key: KEYS.primary, alg: "RS256" })],
    ["truly RS256", () => signRsaToken(claims(), String(rsa))],
    ["another key", () => signToken(claims(), { key: "another" })],
    ["the key decoded from base64", () => signToken(claims(), { key: Buffer.from(KEYS.primary, "base64").toString() })],
    ["an empty key", () => signToken(claims(), { key: "" })],
    ["a changed payload", () => swapPayload(good(), JSON.stringify(claims({ sub: "root" })))],
    ["two parts", () => good().split(".").slice(0, 2).join(".")],
    ["four parts", () => `${good()}.x`],
    ["no JSON", () => signToken("not json", { key: KEYS.primary })],
    ["a JSON list", () => signToken("[1]", { key: KEYS.primary })],
    ["nonsense", () => "nonsense"],
    ["empty", () => ""],
    ["a crit header", () => signToken(claims(), { key: KEYS.primary, header: { crit: ["x"], x: 1 } })],
  ])("%s", async (_what, token) => {
    const before = connectCount();
    await expectUnauthorized(await withToken(token()), before);
  });

  test("two tokens, even good ones, even the same one", async () => {
    const before = connectCount();
    const token = good();
    const lines = [`Authorization: Bearer ${token}`];
    const path = "/ws/client/hubs/chat";
    for (const options of [
      { path: `${path}?access_token=${token}`, lines },
      { path: `${path}?access_token=${token}&access_token=${token}` },
      { path: `${path}?access_token=${token}&access%5ftoken=` },
      { path: `${path}?access_token=`, lines },
      { path, lines: [...lines, ...lines] },
    ]) {
      await expectUnauthorized(await ask(options), before);
    }
  });

  test("an empty or broken Authorization header, and access%5Ftoken with a bad token", async () => {
    const before = connectCount();
    for (const options of [
      { lines: ["Authorization: Bearer "] },
      { lines: ["Authorization: Bearer nonsense"] },
      { lines: [`Authorization: Bearer ${good()} ${good()}`] },
      { path: "/ws/client/hubs/chat?access%5Ftoken=nonsense" },
      { path: "/ws/client/hubs/chat?%61ccess_token=" },
      { path: "/ws/client/hubs/chat?access_token" },
    ]) {
      await expectUnauthorized(await ask(options), before);
    }
  });

  test("a token with an invalid user id: 400", async () => {
    for (const sub of [" alice", "alice ", "a\u0000b", "a\r\nX-ASRS-Hub: b", "u".repeat(513)]) {
      const answer = await withToken(good({ sub }));
      expect(answer.status).toBe(400);
      jsonError(answer.body);
    }
  });
});

test("a connection stays open when its token expires", async () => {
  // Within the leeway this token has expired already.
  const client = await stack.open({ path: `/ws/client/hubs/chat?access_token=${good({ exp: secondsFromNow(-50) })}` });
  client.text("still");
  expect(await client.nextText()).toBe("still");
});

function swapPayload(token: string, payload: string): string {
  const [header, , signature] = token.split(".");
  return `${header}.${Buffer.from(payload).toString("base64url")}.${signature}`;
}

test.each([
  ["next to another scheme", ["Authorization: Basic eDp5", "Authorization: Bearer not.a.token"]],
  ["behind a tab", ["Authorization: Bearer\tnot.a.token"]],
])("a bearer token %s is looked at: nobody gets in as nobody with it", async (_where, lines) => {
  await using stack = await Stack.start();
  const client = await stack.request({ lines });
  expect((await client.answer()).status).toBe(401);
  expect(stack.backend.requests).toEqual([]);
});
