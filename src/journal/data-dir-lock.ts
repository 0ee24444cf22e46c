import { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { makeFolder, makePrivateFile } from "../auth/private-files.ts";
import { codeOf } from "../storage/database-file.ts";
import { FileWatch } from "../storage/file-watch.ts";

const FILE_NAME = "lock";
const DEFAULT_WAIT_MS = 5000;
const POLL_MS = 25;

/** A folder that is this process's own until `release`. Keep a reference to it: a collected lock is released. */
export interface DataDirLock {
  /** Whether a hubwire has worked in the folder before. */
  readonly wasUsed: boolean;
  /**
   * Takes the lock again where its file was removed or replaced, since another process would find the folder free. Null where nothing was
   * amiss; else what had happened.
   *
   * Errors: throws where another process has the new file, or there can be none.
   */
  retake(): string | null;
  /** May be called twice. */
  release(): void;
}

/**
 * Makes sure that one process at a time works in a data folder, which it makes with mode 0700 where it is missing.
 *
 * Shape:  the kernel's lock on the file `lock` there, which stays empty. The kernel lets go of it with the process, however
 *         that ends; so a start right after `kill -9` finds it free.
 * Units:  another process is waited for up to `waitMs`, 5 s by default, without blocking the event loop.
 * Errors: rejects with a sentence where the folder is still in use then, and where there can be no such file.
 */
export async function lockDataDir(dataDir: string, { waitMs = DEFAULT_WAIT_MS } = {}): Promise<DataDirLock> {
  const path = join(dataDir, FILE_NAME);
  makeFolder(dataDir);
  const wasUsed = existsSync(path);
  makePrivateFile(path);
  const giveUpAtMs = performance.now() + waitMs;
  for (;;) {
    const database = tryLock(path);
    if (database !== null) return holdLock(dataDir, database, wasUsed);
    const leftMs = giveUpAtMs - performance.now();
    if (leftMs <= 0) {
      throw new Error(`${dataDir} is in use by another hubwire: stop that one, or give this one a dataDir of its own`);
    }
    await Bun.sleep(Math.min(POLL_MS, leftMs));
  }
}

function holdLock(dataDir: string, first: Database, wasUsed: boolean): DataDirLock {
  const path = join(dataDir, FILE_NAME);
  const watch = new FileWatch([{ path, mayShrink: true }]);
  watch.begin();
  let database = first;
  const retake = () => {
    const loss = watch.findLoss();
    if (loss === null) return null;
    makeFolder(dataDir);
    makePrivateFile(path);
    const next = tryLock(path);
    if (next === null) throw new Error(`${loss}, and another process has the new one`);
    database.close();
    database = next;
    watch.begin();
    return loss;
  };
  return { wasUsed, retake, release: () => database.close() };
}

/** Null where somebody else has the lock. SQLite knows the locks of its other connections in this process too. */
function tryLock(path: string): Database | null {
  const database = new Database(path, { readwrite: true, create: false });
  try {
    database.run("PRAGMA busy_timeout = 0");
    // A file of it would need a page on a disk that may be full.
    database.run("PRAGMA journal_mode = MEMORY");
    database.run("BEGIN EXCLUSIVE");
    return database;
  } catch (error) {
    database.close();
    if (codeOf(error).startsWith("SQLITE_BUSY")) return null;
    throw new Error(`${path} cannot be locked: ${error instanceof Error ? error.message : error}`);
  }
}
