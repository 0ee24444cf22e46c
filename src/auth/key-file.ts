import { randomBytes } from "node:crypto";
import { linkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AccessKeys } from "./access-keys.ts";
import { makeFolder, readPrivateText } from "./private-files.ts";

/** The name of the primary key's file in the data folder. */
export const KEY_FILE = "access-key";
/** The same of the secondary key's. */
export const SECONDARY_KEY_FILE = `${KEY_FILE}-secondary`;

/** An access key that the service made for itself, and the file that keeps it. */
export interface KeptKey {
  readonly key: string;
  readonly path: string;
}

/**
 * Reads the access keys kept in a data folder, or makes those that are missing. Two, so that the signature has the two entries that it
 * has with configured keys, and the first change of a key needs no preparation.
 *
 * Shape:  a folder with one key keeps it, and gets the second. `path` is the primary key's file.
 * Errors: as those of `readOrMakeKey`.
 */
export function readOrMakeKeys(dataDir: string): { readonly keys: AccessKeys; readonly path: string } {
  const { key: primary, path } = readOrMakeKey(dataDir, KEY_FILE);
  return { keys: { primary, secondary: readOrMakeKey(dataDir, SECONDARY_KEY_FILE).key }, path };
}

/**
 * Reads an access key kept in a data folder, or makes one: 32 random bytes in base64.
 *
 * Shape:  file 0600, folder 0700 where it is missing. Two processes that start at once end with the same key.
 * Errors: throws where the folder cannot be used, or the file holds no key; the message never holds the key.
 */
function readOrMakeKey(dataDir: string, name: string): KeptKey {
  const path = join(dataDir, name);
  const kept = readKey(path);
  if (kept !== null) return { key: kept, path };
  makeFolder(dataDir);
  // A name of its own: two containers on one volume may have the same process id.
  const draft = `${path}.${randomBytes(8).toString("hex")}`;
  writeFileSync(draft, `${randomBytes(32).toString("base64")}\n`, { mode: 0o600, flag: "wx" });
  try {
    // A link fails where the file exists, and makes it whole otherwise: no reader gets half a key.
    linkSync(draft, path);
  } catch (error) {
    if (!isCode(error, "EEXIST")) throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  const made = readKey(path);
  if (made === null) throw new Error(`${path} was removed while it was being written: start again`);
  return { key: made, path };
}

/** Reads the primary access key kept in a data folder; null if there is no key. Errors: as those of `readOrMakeKey`. */
export function readKeptKey(dataDir: string): KeptKey | null {
  const path = join(dataDir, KEY_FILE);
  const key = readKey(path);
  return key === null ? null : { key, path };
}

function readKey(path: string): string | null {
  const text = readPrivateText(path);
  if (text === null) return null;
  const key = text.trim();
  if (key === "") throw new Error(`${path} is empty: remove it and a new access key is made`);
  return key;
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
