import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { makeCertificates } from "../support/certificates.ts";
import { KEYS, startTestGateway } from "../support/gateway.ts";
import { needs } from "../support/programs.ts";
import { RawBackend } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { Stack } from "../support/stack.ts";

/** PROTOCOL.md, "Choosing the upstream" and "Calling the upstream". */
setDefaultTimeout(60_000);

/** One whole life in a hub; the paths that the backend saw. */
async function life(stack: Stack, path: string): Promise<string[]> {
  const before = stack.backend.requests.length;
  const client = await stack.open({ path });
  client.text("x");
  await client.nextText();
  client.close(1000);
  await client.closed();
  await stack.cycle();
  return stack.backend.requests
    .slice(before)
    .map((request) => request.target)
    .filter((target) => !target.includes("/cycle/"));
}

describe("the first entry whose three patterns match takes the event", () => {
  test("in the order of the list", async () => {
    await using stack = await Stack.start({
      upstreams: (url) => [
        { hubPattern: "red", eventPattern: "message", urlTemplate: `${url}/1/{event}` },
        { hubPattern: "red,BLUE", categoryPattern: "connections", urlTemplate: `${url}/2/{event}` },
        { hubPattern: ["green", "a,b"], eventPattern: "connect,disconnect", urlTemplate: `${url}/3/{event}` },
        { hubPattern: "red", urlTemplate: `${url}/never/{event}` },
        { urlTemplate: `${url}/4/{hub}/{event}` },
      ],
    });
    expect(await life(stack, "/ws/client/hubs/red")).toEqual(["/2/connect", "/1/message", "/2/disconnect"]);
    expect(await life(stack, "/ws/client/hubs/RED")).toEqual(["/2/connect", "/1/message", "/2/disconnect"]);
    expect(await life(stack, "/ws/client/hubs/blue")).toEqual(["/2/connect", "/4/BLUE/message", "/2/disconnect"]);
    expect(await life(stack, "/ws/client/hubs/a,b")).toEqual(["/3/connect", "/4/a%2Cb/message", "/3/disconnect"]);
    expect(await life(stack, "/ws/client/hubs/a")).toEqual(["/4/a/connect", "/4/a/message", "/4/a/disconnect"]);
  });
});

describe("the template", () => {
  test("values are URL-escaped, in the path and in the query, and its query is kept", async () => {
    await using stack = await Stack.start({
      upstreams: (url) => [
        { hubPattern: "cycle" },
        { urlTemplate: `${url}/x/{hub}/{category}/{event}?code=a%2Bb&h={hub}&h2={hub}` },
      ],
    });
    const query = "?code=a%2Bb&h=a%5B1%5D%2C.&h2=a%5B1%5D%2C.";
    expect(await life(stack, "/ws/client/hubs/a%5B1%5D,.")).toEqual([
      `/x/a%5B1%5D%2C./connections/connect${query}`,
      `/x/a%5B1%5D%2C./messages/message${query}`,
      `/x/a%5B1%5D%2C./connections/disconnect${query}`,
    ]);
  });

  test("without a path it is /", async () => {
    await using other = await RawBackend.start();
    await using stack = await Stack.start({
      upstreams: [{ hubPattern: "chat", eventPattern: "connect", urlTemplate: other.url }, {}],
    });
    other.onOther = (exchange) => exchange.reply(200, ["X-ASRS-User-Id: alice"]);
    await stack.open();
    expect(other.requests[0]?.head.firstLine).toBe("POST / HTTP/1.1");
  });
});

describe("every request", () => {
  test("names the template's host, asks for no coding, and has one length and one id", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect({ lines: ["Accept-Encoding: gzip, br", "Cookie: a=b", "User-Agent: mine"] });
    client.text("four");
    await client.nextText();
    client.close();
    await stack.backend.next("disconnect");
    expect(stack.backend.requests.map((request) => request.header("Content-Length"))).toEqual(["0", "4", "0"]);
    for (const request of stack.backend.requests) {
      expect(request.header("Host")).toBe(`127.0.0.1:${stack.backend.port}`);
      expect(request.header("Accept-Encoding")).toBe("identity");
      expect(request.header("X-Hubwire-Event-Id")).toMatch(/^\S+$/);
      expect(request.head.all("transfer-encoding")).toEqual([]);
      expect(request.head.all("cookie")).toEqual([]);
      expect(request.head.all("user-agent").join()).not.toContain("mine");
      expect(request.head.all("expect")).toEqual([]);
    }
  });

  test("connectEventName: connect changes the header of connect alone", async () => {
    await using stack = await Stack.start({ upstreams: [{ connectEventName: "connect" }] });
    expect(await life(stack, "/ws/client/hubs/chat")).toEqual([
      "/chat/api/connect",
      "/chat/api/message",
      "/chat/api/disconnect",
    ]);
    const events = stack.backend.requests.slice(0, 3).map((request) => request.header("X-ASRS-Event"));
    expect(events).toEqual(["connect", "message", "disconnect"]);
  });

  test.each([
    ["says so", ["Connection: close"]],
    ["does not say so", []],
  ])("a backend that closes after each answer and %s gets the next event on a new connection", async (_what, lines) => {
    await using stack = await Stack.start();
    stack.backend.onConnect = (exchange) => {
      exchange.reply(200, ["X-ASRS-User-Id: alice", ...lines]);
      exchange.end();
    };
    const { client, connect } = await stack.connect();
    stack.behave();
    // By the time a whole other life is over, the gateway has seen the end of the first connection.
    await stack.cycle();
    client.text("still");
    expect(await client.nextText()).toBe("still");
    const message = await stack.backend.next("message");
    expect(message.connection).not.toBe(connect.connection);
  });

  test("many connections at once are kept apart", async () => {
    await using stack = await Stack.start();
    const clients = await Promise.all(Array.from({ length: 100 }, () => stack.open()));
    clients.forEach((client, i) => void client.text(`${i}`, `${i}+`));
    for (const [i, client] of clients.entries()) {
      expect([await client.nextText(), await client.nextText()]).toEqual([`${i}`, `${i}+`]);
    }
    for (const client of clients) client.close(1000);
    for (const _client of clients) await stack.backend.next("disconnect");
    const ids = stack.backend.of("disconnect").map((request) => request.header("X-ASRS-Connection-Id"));
    expect(new Set(ids).size).toBe(100);
    const eventIds = stack.backend.requests.map((request) => request.header("X-Hubwire-Event-Id"));
    expect(new Set(eventIds).size).toBe(400);
  });
});

