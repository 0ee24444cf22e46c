import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { within } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { acknowledge, type Exchange, RawBackend, unusedPort } from "../../test/support/raw-backend.ts";
import {
  connectEvent,
  disconnectEvent,
  messageEvent,
  startUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import type { UpstreamAuth } from "../config/schema.ts";
import { isFitForSecrets } from "./oauth2.ts";

let backend: RawBackend;
let tokenServer: RawBackend;

beforeEach(async () => {
  backend = await RawBackend.start();
  backend.onConnect = acknowledge;
  tokenServer = await RawBackend.start();
});

afterEach(async () => {
  await backend.stop();
  await tokenServer.stop();
});

function replyJson(exchange: Exchange, body: object, status = 200): void {
  exchange.reply(status, ["Content-Type: application/json"], JSON.stringify(body));
}

/** Issues `token-0`, `token-1` and so on. */
function issueTokens(fields: object): void {
  tokenServer.onOther = (exchange) =>
    replyJson(exchange, { access_token: `token-${exchange.request.ordinal}`, token_type: "Bearer", ...fields });
}

const entryOf = (auth: UpstreamAuth) => upstreamEntry(`${backend.url}/{event}`, { auth });
const authorizations = () => backend.requests.map((request) => request.header("Authorization"));

test("every request has the static headers, before those of the event", async () => {
  const auth: UpstreamAuth = { type: "headers", headers: { "X-Api-Key": "k3y", Authorization: "Basic abc" } };
  await using upstream = startUpstream([entryOf(auth)]);
  await upstream.call(connectEvent());
  await upstream.call(messageEvent());
  for (const request of backend.requests) {
    expect(request.header("X-Api-Key")).toBe("k3y");
    expect(request.header("Authorization")).toBe("Basic abc");
    expect(request.head.names.indexOf("X-Api-Key")).toBeLessThan(request.head.names.indexOf("X-ASRS-Hub"));
  }
});

test("a static User-Agent takes the place of hubwire's in every request", async () => {
  await using upstream = startUpstream([entryOf({ type: "headers", headers: { "user-agent": "own/1" } })]);
  for (const event of [connectEvent(), messageEvent(), disconnectEvent()]) await upstream.call(event);
  expect(backend.requests.map(({ head }) => head.all("user-agent"))).toEqual(new Array(3).fill(["own/1"]));
});

test("with type none there is no Authorization", async () => {
  await using upstream = startUpstream([entryOf({ type: "none" })]);
  await upstream.call(connectEvent());
  expect(authorizations()).toEqual([undefined]);
});

describe("OAuth2 client credentials", () => {
  const oauth2 = (over: object = {}): UpstreamAuth => ({
    type: "oauth2",
    tokenUrl: `${tokenServer.url}/oauth/token?tenant=7`,
    clientId: "gate way",
    clientSecret: "s3cr:et",
    scope: "a b",
    ...over,
  });

  test("asks the token server as RFC 6749 says, once for many calls", async () => {
    issueTokens({ expires_in: 3600 });
    await using upstream = startUpstream([entryOf(oauth2())]);
    await Promise.all([upstream.call(connectEvent()), upstream.call(messageEvent()), upstream.call(disconnectEvent())]);
    expect(authorizations()).toEqual(["Bearer token-0", "Bearer token-0", "Bearer token-0"]);
    expect(tokenServer.requests).toHaveLength(1);
    const [asked] = tokenServer.requests;
    expect(asked?.method).toBe("POST");
    expect(asked?.target).toBe("/oauth/token?tenant=7");
    expect(asked?.head.all("authorization")).toEqual([`Basic ${btoa("gate+way:s3cr%3Aet")}`]);
    expect(asked?.head.all("content-type").join()).toMatch(/^application\/x-www-form-urlencoded/);
    const form = new URLSearchParams(asked?.body.toString());
    expect(Object.fromEntries(form)).toEqual({ grant_type: "client_credentials", scope: "a b" });
  });

  test("takes nothing for a token that comes unasked, and asks again over another connection", async () => {
    const clock = new FakeClock();
    const closed = Promise.withResolvers<unknown>();
    let speak = () => {};
    tokenServer.onOther = (exchange) => {
      const reply = (token: string) => {
        const body = { access_token: token, token_type: "Bearer", expires_in: 100 };
        // A token server knows of no events: the header means nothing there.
        exchange.reply(200, ["X-Hubwire-Event-Id: another"], JSON.stringify(body));
      };
      reply(`asked-${exchange.request.ordinal}`);
      speak = () => reply("unasked");
      void exchange.callerGone.then(closed.resolve);
    };
    await using upstream = startUpstream([entryOf(oauth2())], { clock });
    await upstream.call(connectEvent());
    speak();
    await within(closed.promise, "the connection to be closed");
    clock.advanceSync(100_000);
    await upstream.call(connectEvent());
    expect(authorizations()).toEqual(["Bearer asked-0", "Bearer asked-1"]);
  });

  test("asks for no scope where none is configured", async () => {
    issueTokens({ expires_in: 3600 });
    await using upstream = startUpstream([entryOf(oauth2({ scope: null }))]);
    await upstream.call(connectEvent());
    expect(tokenServer.requests[0]?.body.toString()).toBe("grant_type=client_credentials");
  });

  test("uses a new token once the old one has ended", async () => {
    const clock = new FakeClock();
    issueTokens({ expires_in: 100 });
    await using upstream = startUpstream([entryOf(oauth2())], { clock });
    await upstream.call(connectEvent());
    clock.advanceSync(100_000);
    await upstream.call(connectEvent());
    expect(authorizations()).toEqual(["Bearer token-0", "Bearer token-1"]);
  });

  test("gets a new token after a 401, which it hands on as the answer that it is", async () => {
    const clock = new FakeClock();
    issueTokens({ expires_in: 3600 });
    backend.onMessage = (exchange) => exchange.reply(401);
    await using upstream = startUpstream([entryOf(oauth2())], { clock });
    await upstream.call(connectEvent());
    clock.advanceSync(60_000);
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 401 });
    await upstream.call(connectEvent());
    expect(authorizations()).toEqual(["Bearer token-0", "Bearer token-0", "Bearer token-1"]);
  });

  test.each([
    ["answers with an error", (exchange: Exchange) => replyJson(exchange, { error: "invalid_client" }, 401), "401"],
    ["answers without a token", (exchange: Exchange) => replyJson(exchange, { token_type: "Bearer" }), "no token"],
    ["answers with no JSON", (exchange: Exchange) => exchange.reply(200, [], "s3cr:et"), "no token"],
    ["answers with a redirect", (exchange: Exchange) => exchange.reply(302, ["Location: /x"]), "no token"],
    ["hangs up", (exchange: Exchange) => exchange.reset(), "ECONNRESET"],
  ])("is not-sent where the token server %s, and reports it without a secret", async (_name, script, words) => {
    tokenServer.onOther = script;
    await using upstream = startUpstream([entryOf(oauth2())]);
    const outcome = await upstream.call(messageEvent());
    expect(outcome).toMatchObject({ kind: "not-sent", detail: expect.stringContaining(words) });
    expect(upstream.reported).toHaveLength(1);
    expect(JSON.stringify([outcome, upstream.reported])).not.toMatch(/s3cr|tenant/);
    expect(backend.requests).toHaveLength(0);
  });

  test("is not-sent where the token server cannot be reached, or does not answer within 10 s", async () => {
    const tokenUrl = `http://127.0.0.1:${await unusedPort()}/t`;
    await using unreachable = startUpstream([entryOf(oauth2({ tokenUrl }))]);
    expect(await unreachable.call(messageEvent())).toMatchObject({
      kind: "not-sent",
      detail: "the token server: connecting failed: ECONNREFUSED",
    });
    const clock = new FakeClock();
    tokenServer.onOther = () => {};
    await using silent = startUpstream([entryOf(oauth2())], { clock });
    const outcome = silent.call(messageEvent());
    await tokenServer.next("other");
    clock.advanceSync(10_000);
    expect(await outcome).toMatchObject({ kind: "not-sent", detail: "the token server did not answer in time" });
  });

  test("sends the secret in the clear to loopback and private hosts only", () => {
    const fit = ["https://login.example/t", "http://localhost/t", "http://127.0.0.1:80/t", "http://[::1]/t"];
    fit.push(
      "http://10.1.2.3/t",
      "http://172.31.0.1/t",
      "http://192.168.7.7/t",
      "http://[fd00::1]/t",
      "http://keycloak/t",
    );
    const unfit = ["http://login.example/t", "http://8.8.8.8/t", "http://172.32.0.1/t", "http://[2001:db8::1]/t"];
    unfit.push("http://10.example/t", "http://127.0.0.1.example/t");
    expect(fit.filter((url) => !isFitForSecrets(url))).toEqual([]);
    expect(unfit.filter(isFitForSecrets)).toEqual([]);
    expect(() => startUpstream([entryOf(oauth2({ tokenUrl: "http://login.example/t" }))])).toThrow(
      /^upstreams\[0\]: auth\.tokenUrl/,
    );
  });
});

