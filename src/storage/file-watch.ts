import { lstatSync, type Stats } from "node:fs";
import { basename } from "node:path";

/** A file as it was when it was last seen. */
interface Seen {
  readonly device: number;
  readonly inode: number;
  readonly size: number;
}

/**
 * Notices that a path no longer leads to the file that a process has open there, or that the file was cut.
 *
 * Why:   such a process goes on writing, without any error, into a file that the next process will not find.
 * Shape: a file that is missing when the watch begins is taken as it first appears. A file that may shrink is only noticed when it
 *        becomes empty.
 * Cost:  one `lstat` for each path and look, a few microseconds.
 */
export class FileWatch {
  readonly #paths: readonly { readonly path: string; readonly mayShrink: boolean }[];
  readonly #seen = new Map<string, Seen>();

  constructor(paths: readonly { readonly path: string; readonly mayShrink: boolean }[]) {
    this.#paths = paths;
  }

  /** Takes what is there now for what the process has open. */
  begin(): void {
    this.#seen.clear();
    this.findLoss();
  }

  /** What has happened to a file since the watch began, as a clause; null where all are as they were. */
  findLoss(): string | null {
    for (const { path, mayShrink } of this.#paths) {
      const seen = this.#seen.get(path);
      const now = look(path);
      // A disk that cannot say is met by the next write.
      if (now === "unknown") continue;
      const loss = seen === undefined ? null : describeLoss(seen, now, mayShrink);
      if (loss !== null) return `${basename(path)} ${loss}`;
      if (now !== null) this.#seen.set(path, now);
    }
    return null;
  }
}

function look(path: string): Seen | null | "unknown" {
  try {
    const found: Stats | undefined = lstatSync(path, { throwIfNoEntry: false });
    return found === undefined ? null : { device: found.dev, inode: found.ino, size: found.size };
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ENOTDIR" ? null : "unknown";
  }
}

function describeLoss(seen: Seen, now: Seen | null, mayShrink: boolean): string | null {
  if (now === null) return "was removed";
  if (now.inode !== seen.inode || now.device !== seen.device) return "was replaced by another file";
  if (now.size >= seen.size) return null;
  if (now.size === 0) return "was emptied";
  return mayShrink ? null : `was cut from ${seen.size} to ${now.size} bytes`;
}
