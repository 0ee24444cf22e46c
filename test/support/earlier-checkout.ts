import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { REPOSITORY } from "./command.ts";

/** The last commit before nodes announced the form that they read: what 0.1 speaks. */
const FIRST_FORM_COMMIT = "f88bfaa";

/** The sources of 0.1, from the history of this checkout. */
export class EarlierCheckout {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Null where there is no history: in a copy of the sources, and in a shallow clone. */
  static make(): EarlierCheckout | null {
    const archive = Bun.spawnSync(["git", "-C", REPOSITORY, "archive", FIRST_FORM_COMMIT, "src", "package.json"], {
      stderr: "ignore",
    });
    if (archive.exitCode !== 0) return null;
    const folder = mkdtempSync(join(tmpdir(), "hubwire-checkout-"));
    const unpacked = Bun.spawnSync(["tar", "-x", "-C", folder], { stdin: archive.stdout });
    if (unpacked.exitCode !== 0) throw new Error("tar cannot unpack the earlier sources");
    symlinkSync(join(REPOSITORY, "node_modules"), join(folder, "node_modules"));
    return new EarlierCheckout(folder);
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
