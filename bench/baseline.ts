import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { REPOSITORY } from "../test/support/command.ts";
import type { Row } from "./row.ts";

/** The gateway of another commit: a git worktree in a folder of its own, with the packages of this checkout. */
export class Baseline {
  readonly repository: string;
  /** What it was asked for by, and the commit that this is. */
  readonly name: string;
  readonly #folder = mkdtempSync(join(tmpdir(), "hubwire-bench-baseline-"));

  /** Errors: throws where the commit is not known. */
  constructor(ref: string) {
    this.repository = join(this.#folder, "hubwire");
    try {
      const commit = git("rev-parse", "--verify", "--short", `${ref}^{commit}`).trim();
      this.name = commit === ref ? ref : `${ref} (${commit})`;
      git("worktree", "add", "--detach", this.repository, commit);
      symlinkSync(join(REPOSITORY, "node_modules"), join(this.repository, "node_modules"));
    } catch (fault) {
      this[Symbol.dispose]();
      throw fault;
    }
  }

  /** Also on a signal, so it waits for nothing. */
  [Symbol.dispose](): void {
    // A link, which goes, and not what it points at.
    rmSync(this.#folder, { recursive: true, force: true });
    git("worktree", "prune");
  }

  /** A row of what this checkout measures of its own, against the same of the other one; null where that says nothing. */
  against(row: Row): Row | null {
    if (row.isOfGateway === false) return null;
    return {
      ...row,
      theirs: this.name,
      target: "said",
      isMet: () => null,
      prepare: async (bench, stack) => {
        const ours = await row.prepare(bench, stack);
        const theirs = await row.prepare({ ...bench, repository: this.repository }, stack);
        return { ours: ours.ours, theirs: theirs.ours };
      },
    };
  }
}

function git(...args: readonly string[]): string {
  return execFileSync("git", args, { cwd: REPOSITORY, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}
