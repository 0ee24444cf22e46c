import { readFileSync, statSync } from "node:fs";

/** A change is acted on when the file has not changed again for one round: between half a second and a second after the last write. */
const POLL_MS = 500;

/**
 * Calls back when one of several files looks different from outside than before, a missing one included.
 *
 * Shape:  looks at files by their paths, so that a replacement by rename, an exchanged link (a Kubernetes ConfigMap or Secret) and a
 *         mount of the one file are seen like a write in place. Events of the kernel would miss some of these, and all of a
 *         network file system.
 * Order:  files that change one after the other, each within half a second of the last, are told of once.
 * Errors: none.
 * Cost:   one `stat` for each file every half second.
 */
export class FilesWatch {
  readonly #paths: readonly string[];
  readonly #onChanged: () => void;
  readonly #poll: ReturnType<typeof setInterval>;
  /** What the files looked like when they were last told of, and in the last round. */
  #told: string;
  #lastSeen: string;

  constructor(paths: readonly string[], onChanged: () => void) {
    this.#paths = paths;
    this.#onChanged = onChanged;
    this.#told = this.#lastSeen = readStates(paths);
    this.#poll = setInterval(() => this.#look(), POLL_MS);
    // The watch must not keep a process alive that has nothing else to do.
    this.#poll.unref();
  }

  /** May be called twice. */
  stop(): void {
    clearInterval(this.#poll);
  }

  #look(): void {
    const states = readStates(this.#paths);
    if (states === this.#told) return;
    if (states !== this.#lastSeen) {
      // The file may still be being written.
      this.#lastSeen = states;
      return;
    }
    this.#told = states;
    this.#onChanged();
  }
}

/**
 * Calls back when a file has another content than before.
 *
 * Errors: none; a file that is missing or cannot be read counts as unchanged until it is back.
 */
export class ConfigWatch {
  readonly #path: string;
  readonly #onChanged: () => void;
  readonly #watch: FilesWatch;
  #content: string | null;

  constructor(path: string, onChanged: () => void) {
    this.#path = path;
    this.#onChanged = onChanged;
    this.#watch = new FilesWatch([path], () => this.#look());
    this.#content = readContent(path);
  }

  /** Reads the file for another reason; null if it cannot be read. From here on its present contents are the ones to compare with. */
  read(): string | null {
    const content = readContent(this.#path);
    this.#content = content ?? this.#content;
    return content;
  }

  /** May be called twice. */
  stop(): void {
    this.#watch.stop();
  }

  #look(): void {
    const content = readContent(this.#path);
    if (content === null || content === this.#content) return;
    this.#content = content;
    this.#onChanged();
  }
}

function readStates(paths: readonly string[]): string {
  return paths.map(readState).join(" ");
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
