import { Database } from "bun:sqlite";
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  writeSync,
} from "node:fs";
import { closeToOthers, makePrivateFile, removeFile } from "../auth/private-files.ts";
import { isConnectionId } from "../protocol/connection-id.ts";
import { areHeaderTexts, parseFacts } from "../protocol/facts.ts";
import { COMPANIONS, codeOf, moveAside } from "../storage/database-file.ts";
import { migrate } from "../storage/migrations.ts";
import { GATHER_FACTS, MIGRATIONS, STATE } from "./journal-schema.ts";

/** What a row is made of. The file of an earlier version lacks some of them. */
const COLUMNS = [
  "id",
  "state",
  "hub",
  "user_id",
  "claims",
  "client_query",
  "forwarded_for",
  "close_code",
  "close_reason",
  "connect_unknown",
  "due_since_ms",
  "place",
  "died_at_ms",
  "cause",
  "tried_for_ms",
  "kept_from_ms",
  "other_facts",
  "refused_for_ms",
  "nth",
  "facts",
];

/** The places of a file that holds more connections than there will ever be; beyond, numbers lose their last digits. */
const MAX_PLACE = 2 ** 51;

const FIRST_PAGE_BYTES = 4096;

/** Characters that no fact of a connection has, since they would end a header line: the row is not as it was written. */
const ENDS_A_LINE = /[\r\n\0]/;

type Row = Readonly<Record<string, string | number | null>> & { readonly number: number };

/** The file that is to take a damaged one's place, while it is made. */
export function successorOf(path: string): string {
  return `${path}.new`;
}

/** A damaged file with another first page, while it is read. */
function copyOf(path: string): string {
  return `${path}.copy`;
}

/**
 * Makes a new file next to a damaged one, with every row that can still be read, in any state; returns how many.
 * Places below `firstPlace` were given out. `lost`: the file is still open here, and its path may lead elsewhere.
 *
 * Still lost: the rows on pages that SQLite cannot read. A connection of such a row gets no disconnect event if the
 * gateway ends before the connection does.
 *
 * Errors: throws where the disk does not take the new file, or a copy; nothing is left of them then.
 * Cost:   reads the table twice.
 */
export function salvage(path: string, firstPlace: number, lost: Database | null): number {
  const successor = successorOf(path);
  removeFile(successor);
  makePrivateFile(successor);
  const into = new Database(successor, { readwrite: true, create: false });
  let damaged: Database | null = null;
  try {
    // A journal file next to it would cost space, and a crash now costs the new file only, which is begun again.
    into.run("PRAGMA journal_mode = MEMORY");
    migrate(into, { path: successor, migrations: MIGRATIONS });
    const ofLost = lost === null ? 0 : into.transaction(copyRows)(lost, into, firstPlace);
    // Of a file that was emptied the WAL may still have something; another file in its place is not read.
    if (lost === null || hasNoBytes(path)) {
      damaged = openReadable(path) ?? new Database(copyWithFirstPageOf(successor, path), { readonly: true });
    }
    const count = ofLost + (damaged === null ? 0 : into.transaction(copyRows)(damaged, into, firstPlace));
    into.close();
    return count;
  } catch (error) {
    into.close();
    removeFile(successor);
    throw error;
  } finally {
    damaged?.close();
    removeCopy(path);
  }
}

/** Puts the new file in the place of the damaged one, which has been moved away. */
export function putSuccessor(path: string): void {
  renameSync(successorOf(path), path);
}

/** Goes on where an earlier process was killed at it: the damaged file is moved away only once the new one is whole. */
export function finishSalvage(path: string): void {
  removeCopy(path);
  if (!existsSync(successorOf(path))) return;
  if (existsSync(path)) {
    removeFile(successorOf(path));
    return;
  }
  // The damaged file's WAL may still be there, and would be played into the new one.
  moveAside(path);
  putSuccessor(path);
}

function hasNoBytes(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.size === 0;
}

/** Null where SQLite makes nothing of it. It is evidence, so nothing is written. */
function openReadable(path: string): Database | null {
  let database: Database | null = null;
  try {
    database = new Database(path, { readonly: true });
    database.run("SELECT number FROM connections LIMIT 0");
    return database;
  } catch {
    database?.close();
    return null;
  }
}

/**
 * Copies a file whose first page is lost, or says that the file is longer than it is: SQLite reads none of it then. Every
 * journal has its tables at the same pages, so a new one's first page says where they begin.
 * Source: sqlite.org/fileformat2, section 1.3.
 */
