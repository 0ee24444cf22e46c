import type { Clock } from "../../src/core/ports/clock.ts";

interface Timer {
  dueAt: number;
  /** Null for a callback that comes once. */
  readonly intervalMs: number | null;
  readonly callback: () => void;
}

/**
 * A clock that moves only when the test moves it.
 *
 * Order: callbacks run at the time they were due for, earlier ones first, those of one time in the order they were made.
 */
export class FakeClock implements Clock {
  #nowMs = 5000;
  readonly #timers = new Set<Timer>();

  now(): number {
    return this.#nowMs;
  }

  /** How many callbacks are still to come; an interval counts as one. */
  get timerCount(): number {
    return this.#timers.size;
  }

  after(delayMs: number, callback: () => void): () => void {
    return this.#add({ dueAt: this.#nowMs + delayMs, intervalMs: null, callback });
  }

  every(intervalMs: number, callback: () => void): () => void {
    if (!(intervalMs > 0)) throw new Error(`an interval of ${intervalMs} ms would never let time pass`);
    return this.#add({ dueAt: this.#nowMs + intervalMs, intervalMs, callback });
  }

  /** Moves time on. Before each callback and at the end, everything that promises lead to has happened. */
  async advance(byMs: number): Promise<void> {
    const endMs = this.#nowMs + byMs;
    await settled();
    for (let next = this.#nextDue(endMs); next !== null; next = this.#nextDue(endMs)) {
      this.#run(next);
      await settled();
    }
    this.#nowMs = endMs;
  }

  /** The same at once: what callbacks leave to promises comes later. */
  advanceSync(byMs: number): void {
    const endMs = this.#nowMs + byMs;
    for (let next = this.#nextDue(endMs); next !== null; next = this.#nextDue(endMs)) this.#run(next);
    this.#nowMs = endMs;
  }

  /** Moves time on as it goes on for a process that is held up: what was due comes late, and once. */
  skip(byMs: number): void {
    this.#nowMs += byMs;
    for (const timer of this.#timers) timer.dueAt = Math.max(timer.dueAt, this.#nowMs);
  }

  #run(timer: Timer): void {
    this.#nowMs = timer.dueAt;
    if (timer.intervalMs === null) this.#timers.delete(timer);
    else timer.dueAt += timer.intervalMs;
    timer.callback();
  }

  #nextDue(endMs: number): Timer | null {
    let next: Timer | null = null;
    for (const timer of this.#timers) {
      if (timer.dueAt <= endMs && (next === null || timer.dueAt < next.dueAt)) next = timer;
    }
    return next;
  }

  #add(timer: Timer): () => void {
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }
}

/** Resolves when every promise that could settle without time or I/O has done so, and what waited for it has run. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
