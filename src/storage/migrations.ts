import type { Database } from "bun:sqlite";
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

/**
 * Takes a store's tables from one version to the next. The first one makes them.
 *
 * A file's version is how many of them have been run on it; SQLite keeps it as `user_version`.
 */
export type Migration = (database: Database) => void;

/** The file was written by a version of hubwire that knows more tables or columns. Another try would fail too. */
export class NewerFile extends Error {
  constructor(path: string) {
    super(`${path} was written by a newer version of hubwire: start that one, or move the file away`);
    this.name = "NewerFile";
  }
}

/**
 * Runs the migrations that a file lacks, all in one transaction: after a crash or a full disk the file is what it was before.
 *
 * Errors: throws `NewerFile` where the file has had more migrations than there are.
 */
export function migrate(
  database: Database,
  { path, migrations }: { readonly path: string; readonly migrations: readonly Migration[] },
): void {
  database
    .transaction(() => {
      const version = database.query<{ user_version: number }, []>("PRAGMA user_version").get()?.user_version ?? 0;
      if (version > migrations.length) throw new NewerFile(path);
      if (version === migrations.length) return;
      for (const run of migrations.slice(version)) run(database);
      database.run(`PRAGMA user_version = ${migrations.length}`);
    })
    .immediate();
}

/**
 * Throws `NewerFile` where a file has had more migrations than `newest`. Reads the bytes themselves: to open a file with SQLite
 * can change it, even for reading, since the process that closes it last plays the WAL into it.
 *
 * A file that is missing, damaged or not readable passes: SQLite says what is wrong with it.
 *
 * To be called before this process opens the file: closing it drops the locks that SQLite holds on it. Source: POSIX, fcntl.
 */
export function refuseNewer(path: string, newest: number): void {
  if (Math.max(readFileVersion(path), readWalVersion(`${path}-wal`)) > newest) throw new NewerFile(path);
}

/** The first bytes of a file. Source: sqlite.org/fileformat2, section 1.3. */
const MAGIC = Buffer.from("SQLite format 3\0", "latin1");
const VERSION_OFFSET = 60;
const HEAD_BYTES = VERSION_OFFSET + 4;

/** Source: sqlite.org/fileformat2, section 4.1. The lowest bit of the magic number tells how checksums are made. */
const WAL_MAGIC = 0x377f0682;
const WAL_HEAD_BYTES = 32;
const FRAME_HEAD_BYTES = 24;

function readFileVersion(path: string): number {
  return reading(path, (read) => versionIn(read(0, HEAD_BYTES)));
}

/** The version as of the last transaction that was committed. Cost: one short read for each page in the WAL. */
function readWalVersion(path: string): number {
  return reading(path, (read, size) => {
    const head = read(0, WAL_HEAD_BYTES);
    if (head.length < WAL_HEAD_BYTES || (head.readUInt32BE(0) & ~1) >>> 0 !== WAL_MAGIC) return 0;
    const salt = head.subarray(16, 24);
    const pageBytes = head.readUInt32BE(8);
    let committed = 0;
    let latest = 0;
    for (let at = WAL_HEAD_BYTES; at + FRAME_HEAD_BYTES + pageBytes <= size; at += FRAME_HEAD_BYTES + pageBytes) {
      const frame = read(at, FRAME_HEAD_BYTES);
      // Behind the last frame are those of an earlier life of the WAL, with another salt.
      if (!frame.subarray(8, 16).equals(salt)) break;
      if (frame.readUInt32BE(0) === 1) latest = versionIn(read(at + FRAME_HEAD_BYTES, HEAD_BYTES));
      if (frame.readUInt32BE(4) !== 0) committed = latest;
    }
    return committed;
  });
}

function versionIn(page: Buffer): number {
  const isWhole = page.length === HEAD_BYTES && page.subarray(0, MAGIC.length).equals(MAGIC);
  return isWhole ? page.readInt32BE(VERSION_OFFSET) : 0;
}

/** 0 where the file cannot be read. */
function reading(
  path: string,
  use: (read: (position: number, length: number) => Buffer, size: number) => number,
): number {
  let file: number | null = null;
  try {
    // A pipe would be waited for, and a symbolic link could lead anywhere.
    const opened = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    file = opened;
    const read = (position: number, length: number) => {
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, readSync(opened, bytes, 0, length, position));
    };
    return use(read, fstatSync(file).size);
  } catch {
    return 0;
  } finally {
    if (file !== null) closeSync(file);
  }
}
