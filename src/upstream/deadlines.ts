import type { Clock } from "../core/ports/clock.ts";

/** How late a deadline may be noticed, in milliseconds. */
export const SWEEP_INTERVAL_MS = 50;

/** Something that waits, and must hear of it when it has waited too long. */
export interface Waiting {
  /** In the clock's time. May move while it waits. */
  readonly deadlineMs: number;
  /** Its index among all that wait; -1 while it does not wait. Kept by `Deadlines`. */
  deadlineSlot: number;
  /** Called once the deadline has passed, and again each sweep until it is removed. */
  expire(nowMs: number): void;
}

/**
 * The deadlines of everything that waits for an upstream.
 *
 * One sweep looks at all of them, since a timer for each call would cost more than the call's own bookkeeping. It runs
 * only while something waits, and ends itself. An array, since a `Set` into which each call goes and out of which it comes
 * makes a new table for every few: the old ones refer to the new ones, and one that has grown old keeps all after it alive
 * until the next full collection.
 */
export class Deadlines {
  readonly #clock: Clock;
  readonly #waiting: Waiting[] = [];
  #cancelSweep: (() => void) | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** It must not wait already. */
  add(waiting: Waiting): void {
    waiting.deadlineSlot = this.#waiting.length;
    this.#waiting.push(waiting);
    this.#cancelSweep ??= this.#clock.every(SWEEP_INTERVAL_MS, () => this.#sweep());
  }

  remove(waiting: Waiting): void {
    const slot = waiting.deadlineSlot;
    const last = slot === -1 ? undefined : this.#waiting.pop();
    if (last === undefined) return;
    waiting.deadlineSlot = -1;
    if (last === waiting) return;
    last.deadlineSlot = slot;
    this.#waiting[slot] = last;
  }

  /** Everything that waits. */
  all(): Waiting[] {
    return [...this.#waiting];
  }

  stop(): void {
    this.#cancelSweep?.();
    this.#cancelSweep = null;
    for (const waiting of this.#waiting) waiting.deadlineSlot = -1;
    this.#waiting.length = 0;
  }

  #sweep(): void {
    const now = this.#clock.now();
    // From the end, since what is removed leaves its place to the last one: that one has been looked at.
    for (let i = this.#waiting.length - 1; i >= 0; i--) {
      const waiting = this.#waiting[i];
      if (waiting !== undefined && waiting.deadlineMs <= now) waiting.expire(now);
    }
    // Stopped here and not in `remove`: a lone caller would start and stop a timer with every call.
    if (this.#waiting.length === 0) this.stop();
  }
}
