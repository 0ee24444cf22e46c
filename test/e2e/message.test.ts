import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Gate } from "../support/deadline.ts";
import { OPCODE } from "../support/frame-codec.ts";
import { acceptAs, RawBackend, type Script, unusedPort } from "../support/raw-backend.ts";
import { ofConnection, Stack } from "../support/stack.ts";

/** PROTOCOL.md, "Message", but for the inbox's bound and the drain (inbox.test.ts). */
setDefaultTimeout(60_000);

const bodies = (stack: Stack): string[] =>
  stack.backend.of("message", (r) => !r.target.includes("/cycle/")).map((r) => r.body.toString());

describe("one event per complete WebSocket message", () => {
  test("fragments are joined, with control frames between them", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    client.send(
      { opcode: OPCODE.text, payload: "one, ", fin: false },
      { opcode: OPCODE.ping, payload: "p" },
      { opcode: OPCODE.continuation, payload: "", fin: false },
      { opcode: OPCODE.continuation, payload: Buffer.from([0xc3]), fin: false },
      { opcode: OPCODE.continuation, payload: Buffer.from([0xbc]) },
    );
    const pong = await client.frame();
    expect([pong.opcode, pong.payload.toString()]).toEqual([OPCODE.pong, "p"]);
    expect(await client.nextText()).toBe("one, ü");
    const message = await stack.backend.next("message");
    expect(message.body.toString()).toBe("one, ü");
    expect(message.header("Content-Type")).toBe("text/plain");
    expect(bodies(stack)).toEqual(["one, ü"]);
  });

  test("a fragmented binary message is binary", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    client.send(
      { opcode: OPCODE.binary, payload: Buffer.from([1, 2]), fin: false },
      { opcode: OPCODE.continuation, payload: Buffer.from([255]) },
    );
    const message = await stack.backend.next("message");
    expect([...message.body]).toEqual([1, 2, 255]);
    expect(message.header("Content-Type")).toBe("application/octet-stream");
  });

  test("an empty message is an event with an empty body", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    client.send({ opcode: OPCODE.text }, { opcode: OPCODE.binary });
    const text = await stack.backend.next("message");
    expect([text.header("Content-Length"), text.header("Content-Type")]).toEqual(["0", "text/plain"]);
    const binary = await stack.backend.next("message");
    expect([binary.header("Content-Length"), binary.header("Content-Type")]).toEqual(["0", "application/octet-stream"]);
    client.text("after");
    // The empty answers to the empty messages were no messages to the client.
    expect(await client.nextText()).toBe("after");
  });

  test("every event has an id of its own", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    client.text("1", "2", "3");
    for (const expected of ["1", "2", "3"]) expect(await client.nextText()).toBe(expected);
    client.close();
    await stack.backend.next("disconnect");
    const ids = stack.backend.requests.map((request) => request.header("X-Hubwire-Event-Id"));
    expect(ids.every((id) => id !== undefined && id !== "")).toBe(true);
    expect(new Set(ids).size).toBe(5);
  });
});

test("events of one connection come one after the other: the next starts when the last was answered", async () => {
  await using stack = await Stack.start();
  const gates = [new Gate(), new Gate(), new Gate()];
  const { client, connectionId } = await stack.connect();
  stack.backend.onMessage = async (exchange) => {
    if (!ofConnection(connectionId)(exchange.request)) return exchange.reply(200, [], exchange.request.body);
    await gates[Number(exchange.request.body.toString())]?.opened;
    exchange.reply(200, [], `answer ${exchange.request.body}`);
  };
  client.text("0", "1", "2");
  for (const [i, gate] of gates.entries()) {
    await stack.backend.next("message", ofConnection(connectionId));
    // A whole life of another connection passes while this one waits.
    await stack.cycle();
    expect(bodies(stack)).toEqual(["0", "1", "2"].slice(0, i + 1));
    gate.open();
    expect(await client.nextText()).toBe(`answer ${i}`);
  }
});

