/**
 * Counts what must have ended before the process may: connects being asked, connections, disconnects being sent.
 *
 * Order:  an item begins before its connect event is posted and ends after its disconnect event was answered or given up.
 */
export class Outstanding {
  #count = 0;
  #waiters: (() => void)[] = [];

  get count(): number {
    return this.#count;
  }

  begin(): void {
    this.#count++;
  }

  end(): void {
    this.#count--;
    if (this.#count > 0) return;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }

  /** Resolves when nothing is outstanding; at once where nothing is. */
  whenNone(): Promise<void> {
    if (this.#count === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }
}
