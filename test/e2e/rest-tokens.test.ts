import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { KEYS } from "../support/gateway.ts";
import type { RawAnswer } from "../support/raw-websocket.ts";
import { audienceOf, restToken } from "../support/rest-client.ts";
import { expectDone, expectError, got, type Member, RestStage } from "../support/rest-stage.ts";
import { jsonError } from "../support/stack.ts";
import { secondsFromNow } from "../support/tokens.ts";

/** PROTOCOL.md, "REST API": a token like a client's, whose `aud` is the URL that is called. */
setDefaultTimeout(60_000);

let stage: RestStage;
let member: Member;
beforeAll(async () => {
  stage = await RestStage.start();
  member = await stage.member();
});
afterAll(async () => {
  await stage.stop();
});

const PATH = "/ws/api/hubs/chat/messages";
const IN_QUERY = "/api/messages?hub=chat";
const host = (): string => `127.0.0.1:${stage.port}`;

/** Broadcasts with the token; what is refused must reach nobody. */
async function broadcast(token: string | null, path = PATH, on = stage): Promise<RawAnswer> {
  return await on.call({ method: "POST", target: path, type: "text/plain", body: "hello", token });
}

async function expectTaken(token: string, path = PATH): Promise<void> {
  expectDone(await broadcast(token, path), 202);
  expect(await stage.received("chat", member)).toEqual([[got("text", "hello")]]);
}

/** Expects 401 with a code, and nothing of key or token in the answer or the log. Returns the code. */
async function expectRefused(token: string | null, path = PATH): Promise<string> {
  const answer = await broadcast(token, path);
  expectError(answer, 401);
  expect(await stage.received("chat", member)).toEqual([[]]);
  const told = answer.head.bytes.toString("latin1") + answer.body.toString("utf8");
  const log = JSON.stringify(stage.stack.gateway.logLines());
  for (const secret of [KEYS.primary, KEYS.secondary, ...(token ?? "").split(".").slice(1)]) {
    // An empty or a short part would be found in any text.
    if (secret.length < 10) continue;
    expect(told).not.toContain(secret);
    expect(log).not.toContain(secret);
  }
  return jsonError(answer.body).code;
}

const good = (claims: Readonly<Record<string, unknown>> = {}): string =>
  restToken(audienceOf(stage.port, PATH), claims);

describe("a token is taken", () => {
  test.each([
    ["signed by the primary key", () => good()],
    ["signed by the secondary key", () => restToken(audienceOf(stage.port, PATH), {}, { key: KEYS.secondary })],
    ["expired 30 s ago: within the leeway", () => good({ exp: secondsFromNow(-30) })],
    ["valid in 30 s: within the leeway", () => good({ nbf: secondsFromNow(30) })],
    ["with further claims", () => good({ sub: "backend", role: ["a"], iat: secondsFromNow(0) })],
    ["with an aud that is a list", () => good({ aud: ["http://other/", audienceOf(stage.port, PATH)] })],
  ])("%s", async (_what, token) => {
    await expectTaken(token());
  });

  test("as often as it is used, on several connections", async () => {
    const token = good();
    const other = await stage.caller();
    for (const _time of [1, 2, 3]) await expectTaken(token);
    const request = { method: "POST", target: PATH, type: "text/plain", body: "hello", token };
    expectDone(await other.call(request), 202);
    expect(await stage.received("chat", member)).toEqual([[got("text", "hello")]]);
  });
});

