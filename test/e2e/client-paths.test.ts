import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { KEYS } from "../support/gateway.ts";
import type { RecordedRequest } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { audienceOf, RestClient, restToken } from "../support/rest-client.ts";
import { jsonError, ofConnection, Stack, type StackOptions } from "../support/stack.ts";
import { secondsFromNow, signToken } from "../support/tokens.ts";

/** PROTOCOL.md, "Paths of your own". */
setDefaultTimeout(60_000);

const HEADER = "X-Hubwire-Client-Path";
const PATHS = [
  { pattern: "/ocpp/{id}", hub: "ocpp" },
  { pattern: "/", hub: "root" },
];

function start(config: StackOptions["config"] = {}): Promise<Stack> {
  return Stack.start({ config: { paths: PATHS, ...config } });
}

/** The values of the header in all events of a connection, from connect to disconnect, with a message of each type between. */
async function pathsOfLife(stack: Stack, path: string, lines: readonly string[] = []): Promise<string[][]> {
  const { client, connectionId } = await stack.connect({ path, lines });
  client.text("hello");
  await client.nextText();
  client.binary(Buffer.from([0xff]));
  await client.nextMessage();
  client.close(1000);
  await stack.backend.next("disconnect", ofConnection(connectionId));
  const events = stack.backend.requests.filter(ofConnection(connectionId));
  expect(events).toHaveLength(4);
  return events.map((request) => request.head.all(HEADER.toLowerCase()));
}

/** The same value in each of the four events. */
const always = (value: string): string[][] => Array.from({ length: 4 }, () => [value]);

async function refusal(stack: Stack, path: string, lines: readonly string[] = []) {
  const { status, body } = await (await stack.request({ path, lines })).answer();
  return { status, code: jsonError(body).code };
}

describe("a client on a path of the configuration", () => {
  test.each([
    ["/ocpp/CP1", "/ocpp/CP1"],
    ["/ocpp/CP1/", "/ocpp/CP1/"],
    ["/ocpp/CP%201%2f2?x=1&access=no", "/ocpp/CP%201%2f2"],
    ["/ocpp/%0d%0aX-ASRS-User-Id:%20eve", "/ocpp/%0d%0aX-ASRS-User-Id:%20eve"],
    ["/ocpp/caf\u00c3\u00a9", "/ocpp/caf%C3%A9"],
    ["/ocpp/a'\"<>`{}|b", "/ocpp/a'%22%3C%3E%60%7B%7D|b"],
    ["/x/../ocpp/CP1", "/ocpp/CP1"],
    ["/?hub=chat", "/"],
  ])("%s: all events of the connection have %s", async (path, value) => {
    await using stack = await start();
    expect(await pathsOfLife(stack, path)).toEqual(always(value));
    const hub = value === "/" ? "root" : "ocpp";
    expect(stack.targets()).toEqual(
      ["connect", "message", "message", "disconnect"].map((name) => `/${hub}/api/${name}`),
    );
    for (const request of stack.backend.requests) expect(request.header("X-ASRS-Hub")).toBe(hub);
  });

  test("has its query in the header for queries, without the token, and not in that for the path", async () => {
    await using stack = await start();
    const token = signToken(
      { sub: "ann", aud: `http://127.0.0.1:${stack.port}/ocpp/CP1`, exp: secondsFromNow(60) },
      { key: KEYS.primary },
    );
    const { connect } = await stack.connect({ path: `/ocpp/CP1?a=1&access_token=${token}&hub=chat` });
    expect(connect.header(HEADER)).toBe("/ocpp/CP1");
    expect(connect.header("X-ASRS-Client-Query")).toBe("a=1&hub=chat");
    expect(connect.header("X-ASRS-Hub")).toBe("ocpp");
  });

  test("cannot say another path than its own, and others cannot say one at all", async () => {
    await using stack = await start();
    const lines = [`${HEADER}: /ocpp/forged`, "x_hubwire_client_path: /ocpp/forged"];
    expect(await pathsOfLife(stack, "/ocpp/CP1", lines)).toEqual(always("/ocpp/CP1"));
    expect(await pathsOfLife(stack, "/ws/client/hubs/ocpp", lines)).toEqual([[], [], [], []]);
    expect(await pathsOfLife(stack, "/client?hub=ocpp", lines)).toEqual([[], [], [], []]);
  });

  test("has its own path in messages, while others send in between", async () => {
    await using stack = await start();
    const paths = ["/ocpp/CP1", "/ocpp/CP2", "/ws/client/hubs/ocpp"];
    const clients: RawWebSocket[] = [];
    for (const path of paths) clients.push((await stack.connect({ path })).client);
    for (let round = 0; round < 3; round++) {
      for (const [index, client] of clients.entries()) {
        client.text(`${index}`);
        await client.nextText();
      }
    }
    const said = stack.backend.of("message").map((request) => [request.body.toString(), request.header(HEADER)]);
    const one = [
      ["0", "/ocpp/CP1"],
      ["1", "/ocpp/CP2"],
      ["2", undefined],
    ];
    expect(said).toEqual([...one, ...one, ...one]);
  });

  test("keeps it where the backend names a user in Latin-1", async () => {
    await using stack = await start();
    stack.backend.onConnect = (exchange) =>
      exchange.raw("HTTP/1.1 200 OK\r\nX-ASRS-User-Id: j\u00f6rg\r\nContent-Length: 0\r\n\r\n");
    expect(await pathsOfLife(stack, "/ocpp/CP1")).toEqual(always("/ocpp/CP1"));
    expect(stack.backend.of("disconnect")[0]?.head.header("X-ASRS-User-Id")).toBe("j\u00f6rg");
  });

  test("is reached by the REST API as any client of its hub", async () => {
    await using stack = await start();
    const { client } = await stack.connect({ path: "/ocpp/CP1" });
    const rest = await RestClient.dial(stack.port);
    const target = "/ws/api/v1/hubs/ocpp/users/alice";
    const token = restToken(audienceOf(stack.port, target));
    const answer = await rest.call({ method: "POST", target, type: "text/plain", body: "pushed", token });
    expect(answer.status).toBe(202);
    expect(await client.nextText()).toBe("pushed");
    rest.destroy();
  });
});

