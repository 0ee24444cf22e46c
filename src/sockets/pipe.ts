/** The target of a pipe, whose reading the pipe can hold back. A Bun socket is both. */
export interface PipeSocket {
  write(bytes: Uint8Array): number;
  end(): void;
  pause(): void;
  resume(): void;
}

/** The source of bytes, held back while they cannot be written. */
export type PipeSource = Pick<PipeSocket, "pause" | "resume">;

/**
 * The writing half of one socket: keeps what the kernel does not take, and holds the source back meanwhile.
 *
 * Order:  bytes go out in the order of `write`; `end` after all of them.
 * Cost:   at most one read of the source waits here, since it is paused at the first byte that does not fit.
 */
export class Pipe {
  readonly #socket: PipeSocket;
  #waiting: Uint8Array[] = [];
  #early: Uint8Array[] = [];
  #source: PipeSource | null = null;
  #ending = false;

  constructor(socket: PipeSocket) {
    this.#socket = socket;
  }

  write(bytes: Uint8Array, source: PipeSource): void {
    if (this.#waiting.length === 0) {
      const written = this.#socket.write(bytes);
      // Below 0: the socket has closed, and its close handler ends the rest.
      if (written < 0 || written >= bytes.length) return;
      this.#waiting.push(new Uint8Array(bytes.subarray(written)));
    } else {
      // Bun reuses its read buffer after the handler, so what waits must be a copy.
      this.#waiting.push(new Uint8Array(bytes));
    }
    this.#source = source;
    source.pause();
  }

  /** Whether something waits for the other side to read. */
  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  /** The socket can take more. */
  drained(): void {
    for (;;) {
      const [next] = this.#waiting;
      if (next === undefined) break;
      const written = this.#socket.write(next);
      if (written < 0) return;
      if (written < next.length) {
        this.#waiting[0] = next.subarray(written);
        return;
      }
      this.#waiting.shift();
    }
    this.#source?.resume();
    this.#source = null;
    if (this.#ending) this.#socket.end();
  }

  /** Ends the socket once everything is written. */
  end(): void {
    this.#ending = true;
    if (this.#waiting.length === 0) this.#socket.end();
  }

  /** Keeps bytes that came from this socket before the other side was open. */
  keepEarly(bytes: Uint8Array): void {
    this.#early.push(new Uint8Array(bytes));
  }

  takeEarly(): Uint8Array[] {
    const early = this.#early;
    this.#early = [];
    return early;
  }
}
