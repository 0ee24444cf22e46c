import type { Database, Statement } from "bun:sqlite";
import { STATE } from "./journal-schema.ts";

const DUE_COLUMNS = `id, hub, user_id AS userId, facts, close_code AS closeCode, close_reason AS closeReason, connect_unknown AS connectUnknown,
  due_since_ms AS dueSinceMs, tried_for_ms AS triedForMs, refused_for_ms AS refusedForMs,
  nth AS nthCode`;

/** A disconnect that is owed, as a row. */
export interface DueRow {
  readonly id: string;
  readonly hub: string;
  readonly userId: string;
  readonly facts: string;
  readonly closeCode: number;
  readonly closeReason: string;
  readonly connectUnknown: number;
  readonly dueSinceMs: number;
  readonly triedForMs: number;
  readonly refusedForMs: number;
  readonly nthCode: number;
}

/** A disconnect that was given up, as a row. */
export interface DeadRow extends DueRow {
  readonly diedAtMs: number;
  readonly keptForMs: number;
  readonly cause: string;
  readonly place: number;
}

/** A waiting disconnect as a row. */
export interface WaitingRow {
  readonly connectionId: string;
  readonly hub: string;
  readonly facts: string;
  readonly place: number;
  readonly triedForMs: number;
  readonly refusedForMs: number;
}

/** Facts in the order of `FactsRow`. */
type FactsColumns = [string, string, string, string];

/** Close code and reason, whether the connect outcome is unknown, due since, tried for, refused for, nth, place. */
type DueColumns = [...FactsColumns, number, string, number, number, number, number, number, number];

/** The statements of a journal's file, ready to run. */
export interface JournalStatements {
  readonly begin: Statement<unknown, []>;
  readonly commit: Statement<unknown, []>;
  readonly connecting: Statement<unknown, FactsColumns>;
  readonly connected: Statement<unknown, [string, string]>;
  readonly due: Statement<unknown, DueColumns>;
  readonly tried: Statement<unknown, [string, number, number]>;
  readonly settled: Statement<unknown, [string]>;
  readonly died: Statement<unknown, [number, string, number, string, number]>;
  readonly recover: Statement<unknown, [number, string, number, number]>;
  readonly revive: Statement<unknown, [number, number, string]>;
  readonly reviveAll: Statement<unknown, [number, number]>;
  readonly drop: Statement<unknown, [string]>;
  readonly dropAll: Statement<unknown, []>;
  readonly age: Statement<unknown, [number]>;
  readonly dropKept: Statement<unknown, [number]>;
  readonly probe: Statement<unknown, []>;
  readonly reserve: Statement<unknown, [number]>;
  readonly waiting: Statement<WaitingRow, [number, number]>;
  readonly read: Statement<DueRow, [string]>;
  readonly deadLetters: Statement<DeadRow, [number, number]>;
}

/** Prepares every statement. They are to be finalized before the database is closed. */
export function prepareStatements(database: Database): JournalStatements {
  return { ...prepareWrites(database), ...prepareOperatorWrites(database), ...prepareReads(database) };
}