describe("what is no such path is as it was", () => {
  test.each(["/ocpp", "/ocpp/", "/ocpp/a/b", "/OCPP/a", "//ocpp/a", "/ocpp/a//", "/ocpp/%2e%2e/x/y"])(
    "%s: 404",
    async (path) => {
      await using stack = await start();
      expect(await refusal(stack, path)).toEqual({ status: 404, code: "not_found" });
      expect(stack.targets()).toEqual([]);
    },
  );

  test("nothing that hubwire serves itself goes to a pattern, and each pattern's path is for handshakes only", async () => {
    await using stack = await start({
      paths: [
        { pattern: "/{a}", hub: "ocpp" },
        { pattern: "/{a}/{b}", hub: "ocpp" },
        { pattern: "/{a}/{b}/{c}", hub: "ocpp" },
      ],
    });
    for (const path of ["/ws", "/ws/x", "/client/x", "/api/x", "/.well-known/x"]) {
      expect((await refusal(stack, path)).code).toBe("not_found");
    }
    const rest = await RestClient.dial(stack.port);
    expect((await rest.call({ method: "GET", target: "/api/health", token: null })).status).toBe(200);
    expect((await rest.call({ method: "POST", target: "/api/messages", type: "text/plain", token: null })).status).toBe(
      401,
    );
    expect((await rest.call({ method: "GET", target: "/favicon.ico", token: null })).status).toBe(426);
    rest.destroy();
    const { connect } = await stack.connect({ path: "/ws/client?hub=chat" });
    expect(connect.header("X-ASRS-Hub")).toBe("chat");
  });

  test("the REST API's own listener has none of them", async () => {
    const listen = { host: "127.0.0.1", port: 0, api: { host: "127.0.0.1", port: 0 } };
    await using stack = await start({ listen });
    const client = await RawWebSocket.request({ port: stack.gateway.apiPort, path: "/ocpp/CP1" });
    expect((await client.answer()).status).toBe(404);
    client.destroy();
  });
});

