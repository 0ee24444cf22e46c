import { constants, Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { makeFolder } from "../auth/private-files.ts";
import type { DeadLetter, DueDisconnect, WaitingDisconnect } from "../core/ports/journal.ts";
import { dialectOf } from "../protocol/dialect-names.ts";
import { fromFactsRow, parseFacts } from "../protocol/facts.ts";
import {
  COMPANIONS,
  checkWhole,
  codeOf,
  DamagedFile,
  isDamage,
  makePrivate,
  moveAside,
} from "../storage/database-file.ts";
import { migrate, refuseNewer } from "../storage/migrations.ts";
import { MIGRATIONS } from "./journal-schema.ts";
import {
  type DeadRow,
  type DueRow,
  type JournalStatements,
  prepareStatements,
  type WaitingRow,
} from "./journal-statements.ts";
import {
  type BatchOutcome,
  fromNthCode,
  journalPath,
  type Operation,
  PLACES_AT_ONCE,
  type Result,
  type Synchronous,
} from "./operation.ts";
import { finishSalvage, putSuccessor, salvage } from "./salvage.ts";

/** How long another process may hold the file, as a tool of an operator's does. Connects wait meanwhile. */
const BUSY_TIMEOUT_MS = 1000;

/** The writer itself plays the WAL into the file when it has this many pages of 4 kB: only where the checkpointer is late. */
const LATE_CHECKPOINT_PAGES = 16_000;

/** The checkpointer leaves the writer about this many pages; both syncs of so few take two milliseconds or three. */
const FEW_PAGES = 32;
const MAX_CHECKPOINT_ROUNDS = 8;

/** A WAL that grew larger, by one large batch, is cut back to this. */
const MAX_IDLE_LOG_BYTES = 32 * 1024 * 1024;

/** The parts that the file needs of the journal. */
export interface JournalFileOptions {
  readonly dataDir: string;
  readonly synchronous: Synchronous;
  /** Called when the file was found damaged: it is under `movedTo` now. `reason` also says how much the new one has of it. */
  readonly onDamaged: (movedTo: string, reason: string) => void;
}

/** A file at work. */
interface OpenFile {
  readonly database: Database;
  readonly statements: JournalStatements;
}

/**
 * `journal.sqlite`: carries out operations, a batch in one transaction. It blocks, so it runs in a thread of its own.
 *
 * Shape:  file 0600, folder 0700 where it is missing. Deleted rows are overwritten in the file; the WAL next to it has it a while longer.
 * Errors: `open` throws where there can be no file; a batch says itself why it failed. A damaged file, also one found so
 *         while at work, is moved aside with its companions; what can still be read of it goes to a new one, and so does the
 *         batch. `salvage` says which rows are lost then.
 */
export class JournalFile {
  readonly #options: JournalFileOptions;
  readonly #path: string;
  #file: OpenFile | null = null;
  /** Places below are reserved in the file. */
  #reservedPlaces = 0;
  #failedLast = false;

  constructor(options: JournalFileOptions) {
    this.#options = options;
    this.#path = journalPath(options.dataDir);
  }

  /** Opens the file or makes a new one; returns the first place that was never given out. */
  open(): number {
    try {
      this.#open();
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#replace(error.message);
    }
    return this.#reservedPlaces;
  }

  /**
   * Puts a new file in the place of the open one, whose path leads elsewhere or which was emptied; returns as `open` does. The new
   * one has every row that can still be read through the open one, or of what the path leads to.
   */
  replaceLost(reason: string): number {
    makeFolder(this.#options.dataDir);
    if (this.#file === null) this.#open();
    else this.#replace(reason, this.#file.database);
    return this.#reservedPlaces;
  }

  apply(operations: readonly Operation[]): BatchOutcome {
    try {
      return this.#applyOnce(operations);
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#replace(error.message);
      return this.#applyOnce(operations);
    }
  }

  /** Plays what is left of the WAL into the file, so that the next write begins it anew. */
  finishCheckpoint(): void {
    try {
      this.#file?.database.run("PRAGMA wal_checkpoint(PASSIVE)");
    } catch {
      // Nothing is lost, and the next batch meets the fault.
    }
  }

  /** May be called twice. */
  close(): void {
    const file = this.#file;
    this.#file = null;
    if (file === null) return;
    for (const statement of Object.values<{ finalize(): void }>({ ...file.statements })) statement.finalize();
    file.database.close();
  }

  #open(): void {
    // Before anything is opened for writing: SQLite would play the WAL into the file, and leave it closed.
    refuseNewer(this.#path, MIGRATIONS.length);
    finishSalvage(this.#path);
    makePrivate(this.#path);
    this.#file = openFile(this.#path, this.#options.synchronous);
    this.#reservedPlaces = Math.max(this.#reservedPlaces, readPlaces(this.#file.database));
  }

  /** `lost`: the open file, where its path leads elsewhere. */
  #replace(reason: string, lost: Database | null = null): void {
    const count = salvage(this.#path, this.#reservedPlaces, lost);
    // Moved first: closing would delete the WAL, which may be the better half of it.
    const movedTo = moveAside(this.#path);
    // Deleted by name, it could be the new file's.
    lost?.fileControl(constants.SQLITE_FCNTL_PERSIST_WAL, 1);
    this.close();
    putSuccessor(this.#path);
    const isMoved = COMPANIONS.some((companion) => existsSync(movedTo + companion));
    if (isMoved) this.#options.onDamaged(movedTo, `${reason}; the new file has ${count} connections of it`);
    this.#open();
  }

  #applyOnce(operations: readonly Operation[]): BatchOutcome {
    if (this.#file === null) this.#open();
    const { database, statements } = this.#file ?? unopened();
    const reservedBefore = this.#reservedPlaces;
    // Kept in memory until the commit, so that a full disk is met there and what was read before it is good.
    if (this.#failedLast) database.run("PRAGMA cache_spill = OFF");
    let results: Result[] | null = null;
    try {
      statements.begin.run();
      results = operations.map((operation) => this.#carryOut(statements, operation));
      statements.commit.run();
      if (this.#failedLast) database.run("PRAGMA cache_spill = ON");
      this.#failedLast = false;
      return { failure: null, results };
    } catch (error) {
      this.#reservedPlaces = reservedBefore;
      this.#failedLast = true;
      if (database.inTransaction) database.run("ROLLBACK");
      if (isDamage(error)) throw error;
      return {
        failure: error instanceof Error ? error.message : String(error),
        results: wholeOnly(results, operations),
      };
    }
  }

  #carryOut(statements: JournalStatements, operation: Operation): Result {
    switch (operation[0]) {
      case "connecting":
        return statements.connecting.run(...operation[1]).changes;
      case "connected":
        return statements.connected.run(operation[1], operation[2]).changes;
      case "due": {
        const [, place, facts, [code, reason, unknown, ...rest]] = operation;
        this.#reservePlaces(statements, place);
        return statements.due.run(...facts, code, reason, unknown ? 1 : 0, ...rest, place).changes;
      }
      case "tried":
        return statements.tried.run(operation[1], ...operation[2]).changes;
      case "settled":
        return statements.settled.run(operation[1]).changes;
      case "died": {
        const [, place, connectionId, { diedAtMs, cause, keptForMs }] = operation;
        this.#reservePlaces(statements, place);
        return statements.died.run(place, connectionId, diedAtMs, cause, keptForMs).changes;
      }
      case "waiting":
        return statements.waiting.all(operation[1], operation[2]).map(toWaiting);
      case "read": {
        const row = statements.read.get(operation[1]);
        return row === null ? null : toDue(row);
      }
      case "deadLetters":
        return statements.deadLetters.all(operation[1], operation[2]).map(toDeadLetter);
      default:
        return this.#carryOutForMany(statements, operation);
    }
  }

  #carryOutForMany(
    statements: JournalStatements,
    operation: Extract<Operation, readonly ["recover" | "revive" | "drop" | "ageDeadLetters" | "probe", ...unknown[]]>,
  ): number {
    switch (operation[0]) {
      case "recover": {
        const [, firstPlace, code, reason, nowMs] = operation;
        this.#reservePlaces(statements, firstPlace + PLACES_AT_ONCE);
        return statements.recover.run(code, reason, nowMs, firstPlace).changes;
      }
      case "revive": {
        const [, firstPlace, nowMs, ids] = operation;
        this.#reservePlaces(statements, firstPlace + (ids?.length ?? PLACES_AT_ONCE));
        if (ids === null) return statements.reviveAll.run(firstPlace, nowMs).changes;
        return sum(ids, (id, index) => statements.revive.run(firstPlace + index, nowMs, id).changes);
      }
      case "drop": {
        const [, ids] = operation;
        return ids === null ? statements.dropAll.run().changes : sum(ids, (id) => statements.drop.run(id).changes);
      }
      case "ageDeadLetters":
        statements.age.run(operation[1]);
        return statements.dropKept.run(operation[2]).changes;
      case "probe":
        return statements.probe.run().changes;
    }
  }

  /** Has the file know of all places up to this one before a row has it; far ahead, so that this is seldom a write. */
  #reservePlaces(statements: JournalStatements, place: number): void {
    if (place < this.#reservedPlaces - PLACES_AT_ONCE / 2) return;
    this.#reservedPlaces = place + PLACES_AT_ONCE;
    statements.reserve.run(this.#reservedPlaces);
  }
}

/** Plays the WAL of a file that another thread has open. Errors: none; a WAL that was not played is played later. */
export function checkpointFile(path: string): void {
  let database: Database | null = null;
  try {
    database = new Database(path, { readwrite: true, create: false });
    // The last connection to close a file deletes its WAL by name. If the writer has moved the file aside, that is the new file's WAL.
    database.fileControl(constants.SQLITE_FCNTL_PERSIST_WAL, 1);
    const play = database.prepare<{ checkpointed: number }, []>("PRAGMA wal_checkpoint(PASSIVE)");
    let playedBefore = 0;
    // Each round plays what came during the one before, so that the writer is left with few.
    for (let round = 0; round < MAX_CHECKPOINT_ROUNDS; round++) {
      const { checkpointed = 0 } = play.get() ?? {};
      if (checkpointed - playedBefore < FEW_PAGES) break;
      playedBefore = checkpointed;
    }
    play.finalize();
  } catch {
    // The writer meets the fault, and can report it.
  } finally {
    database?.close();
  }
}

function openFile(path: string, synchronous: Synchronous): OpenFile {
  const database = new Database(path, { readwrite: true, create: false, strict: true });
  try {
    database.run(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    checkWhole(database);
    database.run("PRAGMA journal_mode = WAL");
    database.run(`PRAGMA synchronous = ${synchronous}`);
    database.run(`PRAGMA wal_autocheckpoint = ${LATE_CHECKPOINT_PAGES}`);
    database.run(`PRAGMA journal_size_limit = ${MAX_IDLE_LOG_BYTES}`);
    // Deleted rows must not remain readable in the file: they hold personal data.
    database.run("PRAGMA secure_delete = ON");
    migrate(database, { path, migrations: MIGRATIONS });
    return { database, statements: prepareStatements(database) };
  } catch (error) {
    database.close();
    // A statement that SQLite cannot prepare means that the tables of the file do not fit.
    throw codeOf(error) === "SQLITE_ERROR" ? new DamagedFile(describe(error)) : error;
  }
}

function readPlaces(database: Database): number {
  return database.query<{ places: number }, []>("SELECT places FROM journal").get()?.places ?? PLACES_AT_ONCE;
}

/** Results are of use after a failure only where it came with the commit, behind the last operation. */
function wholeOnly(results: Result[] | null, operations: readonly Operation[]): Result[] | null {
  return results?.length === operations.length ? results : null;
}

function toDue(row: DueRow): DueDisconnect {
  const { id, hub, userId, facts, dueSinceMs } = row;
  return {
    facts: fromFactsRow([id, hub, userId, facts]),
    end: { code: row.closeCode, reason: row.closeReason },
    connectOutcomeUnknown: row.connectUnknown === 1,
    dueSinceMs,
    triedForMs: row.triedForMs,
    refusedForMs: row.refusedForMs,
    ...fromNthCode(row.nthCode),
  };
}

function toWaiting({ facts, ...waiting }: WaitingRow): WaitingDisconnect {
  return { ...waiting, dialect: dialectOf(parseFacts(facts)) };
}

function toDeadLetter(row: DeadRow): DeadLetter {
  const { diedAtMs, keptForMs, cause, place } = row;
  return { ...toDue(row), diedAtMs, keptForMs, cause, place };
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function sum<T>(items: readonly T[], count: (item: T, index: number) => number): number {
  return items.reduce((total, item, index) => total + count(item, index), 0);
}

function unopened(): never {
  throw new Error("the journal's file is not open");
}
