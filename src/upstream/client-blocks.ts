import { addressBlock } from "../config/ip-address.ts";
import type { ConnectionFacts } from "../protocol/facts.ts";

/** Longest `X-Forwarded-For` that can be an IPv4 address alone: that is its own block. */
const IPV4_CHARS = 15;

/**
 * The addresses that count as a connection's client, found once for each connection that is asked for.
 *
 * Cost: nothing for a connection that is never asked for. An IPv6 address or a chain of proxies costs up to 4 µs the first time.
 */
export class ClientBlocks {
  readonly #clientOf: (forwardedFor: string) => string;
  /** They keep no connection alive. */
  readonly #known = new WeakMap<ConnectionFacts, string>();

  /** `clientOf` names the client of a whole `X-Forwarded-For`. */
  constructor(clientOf: (forwardedFor: string) => string) {
    this.#clientOf = clientOf;
  }

  of(facts: ConnectionFacts): string {
    const { forwardedFor } = facts;
    if (forwardedFor.length <= IPV4_CHARS && !/[:,]/.test(forwardedFor)) return forwardedFor;
    const known = this.#known.get(facts);
    if (known !== undefined) return known;
    const block = addressBlock(this.#clientOf(forwardedFor));
    this.#known.set(facts, block);
    return block;
  }
}