describe("what is set for the hub holds", () => {
  const hubs = { ocpp: { anonymous: "deny", allowedOrigins: ["https://app.example"], compression: true } };
  const OFFER = "Sec-WebSocket-Extensions: permessage-deflate";

  test("its allowedOrigins", async () => {
    await using stack = await start({ hubs: { ocpp: { allowedOrigins: ["https://app.example"] } } });
    expect(await refusal(stack, "/ocpp/CP1", ["Origin: https://evil.example"])).toMatchObject({ status: 403 });
    await stack.open({ path: "/ocpp/CP1", lines: ["Origin: https://app.example"] });
    await stack.open({ path: "/", lines: ["Origin: https://evil.example"] });
  });

  test("its compression", async () => {
    await using stack = await start({ hubs: { ocpp: { compression: true } } });
    const compressed = await stack.request({ path: "/ocpp/CP1", lines: [OFFER] });
    expect((await compressed.upgraded()).all("sec-websocket-extensions").join()).toContain("permessage-deflate");
    const plain = await stack.request({ path: "/", lines: [OFFER] });
    expect((await plain.upgraded()).all("sec-websocket-extensions")).toEqual([]);
  });

  test("its anonymous: deny; and a token names the path, or a URL of the hub, in the query or in Authorization", async () => {
    await using stack = await start({ hubs });
    expect(await refusal(stack, "/ocpp/CP1")).toEqual({ status: 401, code: "token_required" });
    const tokenFor = (path: string) => {
      const aud = `http://127.0.0.1:${stack.port}${path}`;
      return signToken({ sub: "ann", aud, exp: secondsFromNow(60) }, { key: KEYS.primary });
    };
    const good = ["/ocpp/CP1", "/ocpp/CP1/", "/ws/client/hubs/ocpp", "/client?hub=ocpp"];
    for (const token of good.map(tokenFor)) {
      for (const given of [{ path: `/ocpp/CP1?access_token=${token}` }, withHeader("/ocpp/CP1", token)]) {
        const { connect } = await stack.connect(given);
        expect([connect.header("X-ASRS-User-Id"), connect.header(HEADER)]).toEqual(["ann", "/ocpp/CP1"]);
      }
    }
    for (const token of ["/ocpp/CP2", "/ocpp", "/ws/client", "/ws/client/hubs/chat", "/"].map(tokenFor)) {
      expect(await refusal(stack, `/ocpp/CP1?access_token=${token}`)).toEqual({ status: 401, code: "token_audience" });
    }
    expect(await refusal(stack, `/ws/client/hubs/ocpp?access_token=${tokenFor("/ocpp/CP1")}`)).toEqual({
      status: 401,
      code: "token_audience",
    });
  });

  function withHeader(path: string, token: string) {
    return { path, lines: [`Authorization: Bearer ${token}`] };
  }
});

describe("a reload", () => {
  test("changes the paths for new clients, and open connections keep what they have", async () => {
    await using stack = await start();
    const { client, connectionId } = await stack.connect({ path: "/ocpp/CP1" });
    expect(stack.gateway.reload(config(stack, [{ pattern: "/charge/{id}", hub: "charge" }]))).toEqual([]);
    expect(await refusal(stack, "/ocpp/CP2")).toMatchObject({ status: 404 });
    const { connect } = await stack.connect({ path: "/charge/CP2" });
    expect([connect.header("X-ASRS-Hub"), connect.header(HEADER)]).toEqual(["charge", "/charge/CP2"]);
    client.text("still there?");
    expect(await client.nextText()).toBe("still there?");
    client.close(1000);
    const last = await stack.backend.next("disconnect", ofConnection(connectionId));
    expect([last.header("X-ASRS-Hub"), last.header(HEADER)]).toEqual(["ocpp", "/ocpp/CP1"]);
    expect(stack.gateway.reload(config(stack, []))).toEqual([]);
    expect(await refusal(stack, "/charge/CP2")).toMatchObject({ status: 404 });
  });

  test("with a pattern that is a fault changes nothing", async () => {
    await using stack = await start();
    expect(() => stack.gateway.reload(config(stack, [{ pattern: "/api/{id}", hub: "ocpp" }]))).toThrow(
      "paths[0].pattern",
    );
    await stack.open({ path: "/ocpp/CP1" });
  });

  /** The rest of the configuration stays. */
  function config(stack: Stack, paths: readonly object[]) {
    return { upstreams: [{ urlTemplate: `${stack.backend.url}/{hub}/api/{event}` }], paths };
  }
});

test("no log line has the path", async () => {
  await using stack = await start();
  await pathsOfLife(stack, "/ocpp/secret-path");
  stack.backend.onConnect = (exchange) => exchange.reply(500);
  await (await stack.request({ path: "/ocpp/secret-path" })).answer();
  await stack.cycle().catch(() => {});
  expect(JSON.stringify(stack.gateway.logLines())).not.toContain("secret-path");
});

test("every try of a disconnect has the path", async () => {
  await using stack = await start();
  const tries: RecordedRequest[] = [];
  stack.backend.onDisconnect = (exchange) => {
    tries.push(exchange.request);
    exchange.reply(tries.length < 3 ? 503 : 204);
  };
  const { client, connectionId } = await stack.connect({ path: "/ocpp/CP1" });
  client.close(1000);
  for (let count = 0; count < 3; count++) await stack.backend.next("disconnect", ofConnection(connectionId));
  expect(tries.map((request) => request.header(HEADER))).toEqual(["/ocpp/CP1", "/ocpp/CP1", "/ocpp/CP1"]);
});
