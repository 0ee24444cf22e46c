/** A call that waits for a place. */
export interface PlaceSeeker {
  /** The place is the call's from here on; it gives it back with `release`. */
  onPlace(): void;
}

/** A call in the queue, with those in front of it and behind it. */
interface Turn {
  readonly seeker: PlaceSeeker;
  before: Turn | null;
  behind: Turn | null;
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
 * Cost:  the same for each call, however many wait: the queue is a list. A Set finds its first slowly once many in front of it
 *        were taken out (28 µs with 10,000).
 */
export class Limiter {
  readonly #turns = new Map<PlaceSeeker, Turn>();
  #first: Turn | null = null;
  #last: Turn | null = null;
  #free: number;
  #isHandingOut = false;

  constructor(places: number) {
    this.#free = places;
  }

  /** Takes a place if one is free. Otherwise false, and the call may `queue`. */
  tryEnter(): boolean {
    if (this.#free === 0 || this.#first !== null) return false;
    this.#free--;
    return true;
  }

  queue(seeker: PlaceSeeker): void {
    const turn: Turn = { seeker, before: this.#last, behind: null };
    if (this.#last === null) this.#first = turn;
    else this.#last.behind = turn;
    this.#last = turn;
    this.#turns.set(seeker, turn);
  }

  /** Gives up waiting. */
  leave(seeker: PlaceSeeker): void {
    const turn = this.#turns.get(seeker);
    if (turn === undefined) return;
    this.#turns.delete(seeker);
    if (turn.before === null) this.#first = turn.behind;
    else turn.before.behind = turn.behind;
    if (turn.behind === null) this.#last = turn.before;
    else turn.behind.before = turn.before;
  }

  /** Gives a place back; the first that waits has it at once. */
  release(): void {
    this.#free++;
    // One that is refused its place's use gives it back at once: a loop, since ten thousand of them would be too deep.
    if (this.#isHandingOut || this.#first === null) return;
    this.#isHandingOut = true;
    try {
      while (this.#first !== null && this.#free > 0) {
        const { seeker } = this.#first;
        this.#free--;
        this.leave(seeker);
        seeker.onPlace();
      }
    } finally {
      this.#isHandingOut = false;
    }
  }
}
