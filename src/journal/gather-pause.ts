/** How long changes gather if no caller waits for them: at most fifty messages a second, however many clients come and go. */
const GATHER_MS = 20;

/**
 * The pause before a message of the replica, in which further changes join it.
 *
 * Order: `endSoon` ends it behind the current turn of the event loop, so that all changes of one turn are in one message.
 */
export class GatherPause {
  #end: (() => void) | null = null;
  #isEnding = false;

  /** Resolves after 20 ms, or earlier where `end` or `endSoon` is called. */
  start(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.end(), GATHER_MS);
      this.#end = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** A caller waits for the message. */
  endSoon(): void {
    if (this.#end === null || this.#isEnding) return;
    this.#isEnding = true;
    setImmediate(() => this.end());
  }

  end(): void {
    const end = this.#end;
    this.#end = null;
    this.#isEnding = false;
    end?.();
  }
}
