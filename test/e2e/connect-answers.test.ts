import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { acceptAs } from "../support/raw-backend.ts";
import { jsonError, Stack } from "../support/stack.ts";

/** What the answer to connect brings the client: refusals, groups, the first message. Source: PROTOCOL.md, "Connect". */
setDefaultTimeout(60_000);

describe("a 4xx is passed through", () => {
  test("with its status, its body's bytes and its end-to-end headers, repeated ones too", async () => {
    await using stack = await Stack.start();
    const body = Buffer.from([0, 1, 2, 255, 254, 13, 10, 13, 10]);
    const kept = [
      "Set-Cookie: a=1; Path=/; Expires=Fri, 10 Jan 2020 01:02:03 GMT",
      "Set-Cookie: b=2; HttpOnly",
      'WWW-Authenticate: Basic realm="chat", charset="UTF-8"',
      "Content-Type: application/x-own",
      "Cache-Control: no-store",
      "Date: Fri, 10 Jan 2020 01:02:03 GMT",
      "X-Why: not today",
      "Retry-After: 30",
    ];
    stack.backend.onConnect = (exchange) => exchange.reply(429, kept, body);
    const answer = await (await stack.request()).answer();
    expect(answer.status).toBe(429);
    expect(answer.body.equals(body)).toBe(true);
    expect(answer.head.all("set-cookie")).toEqual([
      "a=1; Path=/; Expires=Fri, 10 Jan 2020 01:02:03 GMT",
      "b=2; HttpOnly",
    ]);
    for (const line of kept.slice(2)) {
      const at = line.indexOf(":");
      expect(answer.head.all(line.slice(0, at))).toEqual([line.slice(at + 2)]);
    }
    expect(answer.head.all("content-length")).toEqual([String(body.length)]);
    stack.behave();
    await stack.cycle();
    expect(stack.targets()).toEqual(["/chat/api/connect"]);
  });

  test("without hop-by-hop headers, those named in Connection, and the service's own", async () => {
    await using stack = await Stack.start();
    const dropped = [
      "Connection: keep-alive, X-Hop",
      "Keep-Alive: timeout=5",
      "X-Hop: one hop only",
      "Proxy-Authenticate: Basic",
      "TE: trailers",
      "Trailer: X-Sum",
      "Upgrade: h2c",
      "X-ASRS-User-Id: alice",
      "X-ASRS-Connection-Group: lobby",
      "X-Hubwire-Close-Code: 1000",
      "Sec-WebSocket-Protocol: chat.v1",
      "Sec-WebSocket-Accept: forged",
    ];
    stack.backend.onConnect = (exchange) => exchange.reply(403, [...dropped, "X-End: to end"], "no");
    const answer = await (await stack.request()).answer();
    expect(answer.status).toBe(403);
    const names = answer.head.names.map((name) => name.toLowerCase());
    for (const line of dropped.slice(1)) expect(names).not.toContain(line.slice(0, line.indexOf(":")).toLowerCase());
    expect(answer.head.all("connection").join()).not.toContain("X-Hop");
    expect(answer.head.all("x-end")).toEqual(["to end"]);
  });

  test.each([1, 1000, 100_000, 1_048_576])(
    "with %d bytes and no type: their length is set, and no type",
    async (length) => {
      await using stack = await Stack.start();
      stack.backend.onConnect = (exchange) => exchange.reply(403, [], "x".repeat(length));
      const answer = await (await stack.request()).answer();
      expect(answer.status).toBe(403);
      expect(answer.body.toString()).toBe("x".repeat(length));
      expect(answer.head.all("content-length")).toEqual([String(length)]);
      expect(answer.head.all("content-type")).toEqual([]);
      expect(answer.head.all("transfer-encoding")).toEqual([]);
    },
  );

  test("with a chunked body joined and its length set anew", async () => {
    await using stack = await Stack.start();
    stack.backend.onConnect = (exchange) =>
      exchange.raw("HTTP/1.1 404 Gone\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n5\r\n here\r\n0\r\n\r\n");
    const answer = await (await stack.request()).answer();
    expect(answer.status).toBe(404);
    expect(answer.body.toString()).toBe("not here");
    expect(answer.head.all("content-length")).toEqual(["8"]);
    expect(answer.head.all("transfer-encoding")).toEqual([]);
  });

  test("with an empty body", async () => {
    await using stack = await Stack.start();
    stack.backend.onConnect = (exchange) => exchange.reply(410);
    const answer = await (await stack.request()).answer();
    expect(answer.status).toBe(410);
    expect(answer.body.length).toBe(0);
    expect(answer.head.all("content-length")).toEqual(["0"]);
  });

  test("and the refused client's connection goes no further: no disconnect, and the gateway serves on", async () => {
    await using stack = await Stack.start();
    stack.backend.onConnect = (exchange) => exchange.reply(401);
    for (let i = 0; i < 3; i++) expect((await (await stack.request()).answer()).status).toBe(401);
    stack.behave();
    await stack.cycle();
    expect(stack.targets()).toEqual(["/chat/api/connect", "/chat/api/connect", "/chat/api/connect"]);
  });
});

