import { Database } from "bun:sqlite";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * Files that earlier versions of hubwire wrote: test/fixtures/version-N, made by the code of that version and never changed.
 *
 * `closed` is a data folder after a clean end; `killed` one after SIGKILL, where everything is still in the WALs.
 */
const FIXTURES = join(import.meta.dir, "..", "fixtures");

export type Ending = "closed" | "killed";

/** Every version that has written files: `version-1`, and so on. */
export const VERSIONS: readonly string[] = readdirSync(FIXTURES).filter((name) => name.startsWith("version-"));

/** A copy of such a data folder, in a folder of its own. */
export class EarlierDataDir {
  readonly dataDir: string = mkdtempSync(join(tmpdir(), "hubwire-earlier-"));

  constructor(version: string, ending: Ending) {
    cpSync(join(FIXTURES, version, ending), this.dataDir, { recursive: true });
  }

  [Symbol.dispose](): void {
    rmSync(this.dataDir, { recursive: true, force: true });
  }
}

/** The messages of a node's replica as that version wrote them. */
export function logOf(version: string): Uint8Array[] {
  const lines = readFileSync(join(FIXTURES, version, "log.jsonl"), "utf8")
    .trimEnd()
    .split("\n");
  return lines.map((line) => Buffer.from(line));
}

/** Raises a file's version, as a newer hubwire would. With `killed` the change is in the WAL alone. */
export async function makeNewer(path: string, ending: Ending): Promise<void> {
  const script = `
    const { Database } = require("bun:sqlite");
    const database = new Database(${JSON.stringify(path)});
    database.run("PRAGMA journal_mode = WAL");
    database.run("PRAGMA user_version = 99");
    ${ending === "killed" ? 'process.kill(process.pid, "SIGKILL");' : "database.close();"}
  `;
  await Bun.spawn([process.execPath, "-e", script], { stdout: "ignore", stderr: "inherit" }).exited;
}

/** All files of a folder, byte by byte. */
export function bytesOf(folder: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(folder)
      .sort()
      .map((name) => [name, readFileSync(join(folder, name)).toString("base64")]),
  );
}

/** A file's version as SQLite says it. */
export function versionOf(path: string): number {
  const database = new Database(path, { readonly: true });
  const version = database.query<{ user_version: number }, []>("PRAGMA user_version").get()?.user_version ?? 0;
  database.close();
  return version;
}
