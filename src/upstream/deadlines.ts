import type { Clock } from "../core/ports.ts";

/** How late a deadline may be noticed, in milliseconds. */
export const SWEEP_INTERVAL_MS = 50;

/** Something that waits, and must hear of it when it has waited too long. */
export interface Waiting {
  /** In the clock's time. May move while it waits. */
  readonly deadlineMs: number;
  /** Called once the deadline has passed, and again each sweep until it is removed. */
  expire(): void;
}

/**
 * The deadlines of everything that waits for an upstream.
 *
 * One sweep looks at all of them, since a timer for each call would cost more than the call's own bookkeeping. It runs
 * only while something waits, and ends itself.
 */
export class Deadlines {
  readonly #clock: Clock;
  readonly #waiting = new Set<Waiting>();
  #cancelSweep: (() => void) | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(waiting: Waiting): void {
    this.#waiting.add(waiting);
    this.#cancelSweep ??= this.#clock.every(SWEEP_INTERVAL_MS, () => this.#sweep());
  }

  remove(waiting: Waiting): void {
    this.#waiting.delete(waiting);
  }

  /** Everything that waits. What is removed while it is gone through is left out. */
  [Symbol.iterator](): IterableIterator<Waiting> {
    return this.#waiting.values();
  }

  stop(): void {
    this.#cancelSweep?.();
    this.#cancelSweep = null;
    this.#waiting.clear();
  }

  #sweep(): void {
    const now = this.#clock.now();
    for (const waiting of this.#waiting) {
      if (waiting.deadlineMs <= now) waiting.expire();
    }
    // Stopped here and not in `remove`: a lone caller would start and stop a timer with every call.
    if (this.#waiting.size === 0) this.stop();
  }
}
