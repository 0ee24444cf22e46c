import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { KEYS } from "../support/gateway.ts";
import { BINARY_PAYLOAD, FULL, type Life, type Lives, recordLives, TEXT_PAYLOAD } from "../support/lives.ts";
import { acceptAs, type RecordedRequest } from "../support/raw-backend.ts";
import { jsonError, Stack } from "../support/stack.ts";
import { expectedSignature } from "../support/tokens.ts";

/** One test per line of the seed, named by its section and that line. Responses: seed-responses.test.ts. */
setDefaultTimeout(60_000);

let lives: Lives;
beforeAll(async () => {
  lives = await recordLives();
});
afterAll(async () => {
  await lives.stack.stop();
});

type Pick = (life: Life) => RecordedRequest[];

const connect: Pick = (life) => [life.connect];
const messages: Pick = (life) => [life.text, life.binary];
const disconnect: Pick = (life) => [life.disconnect];

/** Expects a header of both lives, spelled exactly so, on every picked request. */
function expectHeader(pick: Pick, name: string, inFull: string | undefined, inBare: string | undefined): void {
  for (const request of pick(lives.full)) expect(request.header(name)).toBe(inFull);
  for (const request of pick(lives.bare)) expect(request.header(name)).toBe(inBare);
}

/** The lines that all three sections of the seed have. */
function commonLines(
  pick: Pick,
  section: { category: string; event: string; eventHeader: string; bareUser: string },
): void {
  test(`Url Parameters: \`category\`: \`${section.category}\``, () => {
    for (const request of pick(lives.full)) expect(request.target.split("/")[3]).toBe(section.category);
    for (const request of pick(lives.bare)) expect(request.target.split("/")[3]).toBe(section.category);
  });

  test(`Url Parameters: \`event\`: \`${section.event}\``, () => {
    const expected = (hub: string): string => `/h/${hub}/${section.category}/${section.event}?code=c0de`;
    for (const request of pick(lives.full)) expect(request.target).toBe(expected("Chat"));
    for (const request of pick(lives.bare)) expect(request.target).toBe(expected("_default"));
  });

  test("Verb: `POST`", () => {
    for (const life of [lives.full, lives.bare]) {
      for (const request of pick(life)) expect(request.head.firstLine).toBe(`POST ${request.target} HTTP/1.1`);
    }
  });

  test("HEAD: `X-ASRS-Connection-Id`: `{connection-id}`", () => {
    expectHeader(pick, "X-ASRS-Connection-Id", lives.full.connectionId, lives.bare.connectionId);
    expect(lives.full.connectionId).toMatch(/^[A-Za-z0-9_-]{22,}$/);
    expect(lives.bare.connectionId).toMatch(/^[A-Za-z0-9_-]{22,}$/);
    expect(lives.full.connectionId).not.toBe(lives.bare.connectionId);
  });

  test("HEAD: `X-ASRS-Hub`: `{hubname}`", () => {
    expectHeader(pick, "X-ASRS-Hub", "Chat", "_default");
  });

  test(`HEAD: \`X-ASRS-Category\`: \`${section.category}\``, () => {
    expectHeader(pick, "X-ASRS-Category", section.category, section.category);
  });

  test(`HEAD: \`X-ASRS-Event\`: \`${section.eventHeader}\``, () => {
    expectHeader(pick, "X-ASRS-Event", section.eventHeader, section.eventHeader);
  });

  test("HEAD: `X-ASRS-User-Id`: `{user-id}`", () => {
    expectHeader(pick, "X-ASRS-User-Id", FULL.user, section.bareUser);
  });

  test("HEAD: `X-ASRS-User-Claims`: `{user-claims}`", () => {
    const audience = `aud: http://127.0.0.1:${lives.stack.port}/ws/client/hubs/Chat`;
    const claims = `sub: alice, role: admin, ${audience}, exp: ${lives.expiresAt}`;
    expectHeader(pick, "X-ASRS-User-Claims", claims, "");
  });

  test("HEAD: `X-ASRS-Signature`: `sha256={connection-id-hash-primary},sha256={connection-id-hash-secondary}`", () => {
    const signature = (life: Life): string => expectedSignature(life.connectionId, KEYS.primary, KEYS.secondary);
    expectHeader(pick, "X-ASRS-Signature", signature(lives.full), signature(lives.bare));
  });

  test("HEAD: `X-ASRS-Client-Query?`: `{query-string}`", () => {
    expectHeader(pick, "X-ASRS-Client-Query", FULL.query, undefined);
  });

  test("HEAD: `X-Forwarded-For`: `1.2.3.4, 5.6.7.8`", () => {
    expectHeader(pick, "X-Forwarded-For", `${FULL.forwardedFor}, 127.0.0.1`, "127.0.0.9");
  });

  test("HEAD: `Date`: `Fri, 10 Jan 2020 01:02:03 GMT`", () => {
    for (const request of [...pick(lives.full), ...pick(lives.bare)]) {
      const date = request.header("Date") ?? "";
      expect(date).toMatch(/^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/);
      expect(new Date(date).toUTCString()).toBe(date);
      expect(Math.abs(Date.now() - Date.parse(date))).toBeLessThan(120_000);
    }
  });

  test("HEAD: `?` to indicate this header is optional", () => {
    const always = ["Hub", "Category", "Connection-Id", "Event", "User-Id", "User-Claims", "Signature"];
    const isOurs = (name: string): boolean => /^(x-asrs-|x-forwarded-for|sec-websocket-|date)/i.test(name);
    const optional = section.event === "connect" ? ["Sec-WebSocket-Protocol", "X-ASRS-Client-Cert-Thumbprint"] : [];
    const required = [...always.map((name) => `X-ASRS-${name}`), "X-Forwarded-For", "Date"];
    const withAll = [...required, ...optional, "X-ASRS-Client-Query"].sort();
    for (const request of pick(lives.full)) expect(request.head.names.filter(isOurs).sort()).toEqual(withAll);
    for (const request of pick(lives.bare)) expect(request.head.names.filter(isOurs).sort()).toEqual(required.sort());
  });
}

