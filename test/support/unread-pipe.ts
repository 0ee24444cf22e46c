import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A pipe for the output of another process, which nobody reads until `read` is called. Linux. */
export class UnreadPipe implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "hubwire-pipe-"));
  readonly #path = join(this.#folder, "pipe");
  readonly #reader: number;
  /** To be given to the process as its standard output or standard error. */
  readonly writer: number;

  constructor() {
    execFileSync("mkfifo", [this.#path]);
    this.#reader = openSync(this.#path, constants.O_RDONLY | constants.O_NONBLOCK);
    this.writer = openSync(this.#path, constants.O_WRONLY);
  }

  /** Leaves no room for a single byte. */
  fill(): void {
    const filler = openSync(this.#path, constants.O_WRONLY | constants.O_NONBLOCK);
    // A pipe takes no part of what is as short as this, so the second round fills what the first has left.
    for (const size of [4096, 1]) {
      try {
        for (;;) writeSync(filler, Buffer.alloc(size, "\n"));
      } catch (error) {
        if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) throw error;
      }
    }
    closeSync(filler);
  }

  /** What is in the pipe. */
  read(): string {
    const parts: Buffer[] = [];
    const room = Buffer.alloc(65_536);
    for (;;) {
      const length = this.#readSome(room);
      if (length === 0) return Buffer.concat(parts).toString();
      parts.push(Buffer.from(room.subarray(0, length)));
    }
  }

  #readSome(room: Buffer): number {
    try {
      return readSync(this.#reader, room);
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "EAGAIN") return 0;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.writer);
    closeSync(this.#reader);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
