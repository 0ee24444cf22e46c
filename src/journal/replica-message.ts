import type { DueDisconnect, JournalEntry } from "../core/ports/journal.ts";
import type { CloseCause } from "../protocol/close-causes.ts";
import {
  type ConnectionFacts,
  type FactsRow,
  formatUserId,
  fromEarlierRow,
  fromFactsRow,
  parseUserId,
  toFactsRow,
  toFirstFormRow,
} from "../protocol/facts.ts";
import { NEWEST_FORM, OLDEST_FORM } from "../protocol/forms.ts";
import { fromNthCode, toNthCode } from "./operation.ts";

/** What a message of a node's replica is. After a fence its node writes no more. */
export type ReplicaMessageKind = "batch" | "snapshot" | "fence";

/** The author of a message, and its number. */
export interface ReplicaMessageHead {
  readonly kind: ReplicaMessageKind;
  /** Random, one for each life of a writer. */
  readonly author: string;
  /** Counts the author's messages. */
  readonly number: number;
  /** Of a snapshot: from 0; its parts have numbers one behind the other. */
  readonly part: number;
  readonly isLast: boolean;
}

/** The new state of one connection: this is its entry now, or its user is known now, or (null) it has none any more. */
export interface ReplicaRecord {
  readonly connectionId: string;
  readonly change: JournalEntry | { readonly state: "named"; readonly userId: string | null } | null;
}

/** A message as it was read. */
export interface ReplicaMessage extends ReplicaMessageHead {
  readonly records: readonly ReplicaRecord[];
}

/** The first element of every record. */
const CODE = { connecting: 0, connected: 1, due: 2, dead: 3, named: 4, settled: 5 } as const;

/** How an entry is written. `keptForMs`: of a dead letter, by now. */
export interface EntryForm {
  readonly form: number;
  readonly keptForMs: number;
}

/**
 * A record as text.
 *
 * Shape:  JSON: code and facts row; code, facts row and end; code, id and user; code and id. In form 2 a facts row is that of
 *         `toFactsRow`, and the earlier one of seven texts is read too. Form 2 adds at the end of a due or dead entry for how long it was
 *         retried, of a dead one for how long it was kept, and of both for how long it had been refused and which of two events it is.
 *         The last two may be absent: the first builds of form 2 did not write them.
 */
export function formatEntry(entry: JournalEntry, { form, keptForMs }: EntryForm): string {
  const rowOf = form === OLDEST_FORM ? toFirstFormRow : toFactsRow;
  switch (entry.state) {
    case "connecting":
    case "connected":
      return JSON.stringify([CODE[entry.state], rowOf(entry.facts)]);
    case "due":
      return JSON.stringify([
        CODE.due,
        rowOf(entry.due.facts),
        ...endOf(entry.due),
        ...addedIn(form, entry.due.triedForMs, entry.due.refusedForMs, toNthCode(entry.due)),
      ]);
    case "dead": {
      const { facts, diedAtMs, cause, triedForMs, refusedForMs } = entry.letter;
      const added = addedIn(form, triedForMs, keptForMs, refusedForMs, toNthCode(entry.letter));
      const death = [diedAtMs, cause, ...added];
      return JSON.stringify([CODE.dead, rowOf(facts), ...endOf(entry.letter), ...death]);
    }
  }
}

/** The record of a connection whose entry is in the replica already, and whose user is known now. */
export function formatNamed(connectionId: string, userId: string | null): string {
  return JSON.stringify([CODE.named, connectionId, formatUserId(userId)]);
}

export function formatSettled(connectionId: string): string {
  return JSON.stringify([CODE.settled, connectionId]);
}

/**
 * A message as it is stored.
 *
 * Shape:  JSON: form, kind, author, number, part, whether it is the last part, records.
 */
export function formatMessage(
  { kind, author, number, part, isLast }: ReplicaMessageHead,
  { text: records, form }: { readonly text: string; readonly form: number },
): string {
  return `[${form},"${kind}","${author}",${number},${part},${isLast},[${records}]]`;
}

/** The form of a message that may be in a newer one; 0 where it has none. */
export function formOf(bytes: Uint8Array): number {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 12)).toString("latin1");
  return Number(/^\[([1-9][0-9]{0,8}),/.exec(head)?.[1] ?? 0);
}

