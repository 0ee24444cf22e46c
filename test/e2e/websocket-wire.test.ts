import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { constants, deflateRawSync } from "node:zlib";
import { OPCODE } from "../support/frame-codec.ts";
import { acceptAs } from "../support/raw-backend.ts";
import { Stack } from "../support/stack.ts";

/** The client's side of the wire: message sizes, compression, subprotocols, control frames. */
setDefaultTimeout(60_000);

const MIB = 1_048_576;

describe("messages up to 1 MiB", () => {
  test("one of exactly 1 MiB reaches the upstream whole, and its answer the client", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    const payload = Buffer.alloc(MIB, "0123456789abcdef");
    client.binary(payload);
    const message = await stack.backend.next("message");
    expect(message.header("Content-Length")).toBe(String(MIB));
    expect(message.body.equals(payload)).toBe(true);
    expect((await client.nextMessage()).payload.equals(payload)).toBe(true);
  });

  test("one byte more is 1009, and the upstream is not called", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    client.binary(Buffer.alloc(MIB + 1));
    expect((await client.closed()).code).toBe(1009);
    const disconnect = await stack.backend.next("disconnect");
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1009");
    await stack.cycle();
    expect(stack.targets()).toEqual(["/chat/api/connect", "/chat/api/disconnect"]);
  });

  test.each([
    [MIB, undefined],
    [MIB + 1, 1009],
  ])("fragments of %d bytes together: close code %p", async (total, code) => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    const half = Buffer.alloc(MIB / 2, "x");
    client.send(
      { opcode: OPCODE.binary, payload: half, fin: false },
      { opcode: OPCODE.continuation, payload: Buffer.alloc(total - half.length, "y") },
    );
    if (code === undefined) expect((await stack.backend.next("message")).body.length).toBe(total);
    else expect((await client.closed()).code).toBe(code);
  });

  test("the limit counts bytes of UTF-8, not characters", async () => {
    await using stack = await Stack.start({ config: { limits: { maxMessageBytes: 10 } } });
    const { client } = await stack.connect();
    client.text("üüüüü");
    expect(await client.nextText()).toBe("üüüüü");
    client.text("üüüüüx");
    expect((await client.closed()).code).toBe(1009);
  });
});

describe("permessage-deflate", () => {
  const offer = { lines: ["Sec-WebSocket-Extensions: permessage-deflate"] };
  const deflate = (payload: string | Buffer): Buffer =>
    deflateRawSync(payload, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);

  test("is off by default: the offer is not taken, and a compressed frame is a protocol fault", async () => {
    await using stack = await Stack.start();
    const client = await stack.request(offer);
    expect((await client.upgraded()).all("sec-websocket-extensions")).toEqual([]);
    client.send({ opcode: OPCODE.text, payload: deflate("hello"), rsv: 4 });
    expect((await client.closed()).code).toBe(1002);
  });

  const on = { websocket: { compression: true } };

  test("is on by option: compressed messages reach the upstream inflated", async () => {
    await using stack = await Stack.start({ config: on });
    const client = await stack.request(offer);
    expect((await client.upgraded()).all("sec-websocket-extensions").join()).toMatch(/^permessage-deflate/);
    client.send({ opcode: OPCODE.text, payload: deflate("hello hello hello"), rsv: 4 });
    const message = await stack.backend.next("message");
    expect(message.body.toString()).toBe("hello hello hello");
    expect(message.header("Content-Type")).toBe("text/plain");
  });

  test.each([
    ["off for one hub, by its name in any case", { compression: true }, { Old: { compression: false } }, ["new"]],
    ["on for one hub", { compression: false }, { new: { compression: true } }, ["new"]],
  ])("is %s", async (_what, websocket, hubs, compressed) => {
    await using stack = await Stack.start({ config: { websocket, hubs } });
    for (const hub of ["old", "new"]) {
      const client = await stack.request({ ...offer, path: `/ws/client/hubs/${hub}` });
      const agreed = (await client.upgraded()).all("sec-websocket-extensions");
      expect(agreed.length).toBe(compressed.includes(hub) ? 1 : 0);
      const text = "x".repeat(5000);
      client.text(text);
      const answer = await client.frame();
      expect(answer.rsv).toBe(compressed.includes(hub) ? 4 : 0);
      if (answer.rsv === 0) expect(answer.payload.toString()).toBe(text);
    }
  });

  test("is not used with a client that did not offer it", async () => {
    await using stack = await Stack.start({ config: on });
    const client = await stack.request();
    expect((await client.upgraded()).all("sec-websocket-extensions")).toEqual([]);
    client.text("x".repeat(5000));
    const answer = await client.frame();
    expect([answer.rsv, answer.payload.length]).toEqual([0, 5000]);
  });

  test("inflates no further than maxMessageBytes: at the limit it is a message, one byte more is 1009", async () => {
    await using stack = await Stack.start({ config: on });
    const client = await stack.open(offer);
    client.send({ opcode: OPCODE.text, payload: deflate("x".repeat(MIB)), rsv: 4 });
    expect((await stack.backend.next("message")).body.length).toBe(MIB);
    await client.frame();
    client.send({ opcode: OPCODE.text, payload: deflate("x".repeat(MIB + 1)), rsv: 4 });
    expect((await client.closed()).code).toBe(1009);
  });
});

describe("subprotocols", () => {
  test.each([
    ["one of several", ["Sec-WebSocket-Protocol: a, b, c"], "b"],
    ["from several lines", ["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b,c"], "c"],
  ])("%s: the chosen one is answered", async (_what, lines, chosen) => {
    await using stack = await Stack.start();
    stack.backend.onConnect = acceptAs("alice", [`Sec-WebSocket-Protocol: ${chosen}`]);
    const client = await stack.request({ lines });
    expect((await client.upgraded()).all("sec-websocket-protocol")).toEqual([chosen]);
  });

  test("without a choice none is answered, not even the first", async () => {
    await using stack = await Stack.start();
    const client = await stack.request({ lines: ["Sec-WebSocket-Protocol: a, b"] });
    expect((await client.upgraded()).all("sec-websocket-protocol")).toEqual([]);
  });
});

describe("control frames", () => {
  test("a ping is answered with its payload", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    client.send({ opcode: OPCODE.ping, payload: "are you there" });
    const pong = await client.frame();
    expect([pong.opcode, pong.payload.toString(), pong.masked]).toEqual([OPCODE.pong, "are you there", false]);
  });

  test("an unasked pong is no event", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    client.send({ opcode: OPCODE.pong, payload: "x" });
    client.text("after");
    expect(await client.nextText()).toBe("after");
    expect(stack.targets()).toEqual(["/chat/api/connect", "/chat/api/message"]);
  });

  test("the 101 carries no body and no frame of its own", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    client.close(1000);
    expect(await client.closed()).toEqual({ code: 1000, reason: "" });
    await client.ended();
    expect(client.stream.leftover.length).toBe(0);
  });
});
