import { type Stats, statSync } from "node:fs";
import { join } from "node:path";
import { KEY_FILE, SECONDARY_KEY_FILE } from "./key-file.ts";

const OPEN_TO_OTHERS = 0o077;
const WRITABLE_BY_OTHERS = 0o022;

/**
 * Sentences about a data folder that is open to others than its owner. Its mode is the operator's, so hubwire does not change it.
 *
 * Shape: none where the folder is not there yet, since hubwire makes it with mode 0700.
 */
export function findDataDirWarnings(dataDir: string): string[] {
  const folder = find(dataDir);
  if (folder === null || (folder.mode & OPEN_TO_OTHERS) === 0) return [];
  const danger =
    (folder.mode & WRITABLE_BY_OTHERS) === 0
      ? "others than its owner can reach the files in it"
      : "others than its owner can replace the access key and the journal";
  const warnings = [`dataDir ${dataDir} has mode ${octal(folder)}: ${danger}. Its mode should be 0700`];
  for (const name of [KEY_FILE, SECONDARY_KEY_FILE]) {
    const path = join(dataDir, name);
    const key = find(path);
    if (key === null || (key.mode & OPEN_TO_OTHERS) === 0) continue;
    warnings.push(
      `${path} has mode ${octal(key)}: anybody who can read it can make tokens and events. Its mode should be 0600`,
    );
  }
  return warnings;
}

function find(path: string): Stats | null {
  try {
    return statSync(path);
  } catch {
    return null;
  }
}

function octal({ mode }: Stats): string {
  return (mode & 0o7777).toString(8).padStart(4, "0");
}
