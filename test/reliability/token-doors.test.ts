import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { KEYS } from "../support/gateway.ts";
import type { RawAnswer } from "../support/raw-websocket.ts";
import { audienceOf, restToken } from "../support/rest-client.ts";
import { type Member, RestStage } from "../support/rest-stage.ts";
import { connectionIdOf, jsonError, Stack } from "../support/stack.ts";
import { expectedSignature } from "../support/tokens.ts";
import { forge } from "./attacks/forge.ts";
import { claimsFor } from "./attacks/token-attacks.ts";

/**
 * Attacks that hang on the door, not on the token: where it is shown, how often, how long it is, at which gateway, and
 * what a client may pretend to be. Source: PROTOCOL.md, "Authentication of the client", "Calling the upstream" and "REST API".
 */
setDefaultTimeout(60_000);

const PATH = "/ws/client/hubs/chat";
const REST_PATH = "/ws/api/hubs/chat/messages";
const OTHER_KEYS = { primary: "the-primary-key-of-another-gateway", secondary: "the-secondary-key-of-another-gateway" };

type Changes = Readonly<Record<string, unknown>>;
type Handshake = { readonly path?: string; readonly lines?: readonly string[] };

let stage: RestStage;
let member: Member;
beforeAll(async () => {
  stage = await RestStage.start({ config: { hubs: { closed: { anonymous: "deny" } } } });
  member = await stage.member();
});
afterAll(async () => {
  await stage.stop();
});

const tokenFor = (path = PATH, changes: Changes = {}, key: string = KEYS.primary): string =>
  forge(claimsFor({ origin: `http://127.0.0.1:${stage.port}`, path }, changes), { key });

async function knock(options: Handshake, on: Stack = stage.stack): Promise<RawAnswer> {
  const client = await on.request({ path: PATH, ...options });
  try {
    return await client.answer();
  } finally {
    client.destroy();
  }
}

const inQuery = (token: string, path = PATH): Handshake => ({ path: `${path}?access_token=${token}` });
const inHeader = (...tokens: readonly string[]): Handshake => ({
  lines: tokens.map((token) => `Authorization: Bearer ${token}`),
});

const broadcast = (token: string | null, lines: readonly string[] = [], target = REST_PATH): Promise<RawAnswer> =>
  stage.call({ method: "POST", target, type: "text/plain", body: "owned", token, lines });

/** Expects the refusal, and that no event and no message came of it. */
async function expectRefused(show: () => Promise<RawAnswer>, status: number, code: string): Promise<void> {
  const eventsBefore = stage.stack.targets().length;
  const answer = await show();
  expect([answer.status, jsonError(answer.body).code]).toEqual([status, code]);
  await expectUnharmed(eventsBefore);
}

async function expectUnharmed(eventsBefore: number): Promise<void> {
  await stage.stack.cycle();
  expect(stage.stack.targets().length).toBe(eventsBefore);
  expect(await stage.received("chat", member)).toEqual([[]]);
}

describe("good tokens open both doors, so what follows is refused for what is wrong with it", () => {
  test("client: 101, REST: 202", async () => {
    await using own = await RestStage.start();
    const origin = `http://127.0.0.1:${own.port}`;
    const token = forge(claimsFor({ origin, path: PATH }), { key: KEYS.primary });
    expect((await knock(inQuery(token), own.stack)).status).toBe(101);
    expect((await knock(inHeader(token), own.stack)).status).toBe(101);
    const rest = { token: forge(claimsFor({ origin, path: REST_PATH }), { key: KEYS.secondary }) };
    expect((await own.call({ method: "POST", target: REST_PATH, type: "text/plain", body: "x", ...rest })).status).toBe(
      202,
    );
  });
});

test.each(["x", "x=1", "x, y", ""])("a good token with %p behind a comma is refused", async (rest) => {
  const show = () => knock({ lines: [`Authorization: Bearer ${tokenFor()},${rest}`] });
  await expectRefused(show, 401, "token_malformed");
});

test("another scheme's parts next to it are not the token's", async () => {
  const client = await stage.stack.open({
    path: "/ws/client/hubs/aside",
    lines: [`Authorization: Digest a="b", c="d", Bearer ${tokenFor("/ws/client/hubs/aside")}`],
  });
  client.destroy();
  await stage.stack.backend.next("disconnect", ({ target }) => target.includes("/aside/"));
});