describe("a managed identity", () => {
  const auth: UpstreamAuth = { type: "managedIdentity", resource: "api://back end" };

  test("is asked for at IDENTITY_ENDPOINT where the host names one", async () => {
    issueTokens({ expires_on: String(Math.floor(Date.now() / 1000) + 3600) });
    const env = { IDENTITY_ENDPOINT: `${tokenServer.url}/msi/token`, IDENTITY_HEADER: "op3n" };
    await using upstream = startUpstream([entryOf(auth)], { env });
    await upstream.call(connectEvent());
    await upstream.call(disconnectEvent());
    expect(authorizations()).toEqual(["Bearer token-0", "Bearer token-0"]);
    const [asked, ...more] = tokenServer.requests;
    expect(more).toEqual([]);
    expect(asked?.method).toBe("GET");
    expect(asked?.target).toBe("/msi/token?resource=api%3A%2F%2Fback+end&api-version=2019-08-01");
    expect(asked?.header("X-IDENTITY-HEADER")).toBe("op3n");
    expect(asked?.head.all("metadata")).toEqual([]);
  });

  test("is asked for again once the time has come that expires_on names", async () => {
    const clock = new FakeClock();
    issueTokens({ expires_on: Math.floor(Date.now() / 1000) + 100 });
    await using upstream = startUpstream([entryOf(auth)], { clock, metadataBaseUrl: tokenServer.url });
    await upstream.call(connectEvent());
    clock.advanceSync(101_000);
    await upstream.call(connectEvent());
    expect(authorizations()).toEqual(["Bearer token-0", "Bearer token-1"]);
  });

  test.each([200, -200])("ends by the clock of the endpoint, which is %i days off", async (days) => {
    const clock = new FakeClock();
    const theirs = Date.now() + days * 86_400_000;
    tokenServer.onOther = (exchange) => {
      const token = { access_token: `token-${exchange.request.ordinal}`, expires_on: Math.floor(theirs / 1000) + 100 };
      exchange.reply(200, [`Date: ${new Date(theirs).toUTCString()}`], JSON.stringify(token));
    };
    await using upstream = startUpstream([entryOf(auth)], { clock, metadataBaseUrl: tokenServer.url });
    await upstream.call(connectEvent());
    clock.advanceSync(79_000);
    await upstream.call(connectEvent());
    clock.advanceSync(22_000);
    await upstream.call(connectEvent());
    expect(authorizations()).toEqual(["Bearer token-0", "Bearer token-0", "Bearer token-1"]);
  });

  test("is asked for at the metadata address where the host names no endpoint", async () => {
    issueTokens({ expires_in: "3600" });
    const env = { IDENTITY_ENDPOINT: "http://127.0.0.1:9/", IDENTITY_HEADER: undefined };
    await using upstream = startUpstream([entryOf(auth)], { env, metadataBaseUrl: tokenServer.url });
    await upstream.call(connectEvent());
    expect(authorizations()).toEqual(["Bearer token-0"]);
    const [asked] = tokenServer.requests;
    expect(asked?.target).toBe("/metadata/identity/oauth2/token?resource=api%3A%2F%2Fback+end&api-version=2018-02-01");
    expect(asked?.header("Metadata")).toBe("true");
  });

  test.each([
    ["refuses", (exchange: Exchange) => exchange.reply(403), "403"],
    ["answers without a token", (exchange: Exchange) => replyJson(exchange, { expires_in: "60" }), "no token"],
    ["answers without an end", (exchange: Exchange) => replyJson(exchange, { access_token: "t" }), "no token"],
    ["answers with no JSON", (exchange: Exchange) => exchange.reply(200, [], "<html>"), "no token"],
    ["answers with a list", (exchange: Exchange) => replyJson(exchange, []), "no token"],
  ])("is not-sent where the endpoint %s", async (_name, script, words) => {
    tokenServer.onOther = script;
    await using upstream = startUpstream([entryOf(auth)], { metadataBaseUrl: tokenServer.url });
    const outcome = await upstream.call(messageEvent());
    expect(outcome).toMatchObject({ kind: "not-sent", detail: expect.stringContaining(words) });
    expect(upstream.reported).toHaveLength(1);
  });
});

test("a call that waits for a token can be abandoned, and is sent no more", async () => {
  issueTokens({ expires_in: 3600 });
  const auth: UpstreamAuth = { type: "managedIdentity", resource: "r" };
  await using upstream = startUpstream([entryOf(auth)], { metadataBaseUrl: tokenServer.url });
  const message = upstream.call(messageEvent());
  upstream.abandonMessages();
  expect(await message).toMatchObject({ kind: "unknown", cause: "abandoned" });
  await upstream.call(connectEvent());
  expect(backend.requests.map((request) => request.event)).toEqual(["connect"]);
});
