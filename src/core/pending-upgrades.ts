import { ownCopy } from "../protocol/own-copy.ts";

export interface PendingUpgradesOptions {
  readonly maxPendingUpgrades: number;
  /** Null: a quarter of `maxPendingUpgrades`. */
  readonly maxPendingUpgradesPerAddress: number | null;
}

/** How many handshakes of one client address may wait at the same time. */
export function maxPendingPerAddress(options: PendingUpgradesOptions): number {
  return options.maxPendingUpgradesPerAddress ?? Math.ceil(options.maxPendingUpgrades / 4);
}

/**
 * Counts the handshakes that wait, in all and for each client address. A handshake waits until its connect event's call has ended,
 * even where the client has left: the call still takes a place at the upstream.
 *
 * Shape: an address is a block of `addressBlock`.
 * Cost:  about 150 bytes for each address that waits.
 */
export class PendingUpgrades {
  readonly #options: PendingUpgradesOptions;
  readonly #perBlock = new Map<string, number>();
  #count = 0;

  constructor(options: PendingUpgradesOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#count;
  }

  get isFull(): boolean {
    return this.#count >= this.#options.maxPendingUpgrades;
  }

  isFullFor(block: string): boolean {
    return (this.#perBlock.get(block) ?? 0) >= maxPendingPerAddress(this.#options);
  }

  /** `remove` must follow. */
  add(block: string): void {
    this.#count++;
    const count = this.#perBlock.get(block);
    if (count === undefined) this.#perBlock.set(ownCopy(block), 1);
    else this.#perBlock.set(block, count + 1);
  }

  remove(block: string): void {
    this.#count--;
    const count = this.#perBlock.get(block) ?? 0;
    if (count > 1) this.#perBlock.set(block, count - 1);
    else this.#perBlock.delete(block);
  }
}