function copyWithFirstPageOf(successor: string, path: string): string {
  const copy = copyOf(path);
  copyPrivately(path, copy);
  if (existsSync(`${path}-wal`)) copyPrivately(`${path}-wal`, `${copy}-wal`);
  const firstPage = readFileSync(successor).subarray(0, FIRST_PAGE_BYTES);
  // Another number than the one of its last change: so its own word on the file's length does not count.
  firstPage.fill(0, 92, 96);
  const file = openSync(copy, "r+");
  writeSync(file, firstPage, 0, firstPage.length, 0);
  closeSync(file);
  return copy;
}

/** A symbolic link in the place of the copied file is removed, and never written through. */
function copyPrivately(path: string, copy: string): void {
  removeFile(copy);
  copyFileSync(path, copy, constants.COPYFILE_EXCL);
  closeToOthers(copy);
}

function removeCopy(path: string): void {
  for (const companion of COMPANIONS) removeFile(copyOf(path) + companion);
}

function copyRows(damaged: Database, into: Database, firstPlace: number): number {
  const columns = columnsOf(damaged);
  const insert = into.prepare<unknown, (string | number | null)[]>(
    `INSERT OR IGNORE INTO connections (${columns}) VALUES (${columns.map(() => "?")})`,
  );
  let count = 0;
  let places = Math.max(firstPlace, readPlaces(damaged));
  // Steps over a flaw get longer and may pass good rows behind it, so it is looked at from the other side too.
  for (const direction of [1, -1] as const) {
    for (const row of readableRows(damaged, columns, direction)) {
      if (!isSound(row)) continue;
      const values = columns.map((column) => row[column] ?? null);
      if (!take(insert, values)) continue;
      count++;
      places = Math.max(places, Number(row["place"]) + 1);
    }
  }
  insert.finalize();
  into.run("UPDATE journal SET places = MAX(places, ?)", [places]);
  into.run(GATHER_FACTS);
  // The damaged file's own may be lost. Letters are then kept for longer, never shorter.
  into.run("UPDATE journal SET kept_ms = (SELECT COALESCE(MAX(kept_from_ms), 0) FROM connections)");
  return count;
}

/** A migration adds columns: the others get their defaults. */
function columnsOf(damaged: Database): string[] {
  try {
    const found = damaged.query<{ name: string }, []>("SELECT name FROM pragma_table_info('connections')").all();
    const names = new Set(found.map(({ name }) => name));
    return COLUMNS.filter((column) => names.has(column));
  } catch {
    // Of a file that was emptied nothing says what it had. Rows that can be read through it were written by this version.
    return COLUMNS;
  }
}

function readPlaces(damaged: Database): number {
  try {
    const places = damaged.query<{ places: number }, []>("SELECT places FROM journal").get()?.places ?? 0;
    return isPlace(places) ? places : 0;
  } catch {
    return 0;
  }
}

/** False where it is there already, or is not what was written. */
function take(insert: ReturnType<Database["prepare"]>, values: readonly (string | number | null)[]): boolean {
  try {
    return insert.run(...values).changes > 0;
  } catch (error) {
    // A value of another type than its column's.
    if (codeOf(error).startsWith("SQLITE_CONSTRAINT")) return false;
    throw error;
  }
}

function isSound(row: Row): boolean {
  if (!isPlace(row["place"])) return false;
  if (Object.values(row).some((value) => typeof value === "string" && ENDS_A_LINE.test(value))) return false;
  // In the text of the facts a line break is an escape of JSON, which the look at the columns does not see.
  if (!isConnectionId(String(row["id"])) || !areHeaderTexts(parseFacts(String(row["facts"] ?? "")))) return false;
  // Columns of an earlier version.
  const [claims, clientQuery] = [String(row["claims"] ?? ""), String(row["client_query"] ?? "")];
  return areHeaderTexts({ claims, clientQuery, forwardedFor: "" });
}

function isPlace(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) < MAX_PLACE;
}

/** The rows in the order of their numbers, or against it. Over a flaw it goes on at growing distance. */
function* readableRows(damaged: Database, columns: readonly string[], direction: 1 | -1): Generator<Row> {
  const [compare, order] = direction === 1 ? [">", "ASC"] : ["<", "DESC"];
  const sql = `SELECT number, ${columns} FROM connections
    WHERE number ${compare} ? AND state BETWEEN ${STATE.connecting} AND ${STATE.dead} ORDER BY number ${order}`;
  let at = direction === 1 ? 0 : Number.MAX_SAFE_INTEGER;
  for (let step = 1; at >= 0 && at <= Number.MAX_SAFE_INTEGER; step *= 2) {
    try {
      for (const row of damaged.query<Row, [number]>(sql).iterate(at)) {
        // A damaged row number may be behind this one: going back to it would loop without end.
        if (direction * (row.number - at) > 0) {
          at = row.number;
          step = 1;
        }
        yield row;
      }
      return;
    } catch {
      // This place cannot be read: the next try is further on, and there are few.
      at += direction * step;
    }
  }
}