describe("aud is the request's URL; scheme, port, slash and other parameters do not count", () => {
  test.each([
    ["with the port", () => `http://${host()}${PATH}`, PATH],
    ["without the port", () => `http://127.0.0.1${PATH}`, PATH],
    ["with another port", () => `http://127.0.0.1:1${PATH}`, PATH],
    ["with https", () => `https://${host()}${PATH}`, PATH],
    ["with a trailing slash", () => `http://${host()}${PATH}/`, PATH],
    ["without the request's trailing slash", () => `http://${host()}${PATH}`, `${PATH}/`],
    ["with the whole query", () => `http://${host()}${PATH}?excluded=a&excluded=b`, `${PATH}?excluded=a&excluded=b`],
    ["without the query", () => `http://${host()}${PATH}`, `${PATH}?excluded=a`],
    ["with another query", () => `http://${host()}${PATH}?api-version=1`, PATH],
    ["with the hub in another case", () => `http://${host()}/ws/api/hubs/CHAT/messages`, PATH],
    ["with the host in another case", () => `HTTP://${host()}${PATH}`, PATH],
    ["of the hub in the query", () => `http://${host()}${IN_QUERY}`, IN_QUERY],
    ["of the hub in the query in another case", () => `http://127.0.0.1/api/messages?hub=Chat`, IN_QUERY],
    ["of the hub among other parameters", () => `https://127.0.0.1/api/messages/?a=1&hub=chat&b=2`, IN_QUERY],
    ["of the first preview", () => `http://${host()}/ws/api/v1/hubs/chat`, "/ws/api/v1/hubs/chat/"],
  ])("%s: 202", async (_what, aud, path) => {
    await expectTaken(restToken(aud()), path);
  });

  test.each([
    ["missing", () => undefined, PATH],
    ["empty", () => "", PATH],
    ["an empty list", () => [], PATH],
    ["no URL", () => "chat", PATH],
    ["another host", () => `http://example.com${PATH}`, PATH],
    ["a host that only begins the same", () => `http://127.0.0.1.example.com${PATH}`, PATH],
    ["the host as user name", () => `http://127.0.0.1@example.com${PATH}`, PATH],
    ["another hub", () => `http://${host()}/ws/api/hubs/other/messages`, PATH],
    ["no hub", () => `http://${host()}/ws/api/messages`, PATH],
    ["another hub in the query", () => `http://${host()}/api/messages?hub=other`, IN_QUERY],
    ["no hub, where the request has ?hub=chat", () => `http://${host()}/api/messages`, IN_QUERY],
    ["an empty hub, where the request has ?hub=chat", () => `http://${host()}/api/messages?hub=`, IN_QUERY],
    ["the hub in a fragment", () => `http://${host()}/api/messages#?hub=chat`, IN_QUERY],
    ["another path", () => `http://${host()}/ws/api/hubs/chat/users/a/messages`, PATH],
    ["a path that goes on", () => `http://${host()}${PATH}/more`, PATH],
    ["a path that ends earlier", () => `http://${host()}/ws/api/hubs/chat`, PATH],
    ["the same operation's other path", () => `http://${host()}${IN_QUERY}`, PATH],
    ["the host alone", () => `http://${host()}/`, PATH],
    ["a client endpoint", () => `http://${host()}/ws/client/hubs/chat`, PATH],
    ["the later client endpoint", () => `http://${host()}/client/hubs/chat`, PATH],
  ])("%s: 401", async (_what, aud, path) => {
    await expectRefused(restToken(aud()), path);
  });

  test("with a hub, where the request has none: 401", async () => {
    await expectRefused(restToken(`http://${host()}/api/messages?hub=chat`), "/api/messages");
  });

  test("of one user's path does not open another's, however the name is written", async () => {
    const audience = audienceOf(stage.port, "/ws/api/hubs/chat/users/a/messages");
    for (const name of ["b", "A", "a%2Fb", "%61b"]) {
      await expectRefused(restToken(audience), `/ws/api/hubs/chat/users/${name}/messages`);
    }
  });
});

