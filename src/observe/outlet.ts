import { constants, fstatSync, openSync, writeSync } from "node:fs";

/** Where lines go, in a way that never holds the event loop. */
export interface Outlet {
  /**
   * Writes what can be written at once and returns how many bytes that were: 0 where nobody reads. Null: it is being written, and
   * `onEnd` will be called.
   *
   * Errors: throws, or calls `onEnd` with the error.
   */
  write(bytes: Uint8Array, onEnd: (error: Error | null, byteCount: number) => void): number | null;
}

/**
 * Opens a descriptor of the process (1, 2) for writing without waiting.
 *
 * Shape:  a pipe or a terminal is opened anew, without blocking: the flag belongs to what was opened, and other processes write to
 *         this one too. A file does not block. An output that cannot be opened again (a socket, another user's terminal) gets Bun's writer.
 * Why:    `process.stderr` costs the start 17 ms, and a thread of the runtime's pool that waits for a reader is missing for DNS and
 *         files.
 */
export function openOutlet(descriptor: number): Outlet {
  try {
    if (fstatSync(descriptor).isFile()) return new DirectOutlet(descriptor);
    const flags = constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY | constants.O_APPEND;
    return new DirectOutlet(openSync(`/proc/self/fd/${descriptor}`, flags));
  } catch {
    return new SinkOutlet(descriptor);
  }
}

class DirectOutlet implements Outlet {
  readonly #descriptor: number;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  write(bytes: Uint8Array): number {
    try {
      return writeSync(this.#descriptor, bytes);
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "EAGAIN") return 0;
      throw error;
    }
  }
}

/** Bun's own writer, which waits in the event loop. It makes the descriptor non-blocking for all that share it. */
class SinkOutlet implements Outlet {
  readonly #sink: Bun.FileSink;

  constructor(descriptor: number) {
    this.#sink = Bun.file(descriptor).writer();
  }

  write(bytes: Uint8Array, onEnd: (error: Error | null, byteCount: number) => void): number | null {
    this.#sink.write(bytes as Uint8Array<ArrayBuffer>);
    const flushed = this.#sink.flush();
    if (!(flushed instanceof Promise)) return bytes.length;
    flushed.then(
      () => onEnd(null, bytes.length),
      (error: Error) => onEnd(error, 0),
    );
    return null;
  }
}