describe("more than one token: 401 token_repeated", () => {
  const rows: readonly (readonly [string, () => Handshake])[] = [
    ["query and header", () => ({ ...inQuery(tokenFor()), ...inHeader(tokenFor()) })],
    ["the same one twice in the query", () => inQuery(`${tokenFor()}&access_token=${tokenFor()}`)],
    ["a good one, then an empty one", () => inQuery(`${tokenFor()}&access_token`)],
    ["under an escaped name", () => inQuery(`${tokenFor()}&%61ccess%5Ftoken=x`)],
    ["two lines", () => inHeader(tokenFor(), tokenFor())],
    ["two in one line", () => ({ lines: [`Authorization: Bearer ${tokenFor()}, Bearer ${tokenFor()}`] })],
    ["an empty one in the query, a good one in the header", () => ({ ...inQuery(""), ...inHeader(tokenFor()) })],
  ];
  test.each(rows)("%s", async (_name, options) => {
    await expectRefused(() => knock(options()), 401, "token_repeated");
  });
});

describe("a token where none is looked for counts as none", () => {
  const closed = "/ws/client/hubs/closed";
  const rows: readonly (readonly [string, () => Handshake])[] = [
    ["a cookie", () => ({ path: closed, lines: [`Cookie: access_token=${tokenFor(closed)}`] })],
    ["a subprotocol", () => ({ path: closed, lines: [`Sec-WebSocket-Protocol: ${tokenFor(closed)}`] })],
    ["another header", () => ({ path: closed, lines: [`X-Access-Token: ${tokenFor(closed)}`] })],
    ["Basic", () => ({ path: closed, lines: [`Authorization: Basic ${tokenFor(closed)}`] })],
    ["a parameter of another case", () => ({ path: `${closed}?Access_Token=${tokenFor(closed)}` })],
    ["a fragment", () => ({ path: `${closed}#access_token=${tokenFor(closed)}` })],
  ];
  test.each(rows)("%s: 401 at a hub that denies anonymous clients", async (_name, options) => {
    await expectRefused(() => knock(options()), 401, "token_required");
  });

  test("REST: the query, another scheme, no header", async () => {
    const token = restToken(audienceOf(stage.port, REST_PATH));
    await expectRefused(() => broadcast(null), 401, "token_required");
    await expectRefused(() => broadcast(null, [`Authorization: Basic ${token}`]), 401, "token_required");
    await expectRefused(() => broadcast(null, [], `${REST_PATH}?access_token=${token}`), 401, "token_required");
    await expectRefused(() => broadcast(token, [`Authorization: Bearer ${token}`]), 401, "token_required");
  });
});

describe("an invalid user id", () => {
  const wrongTypes: readonly (readonly [unknown])[] = [[7], [true], [null], [["ann"]], [{ id: "ann" }], [1e300]];
  test.each(wrongTypes)("sub %j: 401", async (sub) => {
    await expectRefused(() => knock(inQuery(tokenFor(PATH, { sub }))), 401, "token_claims");
  });

  test("nameid of a wrong type where there is no sub: 401", async () => {
    const token = tokenFor(PATH, { sub: undefined, nameid: ["ann"] });
    await expectRefused(() => knock(inQuery(token)), 401, "token_claims");
  });

  test.each([" ann", "ann ", "a\0b", "a\r\nX-ASRS-Hub: b", "\u0085", "u".repeat(513)])("sub %j: 400", async (sub) => {
    await expectRefused(() => knock(inQuery(tokenFor(PATH, { sub }))), 400, "bad_user");
  });
});

describe("a token that is too much, or holds a NUL", () => {
  const huge = (): string => tokenFor(PATH, { pad: "x".repeat(48_000) });
  const rows: readonly (readonly [string, () => Promise<RawAnswer>])[] = [
    ["64 kB in the query", () => knock(inQuery(huge()))],
    ["64 kB in the header", () => knock(inHeader(huge()))],
    ["64 kB at the REST API", () => broadcast(huge())],
  ];
  test.each(rows)("%s: 431, and nobody is harmed", async (_name, show) => {
    const eventsBefore = stage.stack.targets().length;
    expect((await show()).status).toBe(431);
    await expectUnharmed(eventsBefore);
  });

  test("claims over 8 KiB in a token that fits: 431", async () => {
    await expectRefused(() => knock(inQuery(tokenFor(PATH, { pad: "x".repeat(9000) }))), 431, "claims_too_large");
  });

  test("an escaped NUL behind a good token: 401", async () => {
    await expectRefused(() => knock(inQuery(`${tokenFor()}%00`)), 401, "token_malformed");
  });

  test("a bare NUL in the URL, in either header: 400 or 505, as Bun has it", async () => {
    const eventsBefore = stage.stack.targets().length;
    for (const show of [
      () => knock(inQuery(`${tokenFor()}\0`)),
      () => knock(inHeader(`${tokenFor()}\0`)),
      () => broadcast(`${restToken(audienceOf(stage.port, REST_PATH))}\0`),
    ]) {
      expect([400, 505]).toContain((await show()).status);
    }
    await expectUnharmed(eventsBefore);
  });
});