/** Null for what is in a newer form, for what no node wrote, and for what is damaged. Never throws. */
export function parseMessage(bytes: Uint8Array): ReplicaMessage | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8"));
  } catch {
    return null;
  }
  if (!Array.isArray(parsed)) return null;
  const [form, kind, author, number, part, isLast, rows] = parsed as unknown[];
  if (typeof form !== "number" || !Number.isInteger(form) || form < OLDEST_FORM || form > NEWEST_FORM) return null;
  if (kind !== "batch" && kind !== "snapshot" && kind !== "fence") return null;
  if (typeof author !== "string" || typeof number !== "number" || typeof part !== "number") return null;
  if (typeof isLast !== "boolean" || !Array.isArray(rows)) return null;
  const records: ReplicaRecord[] = [];
  for (const row of rows as unknown[]) {
    const record = Array.isArray(row) ? readRecord(row, form) : null;
    if (record === null) return null;
    records.push(record);
  }
  return { kind, author, number, part, isLast, records };
}

function addedIn(form: number, ...added: readonly number[]): readonly number[] {
  return form === OLDEST_FORM ? [] : added;
}

function isNthCode(value: unknown): value is number {
  return value === 0 || value === 1 || value === 2;
}

function isAge(value: unknown): value is number {
  return typeof value === "number" && value >= 0 && value <= Number.MAX_SAFE_INTEGER;
}

function endOf({ end, connectOutcomeUnknown, dueSinceMs }: Omit<DueDisconnect, "facts">) {
  return [end.code, end.reason, connectOutcomeUnknown, dueSinceMs];
}

function readRecord(row: readonly unknown[], form: number): ReplicaRecord | null {
  const [code, subject] = row;
  if (code === CODE.settled) return typeof subject === "string" ? { connectionId: subject, change: null } : null;
  if (code === CODE.named) {
    if (typeof subject !== "string" || typeof row[2] !== "string") return null;
    return { connectionId: subject, change: { state: "named", userId: parseUserId(row[2]) } };
  }
  const facts = readFacts(subject, form);
  const change = facts === null ? null : readEntry(facts, row, form);
  return facts === null || change === null ? null : { connectionId: facts.connectionId, change };
}

function readEntry(facts: ConnectionFacts, row: readonly unknown[], form: number): JournalEntry | null {
  const [code, , closeCode, reason, connectOutcomeUnknown, dueSinceMs, diedAtMs, cause] = row;
  if (code === CODE.connecting) return { state: "connecting", facts };
  if (code === CODE.connected) return { state: "connected", facts };
  if (typeof closeCode !== "number" || typeof reason !== "string") return null;
  if (typeof connectOutcomeUnknown !== "boolean" || typeof dueSinceMs !== "number") return null;
  const end: CloseCause = { code: closeCode, reason };
  const numberAt = (index: number) => (form === OLDEST_FORM ? 0 : row[index]);
  const triedForMs = numberAt(code === CODE.due ? 6 : 8);
  const refusedForMs = numberAt(code === CODE.due ? 7 : 10) ?? 0;
  const nthCode = numberAt(code === CODE.due ? 8 : 11) ?? 0;
  if (!isAge(triedForMs) || !isAge(refusedForMs) || !isNthCode(nthCode)) return null;
  const ages = { triedForMs, refusedForMs };
  const due: DueDisconnect = { facts, end, connectOutcomeUnknown, dueSinceMs, ...ages, ...fromNthCode(nthCode) };
  if (code === CODE.due) return { state: "due", due };
  const keptForMs = numberAt(9);
  if (code !== CODE.dead || !isAge(keptForMs) || typeof diedAtMs !== "number" || typeof cause !== "string") return null;
  return { state: "dead", letter: { ...due, diedAtMs, cause, keptForMs } };
}

function readFacts(row: unknown, form: number): ConnectionFacts | null {
  if (!Array.isArray(row) || !row.every((field) => typeof field === "string")) return null;
  const texts: readonly string[] = row;
  if (form === OLDEST_FORM) return texts.length === 6 ? fromEarlierRow(texts) : null;
  if (texts.length === 7) return fromEarlierRow(texts);
  return texts.length === 4 ? fromFactsRow(texts as readonly string[] as FactsRow) : null;
}
