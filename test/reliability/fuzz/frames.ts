import { deflateRawSync } from "node:zlib";
import { closePayload, encodeFrame, OPCODE, type OutgoingFrame } from "../../support/frame-codec.ts";
import type { Dice } from "../support/dice.ts";
import { mutate } from "./mutation.ts";

const BROKEN_UTF8: readonly Buffer[] = [
  Buffer.from([0xc3]),
  Buffer.from([0xc0, 0x80]),
  Buffer.from([0xed, 0xa0, 0x80]),
  Buffer.from([0xf4, 0x90, 0x80, 0x80]),
  Buffer.from([0xff]),
  Buffer.from("ok\xff", "latin1"),
];

/** Codes that a close frame may and may not hold. Source: RFC 6455, section 7.4. */
const CLOSE_CODES = [0, 1, 999, 1000, 1001, 1003, 1004, 1005, 1006, 1007, 1009, 1011, 1012, 1015, 1016, 2999, 3000];
const FAR_CLOSE_CODES = [4000, 4999, 5000, 32_768, 65_535];

/** The limit under which the fuzzed gateway runs, so that its edge is met often. */
export const MAX_MESSAGE_BYTES = 65_536;

const LENGTHS = [0, 1, 2, 5, 20, 124, 125, 126, 127, 128, 200, 1000];
const LONG_LENGTHS = [16_384, 65_535, MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES + 1, 100_000];

/** What a client sends once it is connected: some good frames, some broken in one place, some in many. */
export function framesOf(dice: Dice): Buffer {
  if (dice.chance(0.05)) return dice.bytes(1 + dice.below(300));
  const count = 1 + dice.below(6);
  const bytes = Buffer.concat(Array.from({ length: count }, () => encodeFrame(frameOf(dice))));
  return dice.chance(0.2) ? mutate(bytes, dice) : bytes;
}

function frameOf(dice: Dice): OutgoingFrame {
  const good = goodFrame(dice);
  if (dice.chance(0.6)) return good;
  const payload = Buffer.from(good.payload ?? "");
  switch (dice.below(9)) {
    case 0:
      return { ...good, opcode: dice.below(16) };
    case 1:
      return { ...good, rsv: 1 + dice.below(7) };
    case 2:
      return { ...good, mask: false };
    case 3:
      return { ...good, fin: dice.chance(0.5) };
    case 4:
      return { ...good, lengthBits: payload.length < 126 ? dice.pick([16, 64]) : 64 };
    case 5:
      return { ...good, lengthBits: 64, declaredBytes: dice.pick([1, 70_000, 2 ** 31, 2 ** 40, 2 ** 53 - 1]) };
    case 6:
      return { ...good, payload: dice.pick(BROKEN_UTF8) };
    case 7:
      return { ...good, opcode: OPCODE.close, payload: closeOf(dice) };
    default:
      return { ...good, opcode: OPCODE.continuation, fin: dice.chance(0.5) };
  }
}

function goodFrame(dice: Dice): OutgoingFrame {
  const opcode = dice.pick([OPCODE.text, OPCODE.text, OPCODE.binary, OPCODE.ping, OPCODE.pong]);
  if (opcode === OPCODE.ping || opcode === OPCODE.pong) return { opcode, payload: dice.bytes(dice.below(126)) };
  const length = dice.chance(0.02) ? dice.pick(LONG_LENGTHS) : dice.pick(LENGTHS);
  const payload = opcode === OPCODE.text ? Buffer.alloc(length, "text ü ") : Buffer.alloc(length, dice.bytes(16));
  // The last character of a repeated text may be cut in two, which is one more case.
  if (dice.chance(0.1)) return { opcode, payload: compressed(payload, dice), rsv: 4 };
  return { opcode, payload, fin: !dice.chance(0.1) };
}

function compressed(payload: Buffer, dice: Dice): Buffer {
  const bytes = deflateRawSync(payload);
  return dice.chance(0.3) ? mutate(bytes, dice) : bytes;
}

function closeOf(dice: Dice): Uint8Array {
  if (dice.chance(0.2)) return dice.bytes(dice.below(3));
  const code = dice.pick([...CLOSE_CODES, ...FAR_CLOSE_CODES]);
  const payload = closePayload(code, dice.pick(["", "bye", "é".repeat(61), "x".repeat(123), "x".repeat(200)]));
  return dice.chance(0.2) ? Buffer.concat([payload, dice.pick(BROKEN_UTF8)]) : payload;
}

/**
 * Checks what the gateway sent to a WebSocket client: whole or not, each frame is one that RFC 6455 allows a server.
 *
 * Errors: throws a sentence for the first that is not.
 */
export function checkServerFrames(bytes: Buffer, allowsCompressed: boolean): void {
  let at = 0;
  while (at + 2 <= bytes.length) {
    const first = bytes[at] ?? 0;
    const second = bytes[at + 1] ?? 0;
    const opcode = first & 15;
    const rsv = (first >> 4) & 7;
    if ((second & 0x80) !== 0) throw new Error("the gateway masked a frame");
    if (rsv !== 0 && !(rsv === 4 && allowsCompressed)) throw new Error(`the gateway set RSV bits ${rsv}`);
    if (!Object.values<number>(OPCODE).includes(opcode)) throw new Error(`the gateway sent opcode ${opcode}`);
    let length = second & 0x7f;
    let headBytes = 2;
    if (length === 126) {
      if (at + 4 > bytes.length) return;
      length = bytes.readUInt16BE(at + 2);
      headBytes = 4;
    } else if (length === 127) {
      if (at + 10 > bytes.length) return;
      length = Number(bytes.readBigUInt64BE(at + 2));
      headBytes = 10;
    }
    if (opcode >= 8 && (length > 125 || first < 0x80)) throw new Error("the gateway sent an invalid control frame");
    const end = at + headBytes + length;
    if (end > bytes.length) return;
    if (opcode === OPCODE.close) {
      checkClose(bytes.subarray(at + headBytes, end));
      if (end < bytes.length) throw new Error("the gateway sent something after its close frame");
    }
    at = end;
  }
}

function checkClose(payload: Buffer): void {
  if (payload.length === 0) return;
  if (payload.length === 1) throw new Error("the gateway sent a close frame of one byte");
  const code = payload.readUInt16BE();
  const isKnown = code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code);
  if (!isKnown && !(code >= 3000 && code <= 4999)) throw new Error(`the gateway sent close code ${code}`);
  if (!payload.subarray(2).equals(Buffer.from(payload.toString("utf8", 2), "utf8"))) {
    throw new Error("the gateway sent a close reason that is no UTF-8");
  }
}