describe("a token is refused", () => {
  const audience = (): string => audienceOf(stage.port, PATH);
  test.each([
    ["missing", () => null],
    ["empty", () => ""],
    ["no JWT", () => "abc"],
    ["signed by another key", () => restToken(audience(), {}, { key: "another key" })],
    ["expired two minutes ago", () => good({ exp: secondsFromNow(-120) })],
    ["without exp", () => good({ exp: undefined })],
    ["with an exp that is text", () => good({ exp: String(secondsFromNow(600)) })],
    ["valid in ten minutes", () => good({ nbf: secondsFromNow(600) })],
    ["alg none", () => restToken(audience(), {}, { alg: "none" })],
    ["HS512", () => restToken(audience(), {}, { alg: "HS512" })],
    ["with its signature cut off", () => `${good().split(".").slice(0, 2).join(".")}.`],
    ["with a claim changed after signing", () => tampered(good())],
  ])("%s: 401", async (_what, token) => {
    await expectRefused(token());
  });

  test("with codes that tell expiry, signature and audience apart", async () => {
    const codes = [
      await expectRefused(null),
      await expectRefused(good({ exp: secondsFromNow(-120) })),
      await expectRefused(restToken(audience(), {}, { key: "another key" })),
      await expectRefused(restToken(`http://${host()}/ws/api/hubs/other/messages`)),
    ];
    expect(new Set(codes).size).toBe(codes.length);
  });

  test("after its exp though it was taken before", async () => {
    // 57 s into the leeway of 60: taken now, refused in at most a few seconds, cached or not.
    const token = good({ exp: secondsFromNow(-57) });
    expectDone(await broadcast(token), 202);
    await stage.until(async () => (await broadcast(token)).status === 401);
    await stage.received("chat", member);
    await expectRefused(token);
  });

  test("under a scheme that is not Bearer, and taken with Bearer in any case", async () => {
    const request = { method: "POST", target: PATH, type: "text/plain", body: "hello", token: null };
    expectError(await stage.call({ ...request, lines: [`Authorization: Basic ${good()}`] }), 401);
    expect(await stage.received("chat", member)).toEqual([[]]);
    expectDone(await stage.call({ ...request, lines: [`Authorization: bearer ${good()}`] }), 202);
    await stage.received("chat", member);
  });
});

function tampered(token: string): string {
  const [head = "", payload = "", signature = ""] = token.split(".");
  const claims = { ...JSON.parse(Buffer.from(payload, "base64url").toString("utf8")), sub: "root" };
  return [head, Buffer.from(JSON.stringify(claims)).toString("base64url"), signature].join(".");
}

describe("one door's token does not open the other", () => {
  test("a client's token is no REST token", async () => {
    await expectRefused(restToken(`http://${host()}/ws/client/hubs/chat`, { sub: "ada" }));
  });

  test("a REST token is no client's token", async () => {
    const token = restToken(audienceOf(stage.port, PATH), { sub: "ada" });
    const client = await stage.stack.request({ path: `/ws/client/hubs/chat?access_token=${token}` });
    expect((await client.answer()).status).toBe(401);
    client.destroy();
  });
});

describe("publicUrls", () => {
  test("are the only hosts that count: the request's Host does not", async () => {
    const publicUrls = ["https://hub.example.com", "http://other.example:8443/"];
    await using own = await RestStage.start({ config: { publicUrls } });
    const status = async (aud: string): Promise<number> => (await broadcast(restToken(aud), PATH, own)).status;
    expect(await status(`https://hub.example.com${PATH}`)).toBe(202);
    expect(await status(`http://HUB.example.com:8080${PATH}/`)).toBe(202);
    expect(await status(`http://other.example${PATH}`)).toBe(202);
    expect(await status(`http://127.0.0.1:${own.port}${PATH}`)).toBe(401);
    expect(await status(`https://hub.example.com.evil.example${PATH}`)).toBe(401);
    expect(await status(`https://sub.hub.example.com${PATH}`)).toBe(401);
    expect(await status(`https://hub.example.com/ws/api/hubs/other/messages`)).toBe(401);
  });
});

describe("health needs no token", () => {
  test.each(["GET", "HEAD"])("%s /api/health: 200", async (method) => {
    expect((await stage.call({ method, target: "/api/health", token: null })).status).toBe(200);
  });
});
