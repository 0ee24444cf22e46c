import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { makeCertificates } from "../support/certificates.ts";
import { KEYS } from "../support/gateway.ts";
import { needs } from "../support/programs.ts";
import { acceptAs, RawBackend } from "../support/raw-backend.ts";
import { statusOf } from "../support/raw-websocket.ts";
import { audienceOf, RestClient, restToken } from "../support/rest-client.ts";
import { connectionIdOf, jsonError, Stack, TEMPLATE_PATH } from "../support/stack.ts";
import { expectedSignature, secondsFromNow, signToken } from "../support/tokens.ts";

/** Issue "lifecycle guarantee", point 5: what a reload changes, without dropping a connection. */

let stack: Stack;

beforeEach(async () => {
  stack = await Stack.start();
  stack.behave();
});

afterEach(async () => {
  await stack.stop();
});

const entry = (url: string, more: Readonly<Record<string, unknown>> = {}) => ({
  urlTemplate: url + TEMPLATE_PATH,
  ...more,
});

async function refusal(path = "/ws/client/hubs/chat", lines: readonly string[] = []) {
  const client = await stack.request({ path, lines });
  const { status, body } = await client.answer();
  return { status, code: jsonError(body).code };
}

describe("upstreams", () => {
  test("change for open connections too, and none is dropped", async () => {
    const { client, connectionId } = await stack.connect();
    await using other = await RawBackend.start();
    expect(stack.gateway.reload({ upstreams: [entry(other.url)] })).toEqual([]);
    client.text("to whom?");
    const message = await other.next("message");
    expect(connectionIdOf(message)).toBe(connectionId);
    expect(await client.nextText()).toBe("to whom?");
    client.close(1000);
    await other.next("disconnect");
    expect(stack.backend.of("disconnect")).toEqual([]);
  });

  test("a message in flight gets its answer from the old one", async () => {
    const { client } = await stack.connect();
    await using other = await RawBackend.start();
    const gate = Promise.withResolvers<void>();
    stack.backend.onMessage = async (exchange) => {
      await gate.promise;
      exchange.reply(200, [], "from the old one");
    };
    client.text("question");
    await stack.backend.next("message");
    stack.gateway.reload({ upstreams: [entry(other.url)] });
    gate.resolve();
    expect(await client.nextText()).toBe("from the old one");
  });

  test("an entry that cannot be used changes nothing", async () => {
    const { client } = await stack.connect();
    const bad = entry("https://127.0.0.1:9", { tls: { caFile: "/nowhere/ca.pem" } });
    const reload = () => stack.gateway.reload({ upstreams: [bad], limits: { maxConnections: 1 }, anonymous: "deny" });
    expect(reload).toThrow(/upstreams\[0\]/);
    client.text("still there?");
    expect(await client.nextText()).toBe("still there?");
    await stack.cycle();
  });

  test("a disconnect that waits for one that asked for patience goes to the new one at once", async () => {
    const { client, connectionId } = await stack.connect();
    const { client: staying } = await stack.connect();
    let tries = 0;
    stack.backend.onDisconnect = (exchange) => exchange.reply(503, tries++ === 0 ? [] : ["Retry-After: 3600"]);
    client.close(1000);
    // The second try is one of those that wait already; the first may still be on its way to them.
    await stack.backend.next("disconnect");
    await stack.backend.next("disconnect");
    // The answer to it has come before those to what was asked later.
    for (const text of ["one", "two", "three"]) {
      staying.text(text);
      expect(await staying.nextText()).toBe(text);
    }
    await using other = await RawBackend.start();
    stack.gateway.reload({ upstreams: [entry(other.url)] });
    expect(connectionIdOf(await other.next("disconnect"))).toBe(connectionId);
  });
});

describe("limits", () => {
  test("maxConnections holds from then on, for those who come", async () => {
    await stack.open();
    await stack.open();
    stack.gateway.reload({ limits: { maxConnections: 2 } });
    expect(await refusal()).toEqual({ status: 503, code: "connection_limit" });
    stack.gateway.reload({ limits: { maxConnections: 3 } });
    await stack.open();
  });

  test("maxMessageBytes holds for open connections and for the REST API", async () => {
    const client = await stack.open();
    using rest = await RestClient.dial(stack.port);
    const send = () =>
      rest.call({ method: "POST", target: "/ws/api/messages", type: "text/plain", body: "x".repeat(11) });
    expect((await send()).status).toBe(202);
    stack.gateway.reload({ limits: { maxMessageBytes: 10 } });
    expect((await send()).status).toBe(413);
    client.text("x".repeat(10));
    expect(await client.nextText()).toBe("x".repeat(10));
    client.text("x".repeat(11));
    expect((await client.closed()).code).toBe(1009);
  });

  test("connectsPerSecondPerAddress holds from then on", async () => {
    for (let count = 0; count < 5; count++) await stack.open();
    stack.gateway.reload({ limits: { connectsPerSecondPerAddress: 1 } });
    const clients = await Promise.all([1, 2, 3].map(() => stack.request()));
    const statuses = await Promise.all(clients.map(async (client) => statusOf(await client.head())));
    expect(statuses.sort()).toEqual([101, 429, 429]);
  });

  test("messagesPerSecond holds for open connections", async () => {
    const client = await stack.open();
    stack.gateway.reload({ limits: { messagesPerSecond: 1 } });
    stack.backend.onMessage = (exchange) => exchange.reply(204);
    for (const text of ["one", "two", "three"]) client.text(text);
    expect(await client.closed()).toEqual({ code: 1008, reason: "rate limited" });
  });
});