describe("authentication towards the upstream", () => {
  test("every event has the static headers, next to the signature", async () => {
    await using stack = await Stack.start({
      upstreams: [{ auth: { type: "headers", headers: { "X-Functions-Key": "k3y", Authorization: "Basic abc" } } }],
    });
    await life(stack, "/ws/client/hubs/chat");
    for (const request of stack.backend.requests) {
      expect(request.header("X-Functions-Key")).toBe("k3y");
      expect(request.header("Authorization")).toBe("Basic abc");
      expect(request.header("X-ASRS-Signature")).toStartWith("sha256=");
    }
  });

  test("OAuth2: one token from the token endpoint serves every event", async () => {
    await using tokens = await RawBackend.start();
    tokens.onOther = (exchange) =>
      exchange.reply(
        200,
        ["Content-Type: application/json"],
        JSON.stringify({ access_token: "t0ken", token_type: "Bearer", expires_in: 3600 }),
      );
    const auth = {
      type: "oauth2",
      tokenUrl: `${tokens.url}/token`,
      clientId: "hubwire",
      clientSecret: "s3cret",
      scope: "api://chat/.default",
    };
    await using stack = await Stack.start({ upstreams: [{ auth }] });
    await life(stack, "/ws/client/hubs/chat");
    for (const request of stack.backend.requests) expect(request.header("Authorization")).toBe("Bearer t0ken");
    expect(tokens.requests.length).toBe(1);
    const asked = new URLSearchParams(tokens.requests[0]?.body.toString());
    expect([asked.get("grant_type"), asked.get("scope")]).toEqual(["client_credentials", "api://chat/.default"]);
  });

  test("a token endpoint that fails: the event is not sent, and connect is 502", async () => {
    await using tokens = await RawBackend.start();
    tokens.onOther = (exchange) => exchange.reply(500);
    const auth = { type: "oauth2", tokenUrl: `${tokens.url}/token`, clientId: "a", clientSecret: "b" };
    await using stack = await Stack.start({ upstreams: [{ hubPattern: "chat", auth }, {}] });
    expect((await (await stack.request()).answer()).status).toBe(502);
    await stack.cycle();
    expect(stack.targets()).toEqual([]);
  });

  needs("openssl").test(
    "mTLS: the upstream sees the client certificate and is trusted by its private authority only",
    async () => {
      const made = makeCertificates();
      try {
        const { cert, key } = made.server;
        const tls = { cert, key, ca: made.authority.cert, requestCert: true, rejectUnauthorized: true };
        await using secure = await RawBackend.start({ tls });
        const urlTemplate = `${secure.url}/{event}`;
        const own = { caFile: made.authority.certFile, certFile: made.client.certFile, keyFile: made.client.keyFile };
        await using stack = await Stack.start({
          upstreams: [
            { hubPattern: "good", urlTemplate, tls: own },
            { hubPattern: "bare", urlTemplate, tls: { caFile: made.authority.certFile } },
            { hubPattern: "distrust", urlTemplate, tls: { ...own, caFile: made.foreignAuthority.certFile } },
          ],
        });
        const client = await stack.open({ path: "/ws/client/hubs/good" });
        client.text("over TLS");
        expect(await client.nextText()).toBe("over TLS");
        const seen = secure.requests.length;
        for (const hub of ["bare", "distrust"]) {
          expect((await (await stack.request({ path: `/ws/client/hubs/${hub}` })).answer()).status).toBe(502);
        }
        expect(secure.requests.length).toBe(seen);
      } finally {
        made.remove();
      }
    },
  );
});

test("the older form, `templates`, is taken in the place of `upstreams`", async () => {
  await using backend = await RawBackend.start();

  const templates = [
    { hubPattern: "*", categoryPattern: "*", eventPattern: "*", urlTemplate: `${backend.url}/{event}` },
  ];
  await using gateway = await startTestGateway({ templates, accessKeys: { primary: KEYS.primary } });

  using client = await RawWebSocket.open({ port: gateway.port });
  client.text("old form");
  expect(await client.nextText()).toBe("old form");
});