describe("X-ASRS-Connection-Group", () => {
  test.each([
    ["one", ["X-ASRS-Connection-Group: lobby"], ["lobby"]],
    ["a comma list, trimmed", ["X-ASRS-Connection-Group: lobby , red team,blue"], ["lobby", "red team", "blue"]],
    ["several lines", ["X-ASRS-Connection-Group: lobby", "X-ASRS-Connection-Group: a,b"], ["lobby", "a", "b"]],
    ["empty names, which are skipped", ["X-ASRS-Connection-Group: ,lobby,, ,"], ["lobby"]],
    ["two that differ by case", ["X-ASRS-Connection-Group: lobby,Lobby"], ["lobby", "Lobby"]],
    ["nothing", ["X-ASRS-Connection-Group: "], []],
    ["UTF-8 bytes", ["X-ASRS-Connection-Group: köln"], ["köln"]],
  ])(
    "%s: the connection is a member before its client can receive anything, until it ends",
    async (_what, lines, groups) => {
      await using stack = await Stack.start();
      stack.backend.onConnect = acceptAs("alice", lines);
      const { client, connectionId } = await stack.connect();
      for (const group of groups) {
        expect(stack.gateway.groupMembers("CHAT", group)).toEqual([connectionId]);
        expect(stack.gateway.groupMembers("other", group)).toEqual([]);
      }
      expect(stack.gateway.groupMembers("chat", "")).toEqual([]);
      client.close();
      await stack.backend.next("disconnect");
      for (const group of groups) expect(stack.gateway.groupMembers("chat", group)).toEqual([]);
    },
  );

  test.each([
    ["too long", `X-ASRS-Connection-Group: lobby, ${"g".repeat(513)}`],
    ["control character inside", "X-ASRS-Connection-Group: lob\u0001by"],
  ])("%s gives 502 and a disconnect", async (_what, line) => {
    await using stack = await Stack.start();
    stack.backend.onConnect = acceptAs("alice", [line]);
    const answer = await (await stack.request()).answer();
    expect(answer.status).toBe(502);
    jsonError(answer.body);
    await stack.backend.next("disconnect");
  });
});

describe("a 2xx body is the first message", () => {
  const utf8 = Buffer.from("grüß dich", "utf8");
  const notUtf8 = Buffer.from([0xc3, 0x28, 0xff]);
  test.each([
    ["text/plain is text", ["Content-Type: text/plain"], utf8, "text"],
    ["no type is text", [], utf8, "text"],
    ["application/json is text", ["Content-Type: application/json; charset=utf-8"], utf8, "text"],
    ["application/octet-stream is binary", ["Content-Type: application/octet-stream"], utf8, "binary"],
    ["types compare without case and parameters", ["Content-Type: Application/Octet-Stream; v=1"], utf8, "binary"],
    ["bytes that are no UTF-8 are binary", ["Content-Type: text/plain"], notUtf8, "binary"],
    ["a NUL is UTF-8", ["Content-Type: text/plain"], Buffer.from([0]), "text"],
  ] as const)("%s", async (_what, lines, body, type) => {
    await using stack = await Stack.start();
    stack.backend.onConnect = acceptAs("alice", lines, body);
    const client = await stack.open();
    expect(await client.nextMessage()).toEqual({ type, payload: Buffer.from(body) });
  });

  test("it comes before every answer to a message", async () => {
    await using stack = await Stack.start();
    stack.backend.onConnect = acceptAs("alice", [], "welcome");
    const client = await stack.open();
    client.text("one");
    expect(await client.nextText()).toBe("welcome");
    expect(await client.nextText()).toBe("one");
  });

  test("an empty body is no message", async () => {
    await using stack = await Stack.start();
    stack.backend.onConnect = acceptAs("alice", ["Content-Type: text/plain"]);
    const client = await stack.open();
    client.text("one");
    expect(await client.nextText()).toBe("one");
  });
});

describe("text that is not ASCII", () => {
  test("a user id in UTF-8 bytes goes on as the same bytes", async () => {
    await using stack = await Stack.start();
    stack.backend.onConnect = acceptAs("jürgen ✓");
    const { client } = await stack.connect();
    client.close();
    const disconnect = await stack.backend.next("disconnect");
    expect(disconnect.head.utf8("X-ASRS-User-Id")).toBe("jürgen ✓");
  });

  test("a user id in Latin-1 bytes, which are no UTF-8, is read as Latin-1, and goes back as it came", async () => {
    await using stack = await Stack.start();
    stack.backend.onConnect = (exchange) =>
      exchange.raw("HTTP/1.1 200 OK\r\nX-ASRS-User-Id: j\u00fcrgen\r\nContent-Length: 0\r\n\r\n");
    const { client } = await stack.connect();
    expect(stack.gateway.connections().map(({ userId }) => userId)).toEqual(["jürgen"]);
    client.close();
    const disconnect = await stack.backend.next("disconnect");
    expect(disconnect.header("X-ASRS-User-Id")).toBe("j\u00fcrgen");
  });

  test("a subprotocol choice reaches the client unchanged", async () => {
    await using stack = await Stack.start();
    stack.backend.onConnect = acceptAs("alice", ["Sec-WebSocket-Protocol: v1.~x!#$"]);
    const client = await stack.request({ lines: ["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: v1.~x!#$"] });
    expect((await client.upgraded()).all("sec-websocket-protocol")).toEqual(["v1.~x!#$"]);
    const connect = await stack.backend.next("connect");
    expect(connect.header("Sec-WebSocket-Protocol")).toBe("a, v1.~x!#$");
  });
});
