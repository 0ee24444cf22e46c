import { readFileSync, statSync } from "node:fs";

/** A change is acted on when it has stood for one round: between half a second and a second after the last write. */
const POLL_MS = 500;

/**
 * Calls back when a file has another content than before.
 *
 * Shape:  looks at the file by its path, so that its replacement by rename, an exchanged link (a Kubernetes ConfigMap) and a
 *         mount of the one file are seen like a write in place. Events of the kernel would miss some of these, and all of a
 *         network file system.
 * Errors: none; a file that is missing or cannot be read counts as unchanged until it is back.
 * Cost:   one `stat` every half second.
 */
export class ConfigWatch {
  readonly #path: string;
  readonly #onChanged: () => void;
  readonly #poll: ReturnType<typeof setInterval>;
  /** What the file looked like from outside when it was last read, and in the last round. */
  #read: string;
  #lastSeen: string;
  #content: string | null;

  constructor(path: string, onChanged: () => void) {
    this.#path = path;
    this.#onChanged = onChanged;
    this.#read = this.#lastSeen = readState(path);
    this.#content = readContent(path);
    this.#poll = setInterval(() => this.#look(), POLL_MS);
    // The watch alone must not keep a process alive that is done.
    this.#poll.unref();
  }

  /** Reads the file for another reason; null if it cannot be read. What it holds now counts as "before" from here on. */
  read(): string | null {
    const content = readContent(this.#path);
    this.#content = content ?? this.#content;
    return content;
  }

  /** May be called twice. */
  stop(): void {
    clearInterval(this.#poll);
  }

  #look(): void {
    const state = readState(this.#path);
    if (state === this.#read) return;
    if (state !== this.#lastSeen) {
      // Somebody may still be writing.
      this.#lastSeen = state;
      return;
    }
    this.#read = state;
    const content = readContent(this.#path);
    if (content === null || content === this.#content) return;
    this.#content = content;
    this.#onChanged();
  }
}

/** Every write, rename and exchange of a link changes it. Empty where nothing can be seen. */
function readState(path: string): string {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join();
  } catch {
    return "";
  }
}

function readContent(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}
