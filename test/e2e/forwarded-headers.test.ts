import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CommandGateway } from "../support/command-gateway.ts";
import { KEYS } from "../support/gateway.ts";
import { RawBackend, type RecordedRequest } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { Stack } from "../support/stack.ts";
import { secondsFromNow, signToken } from "../support/tokens.ts";

/** PROTOCOL.md, "Headers of the client": what `forwardHeaders` lists goes from the handshake to the connect event. */
setDefaultTimeout(60_000);

const NAMES = ["Cookie", "Origin", "User-Agent", "Authorization", "X-Tenant"];
const ORIGINS = ["https://app.example"];

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({ config: { allowedOrigins: ORIGINS }, upstreams: [{ forwardHeaders: NAMES }] });
});
afterAll(() => stack.stop());

let hubCount = 0;

/** The events of a connection in a hub of its own, whose client sent these lines. */
async function eventsOf(lines: readonly string[], query = ""): Promise<RecordedRequest[]> {
  const hub = `hub${hubCount++}`;
  const client = await stack.open({ path: `/ws/client/hubs/${hub}${query}`, lines });
  const ofThis = ({ target }: { target: string }) => target.startsWith(`/${hub}/`);
  const connect = await stack.backend.next("connect", ofThis);
  client.text("hello");
  const message = await stack.backend.next("message", ofThis);
  client.close();
  return [connect, message, await stack.backend.next("disconnect", ofThis)];
}

const forwarded = (request: RecordedRequest | undefined) =>
  NAMES.flatMap((name) => request?.head.all(name).map((value) => `${name}: ${value}`) ?? []);

