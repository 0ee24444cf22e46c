/** The only source of time in `core`. Milliseconds; `now` is monotonic. */
export interface Clock {
  now(): number;
  /** Calls back once, after `delayMs`. The returned function cancels. */
  after(delayMs: number, callback: () => void): () => void;
  /** Calls back every `intervalMs`. The returned function cancels. */
  every(intervalMs: number, callback: () => void): () => void;
}
