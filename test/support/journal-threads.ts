import { Database } from "bun:sqlite";
import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** How many operations one batch had. */
function sizeOf(message: unknown): number[] {
  return Array.isArray(message) && message[0] === "batch" && Array.isArray(message[1]) ? [message[1].length] : [];
}

/**
 * A hand on the real threads of journals that are opened while this is in use: they are watched, killed or made to hang.
 *
 * Order: the first thread of a journal writes; the second, when there is one, plays the log into the file.
 */
export class JournalThreads {
  readonly started: Worker[] = [];
  /** Of every batch that was posted to a thread, the number of its operations. */
  readonly batchSizes: number[] = [];
  /** Set to have the next thread refused, as a system does that has none to give. */
  refusal: string | null = null;
  readonly #own = globalThis.Worker;
  readonly #folders: string[] = [];

  constructor() {
    const watch = this;
    globalThis.Worker = class extends this.#own {
      constructor(url: string | URL, options?: WorkerOptions) {
        if (watch.refusal !== null) throw new Error(watch.refusal);
        super(url, options);
        watch.started.push(this);
      }
      override postMessage(message: unknown): void {
        watch.batchSizes.push(...sizeOf(message));
        super.postMessage(message);
      }
    };
  }

  /** Kills the thread that was started last, at any moment of its work. */
  kill(): void {
    this.started.at(-1)?.terminate();
  }

  /** Has the thread that was started last wait in a call of the system's, for a pipe that nobody opens, as for a disk that hangs. */
  hang(): void {
    const folder = mkdtempSync(join(tmpdir(), "hubwire-hang-"));
    this.#folders.push(folder);
    const database = new Database(join(folder, "journal.sqlite"));
    database.run("CREATE TABLE some (column)");
    database.close();
    // SQLite reads it before the file itself, in case a crash has left it.
    execFileSync("mkfifo", [join(folder, "journal.sqlite-journal")]);
    this.started.at(-1)?.postMessage(["open", folder, "normal"]);
  }

  [Symbol.dispose](): void {
    globalThis.Worker = this.#own;
    for (const folder of this.#folders) {
      // A thread that waits for the pipe goes on.
      closeSync(openSync(join(folder, "journal.sqlite-journal"), constants.O_RDWR | constants.O_NONBLOCK));
      rmSync(folder, { recursive: true, force: true });
    }
  }
}
