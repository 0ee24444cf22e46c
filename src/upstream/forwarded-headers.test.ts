import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { until, within } from "../../test/support/deadline.ts";
import { acknowledge, type Exchange, RawBackend } from "../../test/support/raw-backend.ts";
import {
  connectEvent,
  disconnectEvent,
  messageEvent,
  startUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import type { UpstreamEntry } from "../config/schema.ts";
import type { ConnectEvent } from "../protocol/events.ts";

/** The headers of a client's handshake that an entry's `forwardHeaders` names. */

let backend: RawBackend;

beforeEach(async () => {
  backend = await RawBackend.start();
  backend.onConnect = acknowledge;
});

afterEach(() => backend.stop());

const HANDSHAKE = {
  Cookie: "session=abc; theme=dark",
  Origin: "https://app.example",
  "User-Agent": "Mozilla/5.0",
  Authorization: "Basic dXNlcjpwYXNz",
  "X-Tenant": "blue",
};

const entryOf = (over: Partial<UpstreamEntry> = {}) => upstreamEntry(`${backend.url}/{event}`, over);
const connectWith = (headers: Record<string, string> = HANDSHAKE): ConnectEvent => ({
  ...connectEvent(),
  headers: new Headers(headers),
});

/** The head of the one request that these entries make of a connect event. */
async function headOf(settings: Partial<UpstreamEntry>, event: ConnectEvent = connectWith()) {
  await using upstream = startUpstream([entryOf(settings)]);
  await upstream.call(event);
  const request = backend.requests.at(-1);
  if (request === undefined) throw new Error("nothing was posted");
  return request.head;
}

test("are in the connect event as they are listed, and in no other event", async () => {
  await using upstream = startUpstream([
    entryOf({ forwardHeaders: ["x-tenant", "Cookie", "Accept-Language", "origin"] }),
  ]);
  await upstream.call(connectWith());
  await upstream.call(messageEvent());
  await upstream.call(disconnectEvent());
  const [connect, ...others] = backend.requests.map(({ head }) => head);
  expect(connect?.lines.slice(3, 6)).toEqual([
    "x-tenant: blue",
    "Cookie: session=abc; theme=dark",
    "origin: https://app.example",
  ]);
  expect(others).toHaveLength(2);
  for (const head of others) {
    for (const name of ["x-tenant", "cookie", "origin"]) expect(head.all(name)).toEqual([]);
  }
});

test("change nothing of the connect event where none is listed", async () => {
  const plain = await headOf({}, connectWith({}));
  const head = await headOf({});
  const withoutDate = (lines: readonly string[]) => lines.filter((line) => !line.startsWith("Date: "));
  expect(withoutDate(head.lines)).toEqual(withoutDate(plain.lines));
});

test("User-Agent takes the place of hubwire's; a client without one leaves hubwire's", async () => {
  const forwardHeaders = ["User-Agent"];
  expect((await headOf({ forwardHeaders })).all("user-agent")).toEqual(["Mozilla/5.0"]);
  expect((await headOf({ forwardHeaders }, connectWith({}))).all("user-agent")).toEqual(["hubwire/1.2.3"]);
  expect((await headOf({ forwardHeaders, keepAliveMs: 0 })).all("connection")).toEqual(["close"]);
});

describe("the entry's own auth wins", () => {
  const forwardHeaders = ["authorization", "x-tenant", "cookie"];

  test("over those of its static headers, in any case", async () => {
    const auth = { type: "headers", headers: { AUTHORIZATION: "Bearer own", "X-TENANT": "red" } } as const;
    const head = await headOf({ forwardHeaders, auth });
    const values = ["authorization", "x-tenant", "cookie"].map((name) => head.all(name));
    expect(values).toEqual([["Bearer own"], ["red"], [HANDSHAKE.Cookie]]);
  });

  test("over Authorization, by the token that it obtains", async () => {
    await using tokens = await RawBackend.start();
    tokens.onOther = (exchange) => exchange.reply(200, [], '{"access_token":"t","token_type":"Bearer"}');
    const client = { clientId: "id", clientSecret: "secret", scope: null };
    const auth = { type: "oauth2", tokenUrl: `${tokens.url}/token`, ...client } as const;
    expect((await headOf({ forwardHeaders, auth })).all("authorization")).toEqual(["Bearer t"]);
  });

  test("and without auth the client's is there", async () => {
    expect((await headOf({ forwardHeaders })).all("authorization")).toEqual([HANDSHAKE.Authorization]);
  });
});

test.each([
  ["UTF-8", Buffer.from("grüß").toString("latin1")],
  ["Latin-1", "gr\xfc\xdf \x80\xff"],
  ["tabs", "a\tb"],
  ["nothing", ""],
])("values of %s go on byte for byte", async (_what, value) => {
  const head = await headOf({ forwardHeaders: ["X-Tenant"] }, connectWith({ "X-Tenant": value }));
  expect(head.header("X-Tenant")).toBe(value);
});

test.each(["\x7f", "\x01", "\0", "\r\nX-Evil: 1", "\n"])("a value with %j is left out", async (control) => {
  const headers = { get: (name: string) => (name === "Origin" ? "https://app.example" : `a${control}b`) };
  const head = await headOf({ forwardHeaders: ["X-Tenant", "Origin"] }, { ...connectEvent(), headers });
  expect([head.all("x-tenant"), head.all("x-evil"), head.all("origin")]).toEqual([[], [], [HANDSHAKE.Origin]]);
});

test.each([
  "NTLM TlRMTVNTUAAB",
  "negotiate YIIJvw",
  "Basic dXNlcjpwYXNz, NTLM TlRMTVNTUAAB",
  "Basic dXNlcjpwYXNz,\tNegotiate",
])("a login for a whole TCP connection, which events of other clients share, is left out: %s", async (login) => {
  const forwardHeaders = ["authorization", "x-tenant"];
  const head = await headOf({ forwardHeaders }, connectWith({ Authorization: login, "X-Tenant": login }));
  expect([head.all("authorization"), head.all("x-tenant")]).toEqual([[], [login]]);
});

test.each(['Digest realm="ntlm"', "NTLMv9 x", "Basic bnRsbQ=="])("another login goes on: %s", async (login) => {
  const head = await headOf({ forwardHeaders: ["Authorization"] }, connectWith({ Authorization: login }));
  expect(head.header("Authorization")).toBe(login);
});

test("go along when connect is posted again behind a kept socket that died", async () => {
  await using upstream = startUpstream([entryOf({ forwardHeaders: ["Cookie", "User-Agent"] })]);
  await upstream.call(messageEvent());
  backend.onConnect = (exchange) => {
    backend.onConnect = acknowledge;
    exchange.end();
  };
  expect(await upstream.call(connectWith())).toMatchObject({ kind: "answer", wasRepeated: true });
  const tries = backend.of("connect").map(({ head }) => [head.header("Cookie"), head.header("User-Agent")]);
  expect(tries).toEqual(new Array(2).fill([HANDSHAKE.Cookie, HANDSHAKE["User-Agent"]]));
});

test("are those of the entry that takes the connect event", async () => {
  await using upstream = startUpstream([
    entryOf({ eventPattern: ["message"], forwardHeaders: ["Cookie"] }),
    entryOf({ hubPattern: ["other"], forwardHeaders: ["Cookie"] }),
    entryOf({ forwardHeaders: ["Origin"] }),
  ]);
  await upstream.call(connectWith());
  const [request] = backend.requests;
  expect([request?.head.all("cookie"), request?.head.all("origin")]).toEqual([[], [HANDSHAKE.Origin]]);
});

test("are those of the entry that the event came to, when a reload replaces it while the call waits", async () => {
  await using upstream = startUpstream([entryOf({ forwardHeaders: ["Cookie"], maxConcurrency: 1 })]);
  const held: Exchange[] = [];
  backend.onConnect = (exchange) => void held.push(exchange);
  const first = upstream.call(connectWith());
  await until(() => held.length === 1, "the first connect event");
  const second = upstream.call(connectWith());
  upstream.reload([entryOf({ forwardHeaders: ["Origin"] })]);
  held[0]?.reply(204);
  await until(() => held.length === 2, "the second connect event");
  held[1]?.reply(204);
  await within(Promise.all([first, second]), "both answers");
  expect(backend.requests.map(({ head }) => head.all("cookie").length)).toEqual([1, 1]);
});
