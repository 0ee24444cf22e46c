import type { Clock } from "../../core/ports.ts";

interface Timer {
  dueAt: number;
  readonly intervalMs: number | null;
  readonly callback: () => void;
}

/** A clock that moves only when the test says so. */
export class ManualClock implements Clock {
  #now = 1000;
  readonly #timers = new Set<Timer>();

  now(): number {
    return this.#now;
  }

  /** How many timers have been started and not ended. */
  get timerCount(): number {
    return this.#timers.size;
  }

  after(delayMs: number, callback: () => void): () => void {
    return this.#start({ dueAt: this.#now + delayMs, intervalMs: null, callback });
  }

  every(intervalMs: number, callback: () => void): () => void {
    return this.#start({ dueAt: this.#now + intervalMs, intervalMs, callback });
  }

  /** Moves on by so much and runs what falls due on the way, in its order. */
  advance(byMs: number): void {
    const end = this.#now + byMs;
    for (;;) {
      const [next] = [...this.#timers].filter((timer) => timer.dueAt <= end).sort((a, b) => a.dueAt - b.dueAt);
      if (next === undefined) break;
      this.#now = next.dueAt;
      if (next.intervalMs === null) this.#timers.delete(next);
      else next.dueAt += next.intervalMs;
      next.callback();
    }
    this.#now = end;
  }

  #start(timer: Timer): () => void {
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }
}