function prepareWrites(database: Database) {
  return {
    begin: database.prepare<unknown, []>("BEGIN"),
    commit: database.prepare<unknown, []>("COMMIT"),
    connecting: database.prepare<unknown, FactsColumns>(
      `INSERT OR REPLACE INTO connections (id, hub, user_id, facts, state, claims, client_query, forwarded_for)
       VALUES (?, ?, ?, ?, ${STATE.connecting}, '', '', '')`,
    ),
    connected: database.prepare<unknown, [string, string]>(
      `UPDATE connections SET state = ${STATE.connected}, user_id = ?2 WHERE id = ?1 AND state <= ${STATE.connected}`,
    ),
    due: database.prepare<unknown, DueColumns>(
      `INSERT OR REPLACE INTO connections (id, hub, user_id, facts,
         close_code, close_reason, connect_unknown, due_since_ms, tried_for_ms, refused_for_ms, nth, place, state, claims, client_query, forwarded_for)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ${STATE.due}, '', '', '')`,
    ),
    tried: database.prepare<unknown, [string, number, number]>(
      `UPDATE connections SET tried_for_ms = ?2, refused_for_ms = ?3 WHERE id = ?1 AND state = ${STATE.due}`,
    ),
    settled: database.prepare<unknown, [string]>("DELETE FROM connections WHERE id = ?"),
    died: database.prepare<unknown, [number, string, number, string, number]>(
      `UPDATE connections SET state = ${STATE.dead}, place = ?1, died_at_ms = ?3, cause = ?4,
         kept_from_ms = COALESCE((SELECT kept_ms FROM journal), 0) - ?5
       WHERE id = ?2 AND state = ${STATE.due}`,
    ),
    recover: database.prepare<unknown, [number, string, number, number]>(
      `UPDATE connections SET state = ${STATE.due}, close_code = ?1, close_reason = ?2, due_since_ms = ?3,
         connect_unknown = state = ${STATE.connecting}, place = ?4 + orphan.nth
       FROM (SELECT number AS n, row_number() OVER (ORDER BY number) - 1 AS nth FROM connections
             WHERE state <= ${STATE.connected}) AS orphan
       WHERE number = orphan.n`,
    ),
    probe: database.prepare<unknown, []>("UPDATE journal SET probes = probes + 1"),
    reserve: database.prepare<unknown, [number]>("UPDATE journal SET places = ?"),
  };
}

function prepareOperatorWrites(database: Database) {
  return {
    revive: database.prepare<unknown, [number, number, string]>(
      `UPDATE connections SET state = ${STATE.due}, place = ?1, due_since_ms = ?2, tried_for_ms = 0, refused_for_ms = 0,
         died_at_ms = 0, cause = ''
       WHERE id = ?3 AND state = ${STATE.dead}`,
    ),
    reviveAll: database.prepare<unknown, [number, number]>(
      `UPDATE connections SET state = ${STATE.due}, place = ?1 + old.nth, due_since_ms = ?2, tried_for_ms = 0,
         refused_for_ms = 0, died_at_ms = 0, cause = ''
       FROM (SELECT number AS n, row_number() OVER (ORDER BY place) - 1 AS nth FROM connections
             WHERE state = ${STATE.dead}) AS old
       WHERE number = old.n`,
    ),
    drop: database.prepare<unknown, [string]>(`DELETE FROM connections WHERE id = ? AND state = ${STATE.dead}`),
    dropAll: database.prepare<unknown, []>(`DELETE FROM connections WHERE state = ${STATE.dead}`),
    age: database.prepare<unknown, [number]>("UPDATE journal SET kept_ms = kept_ms + ?"),
    dropKept: database.prepare<unknown, [number]>(
      `DELETE FROM connections WHERE state = ${STATE.dead} AND kept_from_ms <= (SELECT kept_ms FROM journal) - ?`,
    ),
  };
}

function prepareReads(database: Database) {
  return {
    waiting: database.prepare<WaitingRow, [number, number]>(
      `SELECT id AS connectionId, hub, facts, place, tried_for_ms AS triedForMs, refused_for_ms AS refusedForMs FROM connections
       WHERE state = ${STATE.due} AND place > ? ORDER BY place LIMIT ?`,
    ),
    read: database.prepare<DueRow, [string]>(
      `SELECT ${DUE_COLUMNS} FROM connections WHERE id = ? AND state = ${STATE.due}`,
    ),
    deadLetters: database.prepare<DeadRow, [number, number]>(
      `SELECT ${DUE_COLUMNS}, died_at_ms AS diedAtMs, COALESCE((SELECT kept_ms FROM journal), 0) - kept_from_ms AS keptForMs, cause, place
       FROM connections
       WHERE state = ${STATE.dead} AND place > ? ORDER BY place LIMIT ?`,
    ),
  };
}
