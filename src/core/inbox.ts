import type { ClientCommand } from "../protocol/client-protocol.ts";

/** What a command takes beyond its payload, in bytes. */
export const MESSAGE_BYTES = 256;

/**
 * The commands of one connection that wait behind the one in flight.
 *
 *     push ─▶ [ m5 m4 m3 ] ─▶ shift          isFull  : at either bound: reading from the client pauses
 *                                            isRelaxed: at half of both: it goes on
 *
 * Shape:  first in, first out. Bytes are those of the payloads.
 * Order:  a full inbox still takes what was read before the pause took hold; only reading stops, nothing is dropped.
 * Source: PROTOCOL.md, "Being slowed down".
 */
export class Inbox {
  /** When a command was last taken out, reading last paused, or the first came. Set by commands; milliseconds of the clock. */
  progressAt: number;
  /** Whether reading from the client is paused. Set by commands. */
  paused = false;

  readonly #maxMessages: number;
  readonly #maxBytes: number;
  #commands: (ClientCommand | undefined)[] = [];
  #head = 0;
  #bytes = 0;

  constructor(bounds: { maxMessages: number; maxBytes: number }, now: number) {
    this.progressAt = now;
    this.#maxMessages = bounds.maxMessages;
    this.#maxBytes = bounds.maxBytes;
  }

  get count(): number {
    return this.#commands.length - this.#head;
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

  push(command: ClientCommand): void {
    this.#commands.push(command);
    this.#bytes += command.payload.length;
  }

  shift(): ClientCommand | undefined {
    const command = this.#commands[this.#head];
    if (command === undefined) return undefined;
    this.#commands[this.#head] = undefined;
    this.#head++;
    this.#bytes -= command.payload.length;
    // Cutting the spent front off now and then keeps a shift O(1) and the array as short as the queue.
    if (this.#head >= 64 && this.#head * 2 >= this.#commands.length) {
      this.#commands = this.#commands.slice(this.#head);
      this.#head = 0;
    }
    return command;
  }
}
