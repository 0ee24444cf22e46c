import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { constants, deflateRawSync } from "node:zlib";
import { OPCODE, type OutgoingFrame } from "../support/frame-codec.ts";
import type { Member } from "../support/rest-stage.ts";
import { ofConnection, Stack } from "../support/stack.ts";

/** `maxMessageBytes` over every way in which a message can be long: one frame, fragments, a length, what it inflates to. */
setDefaultTimeout(60_000);

/** The default. */
const MAX_BYTES = 1_048_576;
const MIB = 1_048_576;

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({ config: { websocket: { compression: true } } });
});
afterAll(async () => {
  await stack.stop();
});

const DEFLATE = { lines: ["Sec-WebSocket-Extensions: permessage-deflate"] };

async function member(): Promise<Member> {
  const { client, connectionId } = await stack.connect(DEFLATE);
  return { client, connectionId };
}

/** The frames make one message, which comes back whole. */
async function expectTaken(bytes: Buffer, frames: readonly OutgoingFrame[]): Promise<void> {
  const { client, connectionId } = await member();
  client.send(...frames);
  const message = await stack.backend.next("message", ofConnection(connectionId));
  expect(message.body.equals(bytes)).toBeTrue();
  client.close(1000);
  client.destroy();
}

/** The frames end the connection with 1009, for the client and in the disconnect event, and are no message. */
async function expectTooBig(frames: readonly OutgoingFrame[]): Promise<void> {
  const { client, connectionId } = await member();
  client.send(...frames);
  expect((await client.closed()).code).toBe(1009);
  await client.ended();
  const disconnect = await stack.backend.next("disconnect", ofConnection(connectionId));
  expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1009");
  expect(disconnect.header("X-Hubwire-Close-Reason")).toMatch(/\w+ \w+/);
  await stack.cycle();
  expect(stack.backend.of("message", ofConnection(connectionId))).toEqual([]);
}

function fragments(bytes: Buffer, sizes: readonly number[]): OutgoingFrame[] {
  let at = 0;
  return sizes.map((size, index) => {
    const opcode = index === 0 ? OPCODE.binary : OPCODE.continuation;
    const payload = bytes.subarray(at, at + size);
    at += size;
    return { opcode, payload, fin: index === sizes.length - 1 };
  });
}

/** A deflate stream that inflates to zeros, made of pieces that do not depend on each other; permessage-deflate's ending. */
function bomb(pieceCount: number): Buffer {
  const piece = deflateRawSync(Buffer.alloc(MIB), { level: 9, finishFlush: constants.Z_FULL_FLUSH });
  return Buffer.concat(Array.from({ length: pieceCount }, () => piece)).subarray(0, -4);
}

const deflated = (bytes: Buffer): Buffer =>
  deflateRawSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);

const full = Buffer.alloc(MAX_BYTES, "0123456789abcdef!");
const over = Buffer.alloc(MAX_BYTES + 1, "0123456789abcdef!");
const half = MAX_BYTES / 2;

const random = randomBytes(MAX_BYTES + 1);

/** As a client does that has no better idea: every byte by its own code, an eighth longer than the message. */
const fixedCodes = (bytes: Buffer): Buffer =>
  deflateRawSync(bytes, {
    strategy: constants.Z_FIXED,
    level: 1,
    memLevel: 1,
    finishFlush: constants.Z_SYNC_FLUSH,
  }).subarray(0, -4);

describe("a message of exactly maxMessageBytes is taken", () => {
  const rows: readonly (readonly [string, readonly OutgoingFrame[]])[] = [
    ["in one frame", [{ opcode: OPCODE.binary, payload: full }]],
    ["in two fragments", fragments(full, [half, half])],
    [
      "in many fragments",
      fragments(
        full,
        Array.from({ length: 1024 }, () => 1024),
      ),
    ],
    ["with an empty fragment at its end", fragments(full, [MAX_BYTES, 0])],
    ["deflated", [{ opcode: OPCODE.binary, payload: deflated(full), rsv: 4 }]],
  ];
  test.each(rows)("%s", async (_what, frames) => {
    await expectTaken(full, frames);
  });
});

describe("a message that deflate makes longer is measured by what it inflates to", () => {
  const codings = [
    ["by default", deflated],
    ["by fixed codes", fixedCodes],
  ] as const;

  test.each(codings)("%s", async (_how, deflate) => {
    const whole = random.subarray(0, MAX_BYTES);
    const payload = deflate(whole);
    expect(payload.length).toBeGreaterThan(MAX_BYTES);
    await expectTaken(whole, [{ opcode: OPCODE.binary, payload, rsv: 4 }]);
    await expectTooBig([{ opcode: OPCODE.binary, payload: deflate(random), rsv: 4 }]);
  });
});

describe("one byte more is 1009", () => {
  const rows: readonly (readonly [string, readonly OutgoingFrame[]])[] = [
    ["in one frame", [{ opcode: OPCODE.binary, payload: over }]],
    // Shorter ones might be deflated messages of the right size.
    ["by a declared length that no deflated message has", [{ opcode: OPCODE.binary, declaredBytes: 1.25 * MAX_BYTES }]],
    ["by a declared length of 2^62", [{ opcode: OPCODE.binary, declaredBytes: 2 ** 62, lengthBits: 64 }]],
    ["by a declared length with the top bit set", [{ opcode: OPCODE.binary, declaredBytes: 2 ** 63, lengthBits: 64 }]],
    ["in the last fragment", fragments(over, [half, half, 1])],
    ["in a fragment that is not the last", fragments(over, [half, half + 1, 0])],
    ["in many fragments", fragments(over, [...Array.from({ length: 1024 }, () => 1024), 1])],
    ["deflated", [{ opcode: OPCODE.binary, payload: deflated(over), rsv: 4 }]],
  ];
  test.each(rows)("%s", async (_what, frames) => {
    await expectTooBig(frames);
  });
});

describe("the bound is the configured one", () => {
  test("without compression one byte more is 1009 by its declared length alone", async () => {
    await using own = await Stack.start();
    const { client } = await own.connect();
    client.send({ opcode: OPCODE.binary, declaredBytes: MAX_BYTES + 1 });
    expect((await client.closed()).code).toBe(1009);
  });

  test.each([1, 125, 126, 65_535, 65_536])("%d bytes", async (maxMessageBytes) => {
    await using own = await Stack.start({ config: { limits: { maxMessageBytes } } });
    const { client } = await own.connect();
    client.text("x".repeat(maxMessageBytes));
    expect((await client.nextText()).length).toBe(maxMessageBytes);
    client.text("x".repeat(maxMessageBytes + 1));
    expect((await client.closed()).code).toBe(1009);
  });

  test("counts bytes, not characters", async () => {
    await using own = await Stack.start({ config: { limits: { maxMessageBytes: 10 } } });
    const { client } = await own.connect();
    client.text("äääää");
    expect(await client.nextText()).toBe("äääää");
    client.text("ääääää");
    expect((await client.closed()).code).toBe(1009);
  });
});

test("a bomb of 512 MiB is inflated no further than the limit, however often it is thrown", async () => {
  const payload = bomb(512);
  expect(payload.length).toBeLessThan(MAX_BYTES);
  const frames: readonly OutgoingFrame[] = [{ opcode: OPCODE.binary, payload, rsv: 4 }];
  // The highest that the process has ever needed, so nothing that was given back is missed.
  const peakBytes = (): number => process.resourceUsage().maxRSS * 1024;
  const before = peakBytes();
  for (let thrown = 0; thrown < 5; thrown++) await expectTooBig(frames);
  expect(peakBytes() - before).toBeLessThan(256 * MIB);
});
