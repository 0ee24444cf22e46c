import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { deflateRawSync } from "node:zlib";
import { within } from "../../test/support/deadline.ts";
import { closePayload, encodeFrame, OPCODE, type OutgoingFrame } from "../../test/support/frame-codec.ts";
import { type ClientOptions, RawWebSocket } from "../../test/support/raw-websocket.ts";
import { CLOSE, type ConnectionEnd } from "../protocol/close-causes.ts";
import { closeCauseFromBun } from "./frame-violations.ts";

/** Bun's own server, told of its closes through the function under test: another Bun may use other sentences. */
const MAX_BYTES = 1000;
let closed = Promise.withResolvers<ConnectionEnd>();
let received: (string | Buffer)[] = [];
beforeEach(() => {
  closed = Promise.withResolvers();
  received = [];
});

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch: (request, self) => (self.upgrade(request) ? undefined : new Response(null, { status: 400 })),
  websocket: {
    maxPayloadLength: MAX_BYTES,
    perMessageDeflate: { compress: "shared", decompress: "shared" },
    idleTimeout: 0,
    sendPings: false,
    message: (ws, message) => {
      received.push(message);
      if (message === "close me") ws.close(4321, "as asked");
      if (message === "cut me") ws.terminate();
    },
    close: (_ws, code, reason) => closed.resolve(closeCauseFromBun(code, reason)),
  },
});
afterAll(() => server.stop(true));

const open = (options: Omit<ClientOptions, "port"> = {}) => RawWebSocket.open({ port: server.port ?? 0, ...options });
const causeOfClose = () => within(closed.promise, "the close handler");

const { text, binary, close, ping, continuation } = OPCODE;
const invalid = Uint8Array.of(0x61, 0xff);

const VIOLATIONS: readonly (readonly [what: string, code: number, ...frames: OutgoingFrame[]])[] = [
  ["a text that is no UTF-8", 1007, { opcode: text, payload: invalid }],
  ["an overlong sequence", 1007, { opcode: text, payload: Uint8Array.of(0xc0, 0x80) }],
  ["a surrogate", 1007, { opcode: text, payload: Uint8Array.of(0xed, 0xa0, 0x80) }],
  ["a text that ends within a character", 1007, { opcode: text, payload: Uint8Array.of(0xc3) }],
  [
    "a fragmented text that is no UTF-8",
    1007,
    { opcode: text, payload: "a", fin: false },
    { opcode: continuation, payload: invalid },
  ],
  ...[3, 4, 7, 11, 15].map((opcode) => [`opcode ${opcode}`, 1002, { opcode }] as const),
  ["RSV1 without an extension", 1002, { opcode: text, rsv: 4, payload: "a" }],
  ["RSV2", 1002, { opcode: text, rsv: 2, payload: "a" }],
  ["RSV3", 1002, { opcode: binary, rsv: 1, payload: "a" }],
  ["a frame without a mask", 1002, { opcode: text, mask: false, payload: "a" }],
  ["an empty frame without a mask", 1002, { opcode: text, mask: false }],
  ["a ping without a mask", 1002, { opcode: ping, mask: false }],
  ["a fragmented ping", 1002, { opcode: ping, fin: false, payload: "a" }],
  ["a ping of 126 bytes", 1002, { opcode: ping, payload: "a".repeat(126) }],
  ["a continuation of nothing", 1002, { opcode: continuation, payload: "a" }],
  ["a new message inside another", 1002, { opcode: text, fin: false, payload: "a" }, { opcode: text, payload: "b" }],
  ["a close of one byte", 1002, { opcode: close, payload: "a" }],
  ...[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535].map(
    (code) => [`close code ${code}`, 1002, { opcode: close, payload: closePayload(code) }] as const,
  ),
  [
    "a close reason that is no UTF-8",
    1007,
    { opcode: close, payload: Buffer.concat([closePayload(1000), Buffer.from(invalid)]) },
  ],
  ["a message one byte too big", 1009, { opcode: binary, payload: new Uint8Array(MAX_BYTES + 1) }],
  ["a length beyond all reason", 1009, { opcode: binary, payload: "a", lengthBits: 64, declaredBytes: 2 ** 52 }],
  [
    "fragments that are too big together",
    1009,
    { opcode: binary, payload: new Uint8Array(MAX_BYTES), fin: false },
    { opcode: continuation, payload: "a" },
  ],
];

