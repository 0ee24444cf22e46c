/** The opcodes of RFC 6455, section 5.2 that the tests use. */
export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** A frame as it was read from the wire. */
export interface ReceivedFrame {
  readonly fin: boolean;
  /** The three reserved bits; 4 is RSV1 (compressed). */
  readonly rsv: number;
  readonly opcode: number;
  readonly masked: boolean;
  readonly payload: Buffer;
}

/** A frame to send; what is left out is what a well-behaved client would do. */
export interface OutgoingFrame {
  readonly opcode: number;
  readonly payload?: string | Uint8Array;
  readonly fin?: boolean;
  readonly rsv?: number;
  readonly mask?: boolean;
  /** Forces the 16 or 64 bit length field where a shorter one would do. */
  readonly lengthBits?: 7 | 16 | 64;
  /** Claims another length than the payload has. */
  readonly declaredBytes?: number;
}

/** The frame's bytes, right or wrong, as asked. Source: RFC 6455, section 5.2. */
export function encodeFrame(frame: OutgoingFrame): Buffer {
  const payload = Buffer.from(frame.payload ?? "");
  const byteCount = frame.declaredBytes ?? payload.length;
  const first = (frame.fin === false ? 0 : 0x80) | ((frame.rsv ?? 0) << 4) | frame.opcode;
  const maskBit = frame.mask === false ? 0 : 0x80;
  const bits = frame.lengthBits ?? (byteCount < 126 ? 7 : byteCount < 65_536 ? 16 : 64);
  let head: Buffer;
  if (bits === 7) {
    head = Buffer.from([first, maskBit | byteCount]);
  } else if (bits === 16) {
    head = Buffer.from([first, maskBit | 126, 0, 0]);
    head.writeUInt16BE(byteCount, 2);
  } else {
    head = Buffer.concat([Buffer.from([first, maskBit | 127]), Buffer.alloc(8)]);
    head.writeBigUInt64BE(BigInt(byteCount), 2);
  }
  if (frame.mask === false) return Buffer.concat([head, payload]);
  const key = Buffer.from([0x37, 0xfa, 0x21, 0x3d]);
  const masked = Buffer.from(payload);
  for (let i = 0; i < masked.length; i++) masked[i] = (masked[i] ?? 0) ^ (key[i & 3] ?? 0);
  return Buffer.concat([head, key, masked]);
}

/** The payload of a close frame; without a code it is empty. Codes are not checked. */
export function closePayload(code?: number, reason = ""): Buffer {
  if (code === undefined) return Buffer.alloc(0);
  const head = Buffer.alloc(2);
  head.writeUInt16BE(code);
  return Buffer.concat([head, Buffer.from(reason, "utf8")]);
}
