import type { Database } from "bun:sqlite";
import { existsSync, renameSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { closeToOthers, makeFolder, makePrivateFile } from "../auth/private-files.ts";
import { FileWatch } from "./file-watch.ts";

/** SQLite's files next to a database. Left behind, the WAL of one file would be played into the next of that name. */
export const COMPANIONS = ["", "-wal", "-shm"];

/** A file as SQLite sees it has a flaw. */
export class DamagedFile extends Error {
  constructor(reason: string) {
    super(reason);
    this.name = "DamagedFile";
  }
}

/** Makes folder and file where they are missing, for their owner alone. SQLite gives the file's mode to its companions. */
export function makePrivate(path: string): void {
  makeFolder(dirname(path));
  makePrivateFile(path);
  for (const companion of COMPANIONS) closeToOthers(path + companion);
}

/** Throws `DamagedFile` where SQLite finds a flaw. Cost: reads the whole file. */
export function checkWhole(database: Database): void {
  const found = database.query<{ quick_check: string }, []>("PRAGMA quick_check(1)").get()?.quick_check;
  if (found !== "ok") throw new DamagedFile(found ?? "quick_check said nothing");
}

/** Whether an error says that the file itself is broken, not the disk or the statement. */
export function isDamage(error: unknown): error is Error {
  const code = codeOf(error);
  return error instanceof DamagedFile || code === "SQLITE_NOTADB" || code.startsWith("SQLITE_CORRUPT");
}

/** Moves a file and its companions to the first free name; returns that name. */
export function moveAside(path: string): string {
  let number = 1;
  while (existsSync(`${path}.damaged-${number}`)) number++;
  const aside = `${path}.damaged-${number}`;
  for (const companion of COMPANIONS) {
    if (existsSync(path + companion)) renameSync(path + companion, aside + companion);
  }
  return aside;
}

/** What SQLite or the system calls the error: `SQLITE_FULL`, `EACCES`; empty where it is neither's. */
export function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

/** A watch over a file and its companions, to begin once the file is open. SQLite cuts only a log. */
export function watchFiles(path: string): FileWatch {
  return new FileWatch(COMPANIONS.map((companion) => ({ path: path + companion, mayShrink: companion !== "" })));
}

/** Whether a file has no bytes and its WAL has some, which SQLite would delete. */
export function isEmptied(path: string): boolean {
  return sizeOf(path) === 0 && sizeOf(`${path}-wal`) > 0;
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