describe("any HTTP answer is delivered, with any status", () => {
  test.each([200, 201, 302, 400, 401, 404, 500, 503])("%d", async (status) => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    stack.backend.onMessage = (exchange) => exchange.reply(status, [], `told ${status}`);
    client.text("a");
    expect(await client.nextText()).toBe(`told ${status}`);
    client.text("b");
    expect(await client.nextText()).toBe(`told ${status}`);
    expect(bodies(stack)).toEqual(["a", "b"]);
  });

  test("an empty one is not", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    stack.backend.onMessage = (exchange) =>
      exchange.request.body.toString() === "last" ? exchange.reply(200, [], "heard") : exchange.reply(500);
    client.text("a", "b", "last");
    expect(await client.nextText()).toBe("heard");
  });

  const utf8 = Buffer.from("ja, ü", "utf8");
  test.each([
    ["text/plain is text", ["Content-Type: text/plain"], utf8, "text"],
    ["no type is text", [], utf8, "text"],
    ["application/json is text", ["Content-Type: application/json"], utf8, "text"],
    ["application/octet-stream is binary", ["Content-Type: application/octet-stream"], utf8, "binary"],
    ["case and parameters do not count", ["content-type: APPLICATION/octet-stream;charset=x"], utf8, "binary"],
    ["bytes that are no UTF-8 are binary", ["Content-Type: text/plain"], Buffer.from([0x80]), "binary"],
    ["a surrogate in UTF-8 is no UTF-8", [], Buffer.from([0xed, 0xa0, 0x80]), "binary"],
    ["a byte order mark is kept", [], Buffer.from([0xef, 0xbb, 0xbf, 0x61]), "text"],
  ] as const)("typed: %s", async (_what, lines, body, type) => {
    await using stack = await Stack.start();
    stack.backend.onMessage = (exchange) => exchange.reply(200, lines, body);
    const { client } = await stack.connect();
    client.binary(Buffer.from("question"));
    expect(await client.nextMessage()).toEqual({ type, payload: Buffer.from(body) });
  });

  test("an answer of exactly maxResponseBytes, chunked", async () => {
    await using stack = await Stack.start({ config: { limits: { maxResponseBytes: 1000 } } });
    stack.backend.onMessage = (exchange) =>
      exchange.raw(
        `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1f4\r\n${"a".repeat(500)}\r\n1f4\r\n${"b".repeat(500)}\r\n0\r\n\r\n`,
      );
    const { client } = await stack.connect();
    client.text("?");
    expect(await client.nextText()).toBe("a".repeat(500) + "b".repeat(500));
  });

  test("an answer after the client has left is dropped, and the disconnect follows it", async () => {
    await using stack = await Stack.start();
    const gate = new Gate();
    const { client, connectionId } = await stack.connect();
    stack.backend.onMessage = async (exchange) => {
      await gate.opened;
      exchange.reply(200, [], "too late");
    };
    client.text("question");
    await stack.backend.next("message");
    client.close(1000);
    await client.closed();
    gate.open();
    await stack.backend.next("disconnect", ofConnection(connectionId));
    stack.behave();
    await stack.cycle();
    expect(stack.targets()).toEqual(["/chat/api/connect", "/chat/api/message", "/chat/api/disconnect"]);
  });
});