function emptyBody(pick: Pick): void {
  test("Body: `empty`", () => {
    for (const life of [lives.full, lives.bare]) {
      for (const request of pick(life)) {
        expect(request.body.length).toBe(0);
        expect(request.header("Content-Length")).toBe("0");
        expect(request.head.all("content-type")).toEqual([]);
        expect(request.head.all("transfer-encoding")).toEqual([]);
      }
    }
  });
}

describe("Connect", () => {
  commonLines(connect, { category: "connections", event: "connect", eventHeader: "handshake", bareUser: "" });

  test("HEAD: `Sec-WebSocket-Protocol?`: `{subprotocols}`", () => {
    expectHeader(connect, "Sec-WebSocket-Protocol", FULL.subprotocols, undefined);
  });

  test("HEAD: `X-ASRS-Client-Cert-Thumbprint?`: `{thumbprint}`", () => {
    expectHeader(connect, "X-ASRS-Client-Cert-Thumbprint", FULL.thumbprint, undefined);
  });

  emptyBody(connect);
});

describe("Send Messages", () => {
  commonLines(messages, { category: "messages", event: "message", eventHeader: "message", bareUser: "bob" });

  test("The service calls the Upstream for every complete WebSocket message.", () => {
    for (const life of [lives.full, lives.bare]) {
      const ofLife = lives.stack.backend.requests.filter(
        (request) => request.header("X-ASRS-Connection-Id") === life.connectionId,
      );
      expect(ofLife).toEqual([life.connect, life.text, life.binary, life.disconnect]);
    }
  });

  test("HEAD: `Content-Type`: `application/octet-stream`(for binary frame)|`text/plain`(for text frame)", () => {
    for (const life of [lives.full, lives.bare]) {
      expect(life.text.header("Content-Type")).toBe("text/plain");
      expect(life.binary.header("Content-Type")).toBe("application/octet-stream");
    }
  });

  test("Body: `{message payload}`", () => {
    const text = Buffer.from(TEXT_PAYLOAD, "utf8");
    for (const life of [lives.full, lives.bare]) {
      expect(life.text.body.equals(text)).toBe(true);
      expect(life.text.header("Content-Length")).toBe(String(text.length));
      expect(life.binary.body.equals(BINARY_PAYLOAD)).toBe(true);
      expect(life.binary.header("Content-Length")).toBe(String(BINARY_PAYLOAD.length));
    }
  });
});

describe("Disconnect", () => {
  commonLines(disconnect, {
    category: "connections",
    event: "disconnect",
    eventHeader: "disconnect",
    bareUser: "bob",
  });

  emptyBody(disconnect);

  const always =
    "**Disconnect** event will **always** be triggered when the client request completes if the **Connect** event returns `2xx` status code.";
  test.each([200, 201, 202, 204, 226, 299])(`${always} (%d)`, async (status) => {
    await using stack = await Stack.start();
    stack.backend.onConnect = (exchange) => exchange.reply(status, ["X-ASRS-User-Id: alice"]);
    const { client, connectionId } = await stack.connect();
    client.close(1000);
    const last = await stack.backend.next("disconnect");
    expect(last.header("X-ASRS-Connection-Id")).toBe(connectionId);
    stack.behave();
    await stack.cycle();
    expect(stack.targets()).toEqual(["/chat/api/connect", "/chat/api/disconnect"]);
  });

  test(`${always} (the request completes without a WebSocket)`, async () => {
    await using stack = await Stack.start();
    stack.backend.onConnect = acceptAs("alice", ["Sec-WebSocket-Protocol: not-offered"]);
    const client = await stack.request();
    const answer = await client.answer();
    expect(answer.status).toBe(502);
    jsonError(answer.body);
    await stack.backend.next("disconnect");
    expect(stack.targets()).toEqual(["/chat/api/connect", "/chat/api/disconnect"]);
  });
});
