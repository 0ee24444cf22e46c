import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * Whether this machine lets a test mount a file system of its own: root outside a strict container. Where it does not, tests
 * on a full disk are skipped, and the run's last line counts them.
 */
export function canMount(): boolean {
  try {
    using _disk = new SmallDisk();
    return true;
  } catch {
    return false;
  }
}

/** A file system of two megabytes, in memory, that can be filled to its last byte. Linux. */
export class SmallDisk {
  readonly folder = mkdtempSync(join(tmpdir(), "hubwire-disk-"));
  readonly #filler = join(this.folder, "filler");
  #mounted = false;

  constructor() {
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", this.folder], { stdio: "pipe" });
      this.#mounted = true;
    } finally {
      if (!this.#mounted) rmSync(this.folder, { recursive: true, force: true });
    }
  }

  /** Takes every byte that is left. */
  fill(): void {
    const file = openSync(this.#filler, "a");
    for (let size = 65_536; size >= 1; ) {
      try {
        writeSync(file, Buffer.alloc(size));
      } catch {
        size = Math.floor(size / 2);
      }
    }
    closeSync(file);
  }

  /** Gives back what `fill` took. */
  free(): void {
    rmSync(this.#filler, { force: true });
  }

  [Symbol.dispose](): void {
    if (!this.#mounted) return;
    this.#mounted = false;
    // Lazily: a file that is still open must not fail the test.
    execFileSync("umount", ["-l", this.folder], { stdio: "pipe" });
    rmSync(this.folder, { recursive: true, force: true });
  }
}