describe("no answer", () => {
  const rows: readonly (readonly [string, Script, number?])[] = [
    // Twice, since its connection had carried connect; the second goes over a fresh one.
    ["reset", (x) => x.reset(), 2],
    ["timeout", async (x) => void (await x.callerGone)],
    ["over maxResponseBytes", (x) => x.reply(200, [], Buffer.alloc(1001, "x"))],
    ["garbage", (x) => x.raw("no HTTP\r\n\r\n")],
    ["of an unknown coding", (x) => x.reply(200, ["Content-Encoding: zstd"], "?")],
    ["of another coding than it says", (x) => x.reply(200, ["Content-Encoding: gzip"], "?")],
    [
      "cut off",
      (x) => {
        x.raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
        x.end();
      },
    ],
  ];
  const config = { limits: { maxResponseBytes: 1000 } };

  test.each(rows)("%s closes with 1011 by default", async (_what, script, postCount = 1) => {
    await using stack = await Stack.start({ config, upstreams: [{ timeoutMs: 1000 }] });
    const { client } = await stack.connect();
    stack.backend.onMessage = script;
    client.text("question");
    expect(await client.closed()).toEqual({ code: 1011, reason: "upstream unavailable" });
    const disconnect = await stack.backend.next("disconnect");
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1011");
    expect(disconnect.header("X-Hubwire-Close-Reason")).toBe("upstream unavailable");
    expect(bodies(stack)).toEqual(new Array(postCount).fill("question"));
  });

  test.each(rows)("%s is passed over with onMessageFailure: ignore", async (_what, script, postCount = 1) => {
    await using stack = await Stack.start({ config, upstreams: [{ timeoutMs: 1000, onMessageFailure: "ignore" }] });
    const { client } = await stack.connect();
    stack.backend.onMessage = (exchange) =>
      exchange.request.body.toString() === "first" ? script(exchange) : exchange.reply(200, [], "second's answer");
    client.text("first", "second");
    expect(await client.nextText()).toBe("second's answer");
    expect(bodies(stack)).toEqual([...new Array(postCount).fill("first"), "second"]);
  });

  test("a request that provably was not sent is repeated", async () => {
    const port = await unusedPort();
    await using stack = await Stack.start({
      upstreams: [{ hubPattern: "chat", eventPattern: "message", urlTemplate: `http://127.0.0.1:${port}/{event}` }, {}],
    });
    const { client } = await stack.connect();
    client.text("patience");
    // The first try is refused at once by the kernel; a whole other life takes many turns longer.
    await stack.cycle();
    await using late = await RawBackend.start({ port });
    expect((await late.next("message")).body.toString()).toBe("patience");
    expect(await client.nextText()).toBe("patience");
    expect(late.requests.length).toBe(1);
  });

  test("one whose kept connection ended without an answer is sent again by default, with its id", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    stack.backend.onMessage = (exchange) => {
      stack.behave();
      exchange.reset();
    };
    client.text("again", "and the next");
    expect([await client.nextText(), await client.nextText()]).toEqual(["again", "and the next"]);
    expect(bodies(stack)).toEqual(["again", "again", "and the next"]);
    const [first, second, third] = stack.backend.of("message").map((r) => r.header("X-Hubwire-Event-Id"));
    expect(second).toBe(first ?? "");
    expect(third).not.toBe(first);
  });

  test("where it cannot be sent at all, onMessageFailure says", async () => {
    const urlTemplate = `http://127.0.0.1:${await unusedPort()}/{event}`;
    const entry = { hubPattern: "chat", eventPattern: "message", urlTemplate, timeoutMs: 1000 };
    await using stack = await Stack.start({ upstreams: [entry, {}] });
    const { client } = await stack.connect();
    client.text("anyone?");
    expect(await client.closed()).toEqual({ code: 1011, reason: "upstream unavailable" });
    expect((await stack.backend.next("disconnect")).header("X-Hubwire-Close-Code")).toBe("1011");
  });

  test("no entry matches: close 1011, `no upstream for messages`", async () => {
    await using stack = await Stack.start({ upstreams: [{ categoryPattern: "connections" }] });
    stack.backend.onConnect = acceptAs("alice");
    const { client } = await stack.connect();
    client.text("anyone?");
    expect(await client.closed()).toEqual({ code: 1011, reason: "no upstream for messages" });
    const disconnect = await stack.backend.next("disconnect");
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1011");
    expect(disconnect.header("X-Hubwire-Close-Reason")).toBe("no upstream for messages");
    expect(stack.targets()).toEqual(["/chat/api/connect", "/chat/api/disconnect"]);
  });
});
