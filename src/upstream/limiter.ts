/** A call that waits for a place. */
export interface PlaceSeeker {
  /** The place is the call's from here on; it gives it back with `release`. */
  onPlace(): void;
}

/**
 * The places of one upstream entry: how many of its calls may be under way at once.
 *
 *   enter ──> place ──> release ──> the first in the queue, or free
 *     └─────> queue ──> leave (waited too long)
 *
 * Order: first come, first served; nobody overtakes the queue. The queue has no bound of its own: messages and
 *        disconnects are bounded by the connections they belong to, connects by `maxPendingUpgrades`, and all leave after
 *        `maxWaitMs`.
 */
export class Limiter {
  readonly #queue = new Set<PlaceSeeker>();
  #free: number;
  #isHandingOut = false;

  constructor(places: number) {
    this.#free = places;
  }

  /** Takes a place if one is free. Otherwise false, and the call may `queue`. */
  tryEnter(): boolean {
    if (this.#free === 0 || this.#queue.size > 0) return false;
    this.#free--;
    return true;
  }

  queue(seeker: PlaceSeeker): void {
    this.#queue.add(seeker);
  }

  /** Gives up waiting. */
  leave(seeker: PlaceSeeker): void {
    this.#queue.delete(seeker);
  }

  /** Gives a place back; the first that waits has it at once. */
  release(): void {
    this.#free++;
    // One that is refused its place's use gives it back at once: a loop, since ten thousand of them would be too deep.
    if (this.#isHandingOut || this.#queue.size === 0) return;
    this.#isHandingOut = true;
    try {
      for (const next of this.#queue) {
        if (this.#free === 0) break;
        this.#free--;
        this.#queue.delete(next);
        next.onPlace();
      }
    } finally {
      this.#isHandingOut = false;
    }
  }
}