test("they are in the connect event and in no other", async () => {
  const lines = [
    "cookie: session=abc",
    "Origin: https://app.example",
    "USER-AGENT: Mozilla/5.0 (X11)",
    "authorization: Basic dXNlcjpwYXNz",
    "x-tenant: blue",
    "X-Other: no",
  ];
  const [connect, message, disconnect] = await eventsOf(lines);
  expect(forwarded(connect)).toEqual([
    "Cookie: session=abc",
    "Origin: https://app.example",
    "User-Agent: Mozilla/5.0 (X11)",
    "Authorization: Basic dXNlcjpwYXNz",
    "X-Tenant: blue",
  ]);
  expect(connect?.head.all("x-other")).toEqual([]);
  for (const event of [message, disconnect])
    expect(forwarded(event)).toEqual([expect.stringMatching(/^User-Agent: hubwire\//)]);
});

test("a client that sends none of them has hubwire's User-Agent and nothing else", async () => {
  const [connect] = await eventsOf([]);
  expect(forwarded(connect)).toEqual([expect.stringMatching(/^User-Agent: hubwire\//)]);
});

test.each([
  ["cookies by `; `", ["Cookie: a=1", "Cookie: b=2"], "Cookie: a=1; b=2"],
  ["others by `, `", ["X-Tenant: a", "X-Tenant: b"], "X-Tenant: a, b"],
  ["UTF-8 byte for byte", [`X-Tenant: ${Buffer.from("grüß").toString("latin1")}`], "X-Tenant: gr\xc3\xbc\xc3\x9f"],
  ["Latin-1 byte for byte", ["X-Tenant: gr\xfc\xdf\x80"], "X-Tenant: gr\xfc\xdf\x80"],
  ["a tab within", ["X-Tenant: a\tb"], "X-Tenant: a\tb"],
  ["an empty value", ["Cookie: "], "Cookie: "],
])("lines are joined: %s", async (_what, lines, sent) => {
  const [connect] = await eventsOf(lines);
  expect(forwarded(connect)).toContain(sent);
});

test("a value with DEL, which Bun lets through, is left out, and the others are there", async () => {
  const [connect] = await eventsOf(["Cookie: a\x7fb", "X-Tenant: blue"]);
  expect([connect?.head.all("cookie"), connect?.head.all("x-tenant")]).toEqual([[], ["blue"]]);
});

test("the longest cookie that a handshake may have arrives whole", async () => {
  const path = "/ws/client/hubs/long";
  const client = await stack.dial({ path });
  const rest = client.handshake({ port: stack.port, path, lines: ["Cookie: "] }).length;
  const cookie = "c".repeat(16_384 - rest);
  client.write(client.handshake({ port: stack.port, path, lines: [`Cookie: ${cookie}`] }));
  await client.upgraded();
  const connect = await stack.backend.next("connect", ({ target }) => target.startsWith("/long/"));
  expect(connect.header("Cookie")).toBe(cookie);
  client.destroy();
});

describe("Authorization", () => {
  const audience = (hub: string) => `http://127.0.0.1:${stack.port}/ws/client/hubs/${hub}`;
  /** A token for the hub of the next call of `eventsOf`. */
  const token = () =>
    signToken({ sub: "ann", aud: audience(`hub${hubCount}`), exp: secondsFromNow(600) }, { key: KEYS.primary });

  test.each([
    ["alone", (bearer: string) => [`Authorization: ${bearer}`]],
    ["in lower case", (bearer: string) => [`authorization: ${bearer.replace("Bearer", "bearer")}`]],
    ["next to another scheme", (bearer: string) => ["Authorization: Basic eDp5", `Authorization: ${bearer}`]],
    ["behind another scheme", (bearer: string) => [`Authorization: Basic eDp5, ${bearer}`]],
  ])("with hubwire's own token is not there: %s", async (_how, linesOf) => {
    const signed = token();
    const [connect] = await eventsOf(linesOf(`Bearer ${signed}`));
    expect(connect?.header("X-ASRS-User-Claims")).toContain("sub: ann");
    expect(connect?.head.all("authorization")).toEqual([]);
    expect(connect?.head.bytes.toString("latin1")).not.toContain(signed);
  });

  test("with another scheme is there, next to a token in the query too", async () => {
    const [connect] = await eventsOf(["Authorization: Basic eDp5"], `?access_token=${token()}`);
    expect(connect?.header("X-ASRS-User-Claims")).toContain("sub: ann");
    expect(connect?.header("Authorization")).toBe("Basic eDp5");
  });
});

test("a connect that is posted again after its client has left has the same headers", async () => {
  const first = await stack.open({ path: "/ws/client/hubs/again" });
  first.text("so that a socket to the backend is kept");
  await first.nextText();
  const lines = ["Cookie: session=abc", "User-Agent: Mozilla/5.0"];
  const client = await stack.request({ path: "/ws/client/hubs/again", lines });
  const ofClient = ({ head }: RecordedRequest) => head.all("cookie").includes("session=abc");
  stack.backend.onConnect = async (exchange) => {
    stack.behave();
    client.reset();
    // Answered by the gateway after it has heard of the reset.
    await fetch(`http://127.0.0.1:${stack.port}/api/health`);
    exchange.end();
  };
  const tries = [await stack.backend.next("connect", ofClient), await stack.backend.next("connect", ofClient)];
  expect(tries.map((request) => [request.connection === tries[0]?.connection, ...forwarded(request)])).toEqual([
    [true, "Cookie: session=abc", "User-Agent: Mozilla/5.0"],
    [false, "Cookie: session=abc", "User-Agent: Mozilla/5.0"],
  ]);
  await stack.backend.next(
    "disconnect",
    ({ head }) => head.header("X-ASRS-Connection-Id") === tries[0]?.header("X-ASRS-Connection-Id"),
  );
  first.destroy();
});

describe("they are secrets", () => {
  const SECRETS = ["c00kie-of-ann", "bGVhazpsZWFr", "tenant-of-ann", "agent-of-ann"];
  const LINES = [
    `Cookie: session=${SECRETS[0]}`,
    `Authorization: Basic ${SECRETS[1]}`,
    `X-Tenant: ${SECRETS[2]}`,
    `User-Agent: ${SECRETS[3]}`,
  ];

  /** The contents of a folder's files. */
  const bytesOf = (folder: string) =>
    readdirSync(folder, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile())
      .map((entry) => readFileSync(join(entry.parentPath, entry.name), "latin1"))
      .join("\n");

  test("and are neither in the journal nor in the log, while the connection is open, owed, and dead", async () => {
    await using backend = await RawBackend.start();
    const upstreams = [{ urlTemplate: `${backend.url}/{hub}/{event}`, forwardHeaders: NAMES, timeoutMs: 30_000 }];
    const disconnect = { retryForSeconds: 0, retryRefusedForSeconds: 0 };
    await using gateway = await CommandGateway.start({
      config: { accessKeys: KEYS, allowedOrigins: ORIGINS, upstreams, disconnect },
    });
    backend.onDisconnect = (exchange) => exchange.reply(500);
    const client = await RawWebSocket.open({ port: gateway.port, lines: LINES });
    const connect = await backend.next("connect");
    for (const secret of SECRETS) expect(connect.head.bytes.toString("latin1")).toContain(secret);
    const connectionId = connect.header("X-ASRS-Connection-Id") ?? "";
    const holdsNone = () => {
      const [stored, printed] = [bytesOf(gateway.dataDir), gateway.printed()];
      expect(stored).toContain(connectionId);
      for (const secret of SECRETS) expect([stored.includes(secret), printed.includes(secret)]).toEqual([false, false]);
    };
    holdsNone();
    client.close();
    await backend.next("disconnect");
    await gateway.logged("disconnect event given up: see hubwire dead-letters");
    holdsNone();
    // A connect event without an answer, and one that the origin's check refuses.
    backend.onConnect = (exchange) => exchange.reset();
    expect((await (await RawWebSocket.request({ port: gateway.port, lines: LINES })).answer()).status).toBe(502);
    const lines = [...LINES, "Origin: https://evil.example"];
    expect((await (await RawWebSocket.request({ port: gateway.port, lines })).answer()).status).toBe(403);
    await gateway.logged("connection refused", 2);
    holdsNone();
  });

  test("and are in no line of the log at its most talkative", () => {
    const log = JSON.stringify(stack.gateway.logLines());
    expect(log).toContain("connection opened");
    for (const secret of ["session=abc", "dXNlcjpwYXNz", "eDp5", "Mozilla"]) expect(log).not.toContain(secret);
  });
});
