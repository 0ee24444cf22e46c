/** A body of no bytes. */
export const NO_BYTES = new Uint8Array(0);

/** A copy of some bytes. `Buffer.slice` does not copy: it gives a view. */
export function copyOf(bytes: Uint8Array, start: number, end: number): Uint8Array {
  return Uint8Array.prototype.slice.call(bytes, start, end);
}

/**
 * Joins bytes that arrive in pieces.
 *
 * It grows by doubling rather than keep a list of pieces: a peer that drips single bytes would otherwise cost a hundred
 * times what it sends.
 */
export class ByteGatherer {
  #bytes: Uint8Array = NO_BYTES;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** The bytes that have been gathered so far. Valid until the next `append`. */
  get view(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  /** `missing`: so many bytes are known to follow, so that room for them is made at once. */
  append(piece: Uint8Array, missing = 0): void {
    const needed = this.#length + piece.length;
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(missing > 0 ? needed + missing : Math.max(needed, this.#bytes.length * 2));
      grown.set(this.view);
      this.#bytes = grown;
    }
    this.#bytes.set(piece, this.#length);
    this.#length = needed;
  }

  clear(): void {
    this.#bytes = NO_BYTES;
    this.#length = 0;
  }

  /** Hands the gathered bytes over and starts again. */
  take(): Uint8Array {
    if (this.#length === 0) return NO_BYTES;
    const taken = this.view;
    this.clear();
    return taken;
  }
}
