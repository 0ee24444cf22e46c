import type { DueDisconnect, JournalEntry } from "../core/ports.ts";
import type { CloseCause } from "../protocol/close-causes.ts";
import type { ConnectionFacts } from "../protocol/events.ts";

/** What a message of a node's log is. After a fence its node writes no more. */
export type LogMessageKind = "batch" | "snapshot" | "fence";

/** Who wrote a message, and which it is. */
export interface LogMessageHead {
  readonly kind: LogMessageKind;
  /** Random, one for each life of a writer. */
  readonly author: string;
  /** Counts the author's messages. */
  readonly number: number;
  /** Of a snapshot: from 0; its parts have numbers one behind the other. */
  readonly part: number;
  readonly isLast: boolean;
}

/** What became of one connection: this is its entry now, or its user is known now, or (null) it has none any more. */
export interface LogRecord {
  readonly connectionId: string;
  readonly change: JournalEntry | { readonly state: "named"; readonly userId: string } | null;
}

/** A message as it was read. */
export interface LogMessage extends LogMessageHead {
  readonly records: readonly LogRecord[];
}

/** The first element of every message. A reader skips what it does not know. */
const VERSION = 1;

/** The first element of every record. */
const CODE = { connecting: 0, connected: 1, due: 2, dead: 3, named: 4, settled: 5 } as const;

/**
 * A record as text.
 *
 * Shape:  JSON: code and facts row; code, facts row and end; code, id and user; code and id.
 */
export function formatEntry(entry: JournalEntry): string {
  switch (entry.state) {
    case "connecting":
    case "connected":
      return JSON.stringify([CODE[entry.state], rowOf(entry.facts)]);
    case "due":
      return JSON.stringify([CODE.due, rowOf(entry.due.facts), ...endOf(entry.due)]);
    case "dead": {
      const { facts, diedAtMs, cause } = entry.letter;
      return JSON.stringify([CODE.dead, rowOf(facts), ...endOf(entry.letter), diedAtMs, cause]);
    }
  }
}

/** The record of a connection whose entry is in the log already, and whose user is known now. */
export function formatNamed(connectionId: string, userId: string): string {
  return JSON.stringify([CODE.named, connectionId, userId]);
}

export function formatSettled(connectionId: string): string {
  return JSON.stringify([CODE.settled, connectionId]);
}

/**
 * A message as it is stored.
 *
 * Shape:  JSON: version, kind, author, number, part, whether it is the last part, records.
 */
export function formatMessage({ kind, author, number, part, isLast }: LogMessageHead, records: string): string {
  return `[${VERSION},"${kind}","${author}",${number},${part},${isLast},[${records}]]`;
}

/** Null for what no node of this version wrote, and for what is damaged. Never throws. */
export function parseMessage(bytes: Uint8Array): LogMessage | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8"));
  } catch {
    return null;
  }
  if (!Array.isArray(parsed) || parsed[0] !== VERSION) return null;
  const [, kind, author, number, part, isLast, rows] = parsed as unknown[];
  if (kind !== "batch" && kind !== "snapshot" && kind !== "fence") return null;
  if (typeof author !== "string" || typeof number !== "number" || typeof part !== "number") return null;
  if (typeof isLast !== "boolean" || !Array.isArray(rows)) return null;
  const records: LogRecord[] = [];
  for (const row of rows as unknown[]) {
    const record = Array.isArray(row) ? readRecord(row) : null;
    if (record === null) return null;
    records.push(record);
  }
  return { kind, author, number, part, isLast, records };
}

function rowOf({ connectionId, hub, userId, claims, clientQuery, forwardedFor }: ConnectionFacts): readonly string[] {
  return [connectionId, hub, userId, claims, clientQuery, forwardedFor];
}

function endOf({ end, connectOutcomeUnknown, dueSinceMs }: Omit<DueDisconnect, "facts">) {
  return [end.code, end.reason, connectOutcomeUnknown, dueSinceMs];
}

function readRecord(row: readonly unknown[]): LogRecord | null {
  const [code, subject] = row;
  if (code === CODE.settled) return typeof subject === "string" ? { connectionId: subject, change: null } : null;
  if (code === CODE.named) {
    if (typeof subject !== "string" || typeof row[2] !== "string") return null;
    return { connectionId: subject, change: { state: "named", userId: row[2] } };
  }
  const facts = readFacts(subject);
  const change = facts === null ? null : readEntry(facts, row);
  return facts === null || change === null ? null : { connectionId: facts.connectionId, change };
}

function readEntry(facts: ConnectionFacts, row: readonly unknown[]): JournalEntry | null {
  const [code, , closeCode, reason, connectOutcomeUnknown, dueSinceMs, diedAtMs, cause] = row;
  if (code === CODE.connecting) return { state: "connecting", facts };
  if (code === CODE.connected) return { state: "connected", facts };
  if (typeof closeCode !== "number" || typeof reason !== "string") return null;
  if (typeof connectOutcomeUnknown !== "boolean" || typeof dueSinceMs !== "number") return null;
  const end: CloseCause = { code: closeCode, reason };
  const due: DueDisconnect = { facts, end, connectOutcomeUnknown, dueSinceMs, triedForMs: 0 };
  if (code === CODE.due) return { state: "due", due };
  if (code !== CODE.dead || typeof diedAtMs !== "number" || typeof cause !== "string") return null;
  return { state: "dead", letter: { ...due, diedAtMs, cause, keptForMs: 0 } };
}

function readFacts(row: unknown): ConnectionFacts | null {
  if (!Array.isArray(row) || row.length !== 6 || !row.every((field) => typeof field === "string")) return null;
  const [connectionId, hub, userId, claims, clientQuery, forwardedFor] = row as unknown as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  return { connectionId, hub, userId, claims, clientQuery, forwardedFor };
}