describe("a good token shown at another door", () => {
  test("at another hub, at none, and the other way round: 401", async () => {
    for (const path of ["/ws/client/hubs/admin", "/ws/client", "/client?hub=chat2", "/ws/client/hubs/_default"]) {
      await expectRefused(() => knock(showAt(path, tokenFor())), 401, "token_audience");
    }
    await expectRefused(() => knock(inQuery(tokenFor("/ws/client"))), 401, "token_audience");
  });

  test("a REST token at the client's, a client's at the REST API: 401", async () => {
    await expectRefused(() => knock(inQuery(tokenFor(REST_PATH))), 401, "token_audience");
    await expectRefused(() => broadcast(tokenFor(PATH)), 401, "token_audience");
  });

  test("a REST token that was taken before, at any other path: 401", async () => {
    const asked = "/ws/api/hubs/chat/users/nobody";
    const token = restToken(audienceOf(stage.port, asked));
    expect((await stage.call({ method: "GET", target: asked, token })).status).toBe(404);
    for (const target of [REST_PATH, "/ws/api/hubs/chat/users/nobody/messages", "/ws/api/messages", "/ws/api/v1/"]) {
      await expectRefused(() => broadcast(token, [], target), 401, "token_audience");
    }
  });
});

describe("keys", () => {
  test("of another gateway on the same host open nothing here", async () => {
    for (const key of [OTHER_KEYS.primary, OTHER_KEYS.secondary]) {
      await expectRefused(() => knock(inQuery(tokenFor(PATH, {}, key))), 401, "token_signature");
      await expectRefused(() => broadcast(tokenFor(REST_PATH, {}, key)), 401, "token_signature");
    }
    await using other = await Stack.start({ config: { accessKeys: OTHER_KEYS } });
    const answer = await knock(inQuery(tokenFor()), other);
    expect([answer.status, jsonError(answer.body).code]).toEqual([401, "token_signature"]);
    expect(other.backend.requests).toEqual([]);
  });

  test("that were taken out of the configuration open nothing any more", async () => {
    await using rotated = await RestStage.start({ config: { accessKeys: { primary: KEYS.secondary } } });
    const origin = `http://127.0.0.1:${rotated.port}`;
    const old = forge(claimsFor({ origin, path: PATH }), { key: KEYS.primary });
    const oldRest = forge(claimsFor({ origin, path: REST_PATH }), { key: KEYS.primary });
    const refused = [
      await knock(inQuery(old), rotated.stack),
      await rotated.call({ method: "POST", target: REST_PATH, type: "text/plain", body: "x", token: oldRest }),
    ];
    for (const answer of refused) {
      expect([answer.status, jsonError(answer.body).code]).toEqual([401, "token_signature"]);
    }
    expect(rotated.stack.backend.requests).toEqual([]);
    const { connectionId, connect } = await rotated.stack.connect();
    expect(connect.header("X-ASRS-Signature")).toBe(expectedSignature(connectionId, KEYS.secondary));
  });
});

describe("what a client says in the service's name", () => {
  const FORGED = [
    "X-ASRS-User-Id: root",
    "x-asrs-user-claims: role: root",
    "X-ASRS-Connection-Id: forged-connection-id-0",
    "X-ASRS-Signature: sha256=forged",
    "X-ASRS-Hub: root",
    "X-ASRS-Category: root",
    "X-ASRS-Event: root",
    "X-ASRS-Client-Query: root",
    "X-ASRS-Client-Cert-Thumbprint: 00",
    "X-ASRS-Connection-Group: root",
    "X-Hubwire-Event-Id: root",
    "X-Hubwire-Close-Code: 4000",
    "X-Hubwire-Connect-Outcome: unknown",
    "X-Forwarded-For: 6.6.6.6",
  ];

  test("never reaches the backend, on any event; each is signed with both keys over its connection's id", async () => {
    await using stack = await Stack.start();
    const signatures = new Set<string>();
    for (const lines of [[], FORGED, FORGED]) {
      const { client, connect, connectionId } = await stack.connect({ lines });
      client.text("hello");
      const message = await stack.backend.next("message");
      client.close(1000);
      const events = [connect, message, await stack.backend.next("disconnect")];
      for (const event of events) {
        const head = event.head.bytes.toString("latin1");
        expect(head).not.toMatch(/root|forged|6\.6\.6\.6|Close-Code: 4000|Outcome/);
        expect(connectionIdOf(event)).toBe(connectionId);
        const signature = event.header("X-ASRS-Signature") ?? "";
        expect(signature).toBe(expectedSignature(connectionId, KEYS.primary, KEYS.secondary));
        signatures.add(signature);
      }
    }
    expect(signatures.size).toBe(3);
  });
});

function showAt(path: string, token: string): Handshake {
  return { path: `${path}${path.includes("?") ? "&" : "?"}access_token=${token}` };
}
