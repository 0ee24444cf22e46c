import { statSync } from "node:fs";
import { basename } from "node:path";
import { makeFolder, readPrivateText, replacePrivateText } from "../auth/private-files.ts";
import type { Report } from "../protocol/notices.ts";

const LOOK_MS = 1000;

/** What the guard needs. */
export interface DataDirGuardOptions {
  readonly dataDir: string;
  readonly lock: {
    /** Takes the lock again where its file is gone; see `DataDirLock`. */
    retake(): string | null;
  };
  /** Small text files that this process has read and the next one needs. Those that are missing now are not looked after. */
  readonly files: readonly string[];
  readonly report: Report;
}

/**
 * Looks once a second after the files in `dataDir` that are no store of their own: the lock, and the access keys. Without its key
 * file the next start would make a new key, and every token of the old one would be refused.
 */
export class DataDirGuard {
  readonly #options: DataDirGuardOptions;
  readonly #texts = new Map<string, string>();
  readonly #said = new Map<string, string>();
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(options: DataDirGuardOptions) {
    this.#options = options;
    for (const path of options.files) {
      const text = readPrivateText(path);
      if (text !== null && text !== "") this.#texts.set(path, text);
    }
    this.#timer = setInterval(() => this.look(), LOOK_MS);
  }

  /** Puts there again what is missing. */
  look(): void {
    const { dataDir, lock } = this.#options;
    this.#attempt("lock", () => lock.retake());
    for (const [path, text] of this.#texts) {
      this.#attempt(basename(path), () => {
        const loss = lossOf(path);
        // A file with another text is an operator's, for the next start.
        if (loss === null) return null;
        makeFolder(dataDir);
        replacePrivateText(path, text);
        return loss;
      });
    }
  }

  /** May be called twice. */
  stop(): void {
    clearInterval(this.#timer);
  }

  #attempt(name: string, restore: () => string | null): void {
    const { report } = this.#options;
    try {
      const loss = restore();
      if (loss !== null) report({ kind: "file-restored", name, reason: loss });
      this.#said.delete(name);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (this.#said.get(name) !== reason) report({ kind: "file-lost", name, reason });
      this.#said.set(name, reason);
    }
  }
}

function lossOf(path: string): string | null {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return `${basename(path)} was removed`;
  return found.size === 0 ? `${basename(path)} was emptied` : null;
}
