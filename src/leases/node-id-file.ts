import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const FILE_NAME = "node-id";

/**
 * The name that the last process in this folder went by among the nodes; null where there was none, or the file holds no such name.
 *
 * Errors: throws where a file that is there cannot be read.
 */
export function readNodeId(dataDir: string): string | null {
  try {
    const text = readFileSync(join(dataDir, FILE_NAME), "utf8").trim();
    return /^[A-Za-z0-9_-]{1,64}$/.test(text) ? text : null;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
}

/**
 * Keeps this process's name for the next one in the folder (made with mode 0700 where it is missing; the file has 0600).
 *
 * Errors: throws where the disk does not take it; the file is then what it was.
 */
export function writeNodeId(dataDir: string, nodeId: string): void {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const path = join(dataDir, FILE_NAME);
  writeFileSync(`${path}.draft`, `${nodeId}\n`, { mode: 0o600 });
  renameSync(`${path}.draft`, path);
}
