import { existsSync, statSync } from "node:fs";
import { isEmptied, moveAside } from "../storage/database-file.ts";
import { refuseNewer } from "../storage/migrations.ts";
import { MIGRATIONS } from "./journal-schema.ts";
import { journalPath } from "./operation.ts";
import { successorOf } from "./salvage.ts";

/**
 * Says what a folder lacks that was used before: its journal, or all that the journal's file held. Null where nothing is missing. To
 * be called before the journal is opened.
 *
 * A WAL whose file has no bytes is moved aside: SQLite would delete it.
 *
 * Errors: throws `NewerFile` where a newer version wrote that WAL.
 */
export function findAbsence(dataDir: string, wasUsed: boolean): string | null {
  const path = journalPath(dataDir);
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? null;
  if ((size !== null && size > 0) || existsSync(successorOf(path))) return null;
  if (isEmptied(path)) {
    refuseNewer(path, MIGRATIONS.length);
    const state = size === null ? "is missing and its WAL is there" : "has no bytes and its WAL has some";
    return `journal.sqlite ${state}: moved to ${moveAside(path)}`;
  }
  if (!wasUsed) return null;
  return `the folder was used before, and journal.sqlite ${size === null ? "is missing" : "has no bytes"}`;
}
