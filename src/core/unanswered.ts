import type { Connection } from "./connection.ts";
import type { MessageInFlight } from "./message-call.ts";

/**
 * How long messages in flight have had no answer, as far as they were looked at.
 *
 * Why not a time on each message: it is not needed as long as memory is not short.
 * Cost:   an entry for each message in flight while it is looked at.
 */
export class Unanswered {
  #seenAt = new Map<MessageInFlight, number>();

  /** Looks at these connections; times of messages that are not in flight any more are forgotten. */
  look(connections: readonly Connection[], now: number): void {
    const before = this.#seenAt;
    this.#seenAt = new Map();
    for (const { inFlight } of connections) {
      if (inFlight !== null) this.#seenAt.set(inFlight, before.get(inFlight) ?? now);
    }
  }

  forget(): void {
    if (this.#seenAt.size > 0) this.#seenAt.clear();
  }

  /** How long the connection's message in flight has been seen; 0 where none is, or it is new. Units: milliseconds. */
  ageMs({ inFlight }: Connection, now: number): number {
    return inFlight === null ? 0 : now - (this.#seenAt.get(inFlight) ?? now);
  }
}
