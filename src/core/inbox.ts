/** A complete message from a client: its bytes as they came, and whether its frames were binary. */
export interface InboundMessage {
  readonly payload: Uint8Array;
  readonly binary: boolean;
}

/** What a message takes beyond its payload, in bytes. */
export const MESSAGE_BYTES = 256;

/**
 * The messages of one connection that wait behind the one in flight.
 *
 *     push ─▶ [ m5 m4 m3 ] ─▶ shift          isFull  : at either bound: reading from the client pauses
 *                                            isRelaxed: at half of both: it goes on
 *
 * Shape:  first in, first out. Bytes are those of the payloads.
 * Order:  a full inbox still takes what was read before the pause took hold; only reading stops, nothing is dropped.
 * Source: PROTOCOL.md, "Being slowed down".
 */
export class Inbox {
  /** When a message was last taken out, reading last paused, or the first came. Set by dispatch; milliseconds of the clock. */
  progressAt: number;
  /** Whether reading from the client is paused. Set by dispatch. */
  paused = false;

  readonly #maxMessages: number;
  readonly #maxBytes: number;
  #messages: (InboundMessage | undefined)[] = [];
  #head = 0;
  #bytes = 0;

  constructor(bounds: { maxMessages: number; maxBytes: number }, now: number) {
    this.progressAt = now;
    this.#maxMessages = bounds.maxMessages;
    this.#maxBytes = bounds.maxBytes;
  }

  get count(): number {
    return this.#messages.length - this.#head;
  }

  get byteCount(): number {
    return this.#bytes;
  }

  get isFull(): boolean {
    return this.count >= this.#maxMessages || this.#bytes >= this.#maxBytes;
  }

  get isRelaxed(): boolean {
    return this.count * 2 <= this.#maxMessages && this.#bytes * 2 <= this.#maxBytes;
  }

  push(message: InboundMessage): void {
    this.#messages.push(message);
    this.#bytes += message.payload.length;
  }

  shift(): InboundMessage | undefined {
    const message = this.#messages[this.#head];
    if (message === undefined) return undefined;
    this.#messages[this.#head] = undefined;
    this.#head++;
    this.#bytes -= message.payload.length;
    // Cutting the spent front off now and then keeps a shift O(1) and the array as short as the queue.
    if (this.#head >= 64 && this.#head * 2 >= this.#messages.length) {
      this.#messages = this.#messages.slice(this.#head);
      this.#head = 0;
    }
    return message;
  }
}
