/** How long clients that make progress may keep new ones out. */
export const MAX_SHORTAGE_MS = 5000;

/** A shortage is forgotten this much slower than it builds up, so repeated shortages do not get the full time each. */
const RECOVERY_FACTOR = 4;

/**
 * How long memory has been short.
 *
 *     short     ─▶ as many milliseconds more, up to MAX_SHORTAGE_MS: the shortage is a long one
 *     not short ─▶ a quarter as many less
 */
export class Shortage {
  #shortMs = 0;
  #seenAt: number;
  #wasShort = false;

  constructor(now: number) {
    this.#seenAt = now;
  }

  /** Takes down whether memory is short. Returns whether it has been for too long. */
  see(isShort: boolean, now: number): boolean {
    const passedMs = now - this.#seenAt;
    const changeMs = this.#wasShort ? passedMs : -passedMs / RECOVERY_FACTOR;
    this.#shortMs = Math.min(MAX_SHORTAGE_MS, Math.max(0, this.#shortMs + changeMs));
    this.#seenAt = now;
    this.#wasShort = isShort;
    return isShort && this.#shortMs >= MAX_SHORTAGE_MS;
  }
}