describe("a frame violation is reported with the code that the client got, and a sentence", () => {
  test.each(VIOLATIONS)("%s: %d", async (_what, code, ...frames) => {
    using client = await open();
    client.write(Buffer.concat(frames.map(encodeFrame)));
    expect((await client.closed()).code).toBe(code);
    const cause = await causeOfClose();
    expect(cause.code).toBe(code);
    expect(cause.reason).toMatch(/^Received \S/);
    expect(cause.category).toBe(code === 1009 ? "message-too-big" : "frame-violation");
    expect(received).toEqual([]);
  });

  describe("of a compressed message", () => {
    const deflate = { lines: ["Sec-WebSocket-Extensions: permessage-deflate"] };
    const compressed = (bytes: Uint8Array) => deflateRawSync(bytes, { finishFlush: 2 }).subarray(0, -4);

    test("a valid frame is no violation", async () => {
      using client = await open(deflate);
      client.send({ opcode: text, rsv: 4, payload: compressed(Buffer.from("close me")) });
      expect(await client.closed()).toEqual({ code: 4321, reason: "as asked" });
    });

    test("bad data: 1007", async () => {
      using client = await open(deflate);
      client.send({ opcode: text, rsv: 4, payload: Uint8Array.of(0xff, 0xff, 0xff, 0xff) });
      expect((await client.closed()).code).toBe(1007);
      expect((await causeOfClose()).code).toBe(1007);
    });

    test("one that inflates beyond the limit: 1009", async () => {
      using client = await open(deflate);
      client.send({ opcode: binary, rsv: 4, payload: compressed(new Uint8Array(100_000)) });
      expect((await client.closed()).code).toBe(1009);
      expect((await causeOfClose()).code).toBe(1009);
    });
  });
});

describe("what is no violation", () => {
  test.each([1000, 1001, 1002, 1007, 1009, 1011, 1012, 3000, 4999])("a client's close %d is its own", async (code) => {
    using client = await open();
    client.close(code, "Received nothing");
    expect(await causeOfClose()).toEqual({ code, reason: "Received nothing", category: "client" });
  });

  test("an empty close is 1005", async () => {
    using client = await open();
    client.close();
    expect(await causeOfClose()).toEqual({ code: 1005, reason: "", category: "client" });
  });

  test("our own close and our own cut are told as they were made", async () => {
    using asked = await open();
    asked.text("close me");
    expect(await causeOfClose()).toEqual({ code: 4321, reason: "as asked", category: "client" });
    closed = Promise.withResolvers();
    using cut = await open();
    cut.text("cut me");
    expect(await causeOfClose()).toEqual(CLOSE.networkLost);
  });

  test.each(["reset", "halfClose", "destroy"] as const)("a lost network (%s) is 1006 without a reason", async (how) => {
    using client = await open();
    client[how]();
    expect(await causeOfClose()).toEqual(CLOSE.networkLost);
  });

  test("a network lost within a frame is a lost network", async () => {
    using client = await open();
    client.write(encodeFrame({ opcode: binary, payload: "abc" }).subarray(0, 7));
    client.halfClose();
    expect(await causeOfClose()).toEqual(CLOSE.networkLost);
  });

  test("a message of just the limit, fragments, and every length field are taken", async () => {
    using client = await open();
    client.send(
      { opcode: binary, payload: new Uint8Array(MAX_BYTES) },
      { opcode: text, payload: "cl", fin: false },
      { opcode: ping, payload: "between" },
      { opcode: continuation, payload: "", fin: false },
      { opcode: continuation, payload: "ose me", lengthBits: 64 },
    );
    expect(await causeOfClose()).toEqual({ code: 4321, reason: "as asked", category: "client" });
    expect(received.map((message) => message.length)).toEqual([MAX_BYTES, 8]);
  });
});

test("any other sentence of Bun's means a lost network", () => {
  expect(closeCauseFromBun(1006, "WebSocket timed out from inactivity")).toEqual(CLOSE.networkLost);
});