describe("hubs", () => {
  test("anonymous and allowedOrigins hold from then on, per hub", async () => {
    await stack.open({ path: "/ws/client/hubs/chat" });
    stack.gateway.reload({
      hubs: { chat: { anonymous: "deny" }, news: { allowedOrigins: ["https://app.example"] } },
    });
    expect(await refusal("/ws/client/hubs/Chat")).toEqual({ status: 401, code: "token_required" });
    expect(await refusal("/ws/client/hubs/news", ["Origin: https://evil.example"])).toEqual({
      status: 403,
      code: "origin_denied",
    });
    await stack.open({ path: "/ws/client/hubs/news", lines: ["Origin: https://app.example"] });
  });

  test("publicUrls decide about tokens from then on", async () => {
    stack.gateway.reload({ publicUrls: ["https://chat.example"] });
    const token = (host: string) =>
      signToken({ aud: `https://${host}/ws/client/hubs/chat`, exp: secondsFromNow(60) }, { key: KEYS.primary });
    await stack.open({ path: `/ws/client/hubs/chat?access_token=${token("chat.example")}` });
    expect((await refusal(`/ws/client/hubs/chat?access_token=${token("127.0.0.1")}`)).code).toBe("token_audience");
  });
});

describe("key rotation", () => {
  const NEXT = "dGhlLW5leHQta2V5LWFmdGVyLXRoZS1yb3RhdGlvbi1vZi1rZXlz";
  const clientToken = (key: string) =>
    signToken({ aud: `http://127.0.0.1/ws/client/hubs/chat`, sub: "alice", exp: secondsFromNow(60) }, { key });
  const open = (key: string) => stack.connect({ path: `/ws/client/hubs/chat?access_token=${clientToken(key)}` });
  const target = "/ws/api/hubs/chat/messages";

  async function restStatus(rest: RestClient, token: string): Promise<number> {
    return (await rest.call({ method: "POST", target, type: "text/plain", body: "x", token })).status;
  }

  test("the secondary becomes primary, step by step, and no token or signature fails", async () => {
    using rest = await RestClient.dial(stack.port);
    const tokens = Object.values(KEYS).map((key) => restToken(audienceOf(stack.port, target), {}, { key }));
    const step = async (primary: string, secondary: string) => {
      stack.gateway.reload({ accessKeys: { primary, secondary } });
      for (const token of tokens) expect(await restStatus(rest, token)).toBe(202);
      for (const key of [KEYS.primary, KEYS.secondary]) {
        const { connect, connectionId } = await open(key);
        expect(connect.header("X-ASRS-Signature")).toBe(expectedSignature(connectionId, primary, secondary));
      }
    };
    await step(KEYS.primary, KEYS.secondary);
    await step(KEYS.secondary, KEYS.primary);
  });

  test("a key that is gone opens nothing more, not even by a token that was seen before; open connections stay", async () => {
    using rest = await RestClient.dial(stack.port);
    const old = restToken(audienceOf(stack.port, target), {}, { key: KEYS.primary });
    expect(await restStatus(rest, old)).toBe(202);
    const { client, connectionId } = await open(KEYS.primary);
    stack.gateway.reload({ accessKeys: { primary: KEYS.secondary, secondary: NEXT } });
    expect(await restStatus(rest, old)).toBe(401);
    expect(await refusal(`/ws/client/hubs/chat?access_token=${clientToken(KEYS.primary)}`)).toEqual({
      status: 401,
      code: "token_signature",
    });
    client.text("still there?");
    const message = await stack.backend.next("message");
    expect(message.header("X-ASRS-Signature")).toBe(expectedSignature(connectionId, KEYS.secondary, NEXT));
  });
});

needs("openssl").test(
  "the listener's own certificate need not be there any more, and its connections stay",
  async () => {
    const certificates = makeCertificates();
    const { certFile, keyFile } = certificates.server;
    try {
      await using secure = await Stack.start({
        config: { listen: { host: "127.0.0.1", port: 0, tls: { certFile, keyFile } } },
      });
      secure.behave();
      const tls = { rejectUnauthorized: false };
      const client = await secure.open({ tls });
      certificates.remove();
      secure.gateway.reload({
        listen: { host: "127.0.0.1", port: 0, tls: { certFile, keyFile } },
        limits: { maxConnections: 2 },
      });
      client.text("still there?");
      expect(await client.nextText()).toBe("still there?");
      await secure.open({ tls });
      const third = await secure.request({ tls });
      expect((await third.answer()).status).toBe(503);
    } finally {
      certificates.remove();
    }
  },
);

test("what takes effect at the next start only is named and left as it is; everything else holds", async () => {
  const port = stack.port;
  const names = stack.gateway.reload({
    listen: { host: "127.0.0.1", port: 1 },
    dataDir: "/nowhere",
    journal: { synchronous: "full" },
    cluster: { nats: { servers: ["127.0.0.1:1"] } },
    anonymous: "deny",
  });
  expect(names).toEqual(["listen", "dataDir", "journal", "cluster"]);
  expect(stack.port).toBe(port);
  expect((await refusal()).code).toBe("token_required");
});

test("a reload of the same configuration changes nothing, not even a socket to the upstream", async () => {
  const { client } = await stack.connect();
  const before = stack.backend.connectionCount;
  for (let time = 0; time < 5; time++) expect(stack.gateway.reload({})).toEqual([]);
  client.text("a");
  expect(await client.nextText()).toBe("a");
  expect(stack.backend.connectionCount).toBe(before);
  stack.backend.onConnect = acceptAs("bob");
  await stack.cycle();
});
