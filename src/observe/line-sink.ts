import { type Outlet, openOutlet } from "./outlet.ts";

/** How often a pipe that was full is tried again. */
const FULL_RETRY_MS = 25;
/** How long after a fault, such as a full disk or a reader that has gone, the next try is. */
const FAULT_RETRY_MS = 1000;

export interface LineSinkOptions {
  /** Bytes that may wait; asked for each line. */
  readonly maxBytes: () => number;
  /** Called once lines are written again, with the number of those that were dropped. It may write. */
  readonly onDropped: (count: number) => void;
}

/**
 * Writes lines to standard output or standard error and never waits for their reader.
 *
 *     write ─▶ the descriptor takes it at once
 *        └───▶ [ what waits, up to maxBytes ] ─▶ tried again ─▶ the descriptor
 *                    └ no room: dropped, and counted
 *
 * Order:  as written. Up to 4,096 bytes a line stays whole, though other processes write to the same pipe.
 */
export class LineSink {
  readonly #options: LineSinkOptions;
  readonly #outlet: Outlet;
  /** In order; those before `#next` have been written. */
  #waiting: Uint8Array[] = [];
  #next = 0;
  #waitingBytes = 0;
  #droppedCount = 0;
  /** Whether a write is under way, or a timer will try again. */
  #isBusy = false;
  readonly #onEnd = (error: Error | null, byteCount: number): void => {
    if (error !== null) {
      this.#tryLater(FAULT_RETRY_MS);
      return;
    }
    this.#isBusy = false;
    const first = this.#waiting[this.#next];
    if (first !== undefined) this.#advance(first, byteCount);
    this.#pump();
  };

  /** Shape: `descriptor` is 1 or 2; a test may give an outlet of its own. */
  constructor(descriptor: number | Outlet, options: LineSinkOptions) {
    this.#outlet = typeof descriptor === "number" ? openOutlet(descriptor) : descriptor;
    this.#options = options;
  }

  /** Bytes that wait. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** The line ends with its line end. */
  write(line: string): void {
    this.writeBytes(Buffer.from(line));
  }

  /** The bytes must not change any more. */
  writeBytes(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (this.#waitingBytes > 0 && this.#waitingBytes + bytes.length > this.#options.maxBytes()) {
      this.#droppedCount++;
      return;
    }
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    this.#pump();
  }

  /** Resolves once nothing waits, or after the deadline. */
  async flush(deadlineMs: number): Promise<void> {
    const lastMs = performance.now() + deadlineMs;
    while (this.#waitingBytes > 0 && performance.now() < lastMs) {
      await new Promise((resolve) => setTimeout(resolve, FULL_RETRY_MS));
    }
  }

  #pump(): void {
    while (!this.#isBusy) {
      const first = this.#waiting[this.#next];
      if (first === undefined) return;
      try {
        this.#isBusy = true;
        const written = this.#outlet.write(first, this.#onEnd);
        if (written === null) return;
        this.#isBusy = false;
        if (written === 0) this.#tryLater(FULL_RETRY_MS);
        else this.#advance(first, written);
      } catch {
        this.#tryLater(FAULT_RETRY_MS);
      }
    }
  }

  #advance(first: Uint8Array, byteCount: number): void {
    this.#waitingBytes -= byteCount;
    if (byteCount < first.length) {
      this.#waiting[this.#next] = first.subarray(byteCount);
      return;
    }
    this.#next++;
    // In steps, since each costs as much as there are lines left.
    if (this.#next * 2 >= this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#next);
      this.#next = 0;
    }
    this.#sayDropped();
  }

  /** Not for every line that a slow reader makes room for: there must be room for half of what may wait. */
  #sayDropped(): void {
    if (this.#droppedCount === 0 || this.#waitingBytes > this.#options.maxBytes() / 2) return;
    const count = this.#droppedCount;
    this.#droppedCount = 0;
    this.#options.onDropped(count);
  }

  #tryLater(delayMs: number): void {
    this.#isBusy = true;
    const timer = setTimeout(() => {
      this.#isBusy = false;
      this.#pump();
    }, delayMs);
    // A process that is done must not wait for the reader of its log.
    timer.unref();
  }
}
