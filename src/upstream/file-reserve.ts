import { closeSync, openSync } from "node:fs";
import { devNull } from "node:os";

/** The most files that are held, even if the entries may use more: opening them takes a start two milliseconds or three. */
const MAX_FILES = 256;

/**
 * Keeps files free for sockets to upstreams. A stranger can open TCP connections until the process has no file left; the clients that
 * are connected would then lose their messages, since no socket to the backend could be opened.
 *
 * Shape: placeholders, open on the null device. One is closed right before a socket is opened, and opened again once that socket is
 *        closed: nothing else can take the file in between, since all of that is one turn of the event loop.
 * Bound: 256 files in all, sockets in use included; sockets beyond them compete with all others.
 * Cost:  two system calls, some 3 µs, for a socket that is opened and closed.
 * Source: decision 0030.
 */
export class FileReserve {
  readonly #placeholders: number[] = [];
  #size = 0;
  #inUse = 0;

  /** How many sockets are open or being opened. */
  get inUse(): number {
    return this.#inUse;
  }

  /** How many files are kept free now. */
  get free(): number {
    return this.#placeholders.length;
  }

  /** Sets how many files there are for sockets, those in use included. */
  resize(size: number): void {
    this.#size = Math.min(size, MAX_FILES);
    while (this.#placeholders.length > 0 && this.#placeholders.length + this.#inUse > this.#size) this.#closeOne();
    this.#refill();
  }

  /** A socket is about to be opened. `giveBack` follows once it is closed, or could not be opened. */
  take(): void {
    this.#inUse++;
    this.#closeOne();
  }

  giveBack(): void {
    this.#inUse--;
    this.#refill();
  }

  #closeOne(): void {
    const placeholder = this.#placeholders.pop();
    if (placeholder !== undefined) closeSync(placeholder);
  }

  #refill(): void {
    try {
      while (this.#placeholders.length + this.#inUse < this.#size) this.#placeholders.push(openSync(devNull, "r"));
    } catch {
      // No file is left: the next socket that is closed gives one.
    }
  }
}
