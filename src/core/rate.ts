import { ownCopy } from "../protocol/own-copy.ts";

/** The rest of `burstSeconds` seconds' worth, `passedMs` after there were `left`. */
export function refill(left: number, perSecond: number, passedMs: number, burstSeconds = 1): number {
  return Math.min(perSecond * burstSeconds, left + (passedMs * perSecond) / 1000);
}

/**
 * The amount that a sender may still send: a bucket that fills at `perSecond` and holds one second's worth.
 *
 * Units:  `perSecond` in the unit that is counted (messages, bytes, connects); `now` in milliseconds of the clock.
 */
export class RateAllowance {
  readonly #perSecond: number;
  #left: number;
  #filledAt: number;

  constructor(perSecond: number, now: number) {
    this.#perSecond = perSecond;
    this.#left = perSecond;
    this.#filledAt = now;
  }

  /** Takes `amount`, or nothing and returns false where less than that is left. */
  take(amount: number, now: number): boolean {
    this.#left = refill(this.#left, this.#perSecond, now - this.#filledAt);
    this.#filledAt = now;
    if (amount > this.#left) return false;
    this.#left -= amount;
    return true;
  }

  /** Whether it would be as full as a new one, so that it can be forgotten. */
  isFull(now: number): boolean {
    return refill(this.#left, this.#perSecond, now - this.#filledAt) >= this.#perSecond;
  }
}

/**
 * One allowance for each address, forgotten once it is full again.
 *
 * Shape:  an address is a block of `addressBlock`.
 * Cost:   about 150 bytes for each address seen within the last second.
 */
export class AddressRates {
  readonly #perSecond: number;
  readonly #allowances = new Map<string, RateAllowance>();

  /** `perSecond` 0 lets everything pass. */
  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  take(block: string, now: number): boolean {
    if (this.#perSecond === 0) return true;
    let allowance = this.#allowances.get(block);
    if (allowance === undefined) {
      allowance = new RateAllowance(this.#perSecond, now);
      this.#allowances.set(ownCopy(block), allowance);
    }
    return allowance.take(1, now);
  }

  /** Forgets every address whose allowance is full. Called once a second. */
  sweep(now: number): void {
    for (const [block, allowance] of this.#allowances) {
      if (allowance.isFull(now)) this.#allowances.delete(block);
    }
  }

  get size(): number {
    return this.#allowances.size;
  }
}
