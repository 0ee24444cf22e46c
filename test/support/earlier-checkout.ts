import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { REPOSITORY } from "./command.ts";

/** Sources of the last commit before nodes announced the form that they read: what 0.1 speaks. */
const SOURCES = join(REPOSITORY, "test", "fixtures", "version-1", "sources.tar.gz");

/** The sources of 0.1. They are a fixture, so that the tests with them need no history and run everywhere. */
export class EarlierCheckout {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static make(): EarlierCheckout {
    const folder = mkdtempSync(join(tmpdir(), "hubwire-checkout-"));
    const unpacked = Bun.spawnSync(["tar", "-xz", "-C", folder], { stdin: readFileSync(SOURCES) });
    if (unpacked.exitCode !== 0) throw new Error("tar cannot unpack the earlier sources");
    symlinkSync(join(REPOSITORY, "node_modules"), join(folder, "node_modules"));
    return new EarlierCheckout(folder);
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
