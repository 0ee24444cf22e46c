/** The first byte of a part; no message between nodes begins so. */
const PART = 0xff;

/** PART, then the publisher's number of 64 bits, the message's, the part's index and the count of parts, 32 bits each. */
const HEAD_BYTES = 1 + 8 + 4 + 4 + 4;

/** The bytes that all unfinished messages may hold together; past it the oldest are given up. */
const MAX_HELD_BYTES = 64 * 1024 * 1024;

/** How many there may be: a Map of very many is slow to find its oldest entry once others in front of it were taken out. */
const MAX_UNFINISHED = 4096;

/** What an unfinished message costs besides its bytes and its key: measured at 660 with a short key. */
const MESSAGE_OVERHEAD_BYTES = 640;

/** How long a message may wait for its next part. */
const MAX_AGE_MS = 10_000;

/** More parts than a message of the largest size has at the smallest `max_payload` that makes sense. */
const MAX_PARTS = 65_536;

/** Whether these bytes are one part of a longer message. */
export function isPart(bytes: Uint8Array): boolean {
  return bytes[0] === PART;
}

/** Cuts a message into parts of at most `maxBytes` each, head and all. `publisher` is random; `sequence` counts its messages. */
export function cutIntoParts(
  bytes: Uint8Array,
  { maxBytes, publisher, sequence }: { maxBytes: number; publisher: bigint; sequence: number },
): Uint8Array[] {
  const room = maxBytes - HEAD_BYTES;
  const count = Math.ceil(bytes.length / room);
  return Array.from({ length: count }, (_empty, index) => {
    const piece = bytes.subarray(index * room, (index + 1) * room);
    const part = new Uint8Array(HEAD_BYTES + piece.length);
    const view = new DataView(part.buffer);
    view.setUint8(0, PART);
    view.setBigUint64(1, publisher);
    view.setUint32(9, sequence % 2 ** 32);
    view.setUint32(13, index);
    view.setUint32(17, count);
    part.set(piece, HEAD_BYTES);
    return part;
  });
}

/** A message of which parts have come, one behind the other in `bytes`, which has room for more. */
interface Unfinished {
  readonly sequence: number;
  readonly count: number;
  /** How many parts have come: the index of the next. */
  partCount: number;
  bytes: Uint8Array;
  length: number;
  lastPartAtMs: number;
}

/**
 * Joins parts to messages again.
 *
 * Order:  parts of one publisher come in order, one message after the other, since NATS keeps the order of a connection. So a
 *         part that is not the next one of its message means that others are lost, and the message with them.
 * Cost:   parts are copied behind each other as they come. Kept as they are, each would keep the buffer alive that it was
 *         received in, and ten thousand of one byte would cost far more than their bytes.
 * Errors: what is given up is told by `onLost`, with the reason.
 */
export class PartJoiner {
  readonly #nowMs: () => number;
  readonly #onLost: (reason: string) => void;
  /** By publisher and subject, oldest first. */
  readonly #unfinished = new Map<string, Unfinished>();
  #heldBytes = 0;
  /** The message whose first parts were missed last: its other parts are not counted as another loss. */
  #withoutBeginning = "";

  constructor({ nowMs, onLost }: { nowMs: () => number; onLost: (reason: string) => void }) {
    this.#nowMs = nowMs;
    this.#onLost = onLost;
  }

  /** How many messages wait for parts. */
  get size(): number {
    return this.#unfinished.size;
  }

  /** Takes a part that came on a subject; returns the whole message with its last one, else null. */
  add(subject: string, part: Uint8Array): Uint8Array | null {
    if (part.length < HEAD_BYTES) return this.#lost("a part is too short");
    const view = new DataView(part.buffer, part.byteOffset, part.byteLength);
    const key = `${view.getBigUint64(1)} ${subject}`;
    const [sequence, index, count] = [view.getUint32(9), view.getUint32(13), view.getUint32(17)];
    if (count > MAX_PARTS || index >= count) return this.#lost("a part has an index or count out of range");
    const piece = part.subarray(HEAD_BYTES);
    let message = this.#unfinished.get(key);
    const isNext = message?.sequence === sequence && message.count === count && message.partCount === index;
    if (message !== undefined && !isNext) {
      this.#giveUp(key, message, "parts of a message were lost");
      message = undefined;
    }
    if (message === undefined) {
      if (index > 0) return this.#lostBeginning(`${key} ${sequence}`);
      message = { sequence, count, partCount: 0, bytes: new Uint8Array(0), length: 0, lastPartAtMs: 0 };
    } else {
      this.#release(key, message);
    }
    append(message, piece);
    if (message.partCount === count) return message.bytes.subarray(0, message.length);
    message.lastPartAtMs = this.#nowMs();
    // Behind the others: the one that was heard of longest ago is given up first.
    this.#unfinished.set(key, message);
    this.#heldBytes += costOf(key, message);
    this.#bound();
    return null;
  }

  /** Gives up what has waited too long. */
  sweep(): void {
    const oldestMs = this.#nowMs() - MAX_AGE_MS;
    for (const [key, message] of this.#unfinished) {
      if (message.lastPartAtMs > oldestMs) return;
      this.#giveUp(key, message, `the rest of a message has not come for ${MAX_AGE_MS} ms`);
    }
  }

  #bound(): void {
    for (const [key, message] of this.#unfinished) {
      const isFew = this.#unfinished.size <= MAX_UNFINISHED;
      if (isFew && this.#heldBytes <= MAX_HELD_BYTES) return;
      const bound = isFew ? `hold more than ${MAX_HELD_BYTES} bytes` : `are more than ${MAX_UNFINISHED}`;
      this.#giveUp(key, message, `unfinished messages ${bound}`);
    }
  }

  #giveUp(key: string, message: Unfinished, reason: string): void {
    this.#release(key, message);
    this.#onLost(reason);
  }

  #release(key: string, message: Unfinished): void {
    this.#unfinished.delete(key);
    this.#heldBytes -= costOf(key, message);
  }

  #lostBeginning(message: string): null {
    if (message === this.#withoutBeginning) return null;
    this.#withoutBeginning = message;
    return this.#lost("the first parts of a message were lost");
  }

  #lost(reason: string): null {
    this.#onLost(reason);
    return null;
  }
}

function costOf(key: string, { bytes }: Unfinished): number {
  return MESSAGE_OVERHEAD_BYTES + key.length + bytes.length;
}

/** Room grows by doubling, and not past what parts as long as this one would need. */
function append(message: Unfinished, piece: Uint8Array): void {
  const needed = message.length + piece.length;
  if (needed > message.bytes.length) {
    const expected = needed + (message.count - message.partCount - 1) * piece.length;
    const grown = new Uint8Array(Math.max(needed, Math.min(expected, 2 * message.bytes.length)));
    grown.set(message.bytes.subarray(0, message.length));
    message.bytes = grown;
  }
  message.bytes.set(piece, message.length);
  message.length = needed;
  message.partCount++;
}
