import { join } from "node:path";
import type {
  DeadLetter,
  Death,
  DueDisconnect,
  OwedDisconnect,
  RetryAges,
  WaitingDisconnect,
} from "../core/ports/journal.ts";
import type { FactsRow } from "../protocol/facts.ts";

/** The parts of a waiting disconnect besides its facts. */
export type DueEnd = readonly [
  code: number,
  reason: string,
  unknown: boolean,
  sinceMs: number,
  triedForMs: number,
  refusedForMs: number,
  nthCode: number,
];

/** `RetryAges` as a row. */
export type AgesRow = readonly [triedForMs: number, refusedForMs: number];

/** The write that journals a waiting disconnect. */
export type DueWrite = readonly ["due", place: number, facts: FactsRow, end: DueEnd];

/** A write that is kept in memory while the disk does not take it. */
export type KeepableWrite =
  | DueWrite
  | readonly ["tried", connectionId: string, ages: AgesRow]
  | readonly ["settled", connectionId: string]
  | readonly ["died", place: number, connectionId: string, death: Death]
  | readonly ["recover", firstPlace: number, code: number, reason: string, nowMs: number];

/** A write whose caller has to know that the disk did not take it. */
export type DemandingWrite =
  | readonly ["connecting", facts: FactsRow]
  | readonly ["connected", connectionId: string, userIdText: string]
  | readonly ["revive", firstPlace: number, nowMs: number, connectionIds: readonly string[] | null]
  | readonly ["drop", connectionIds: readonly string[] | null]
  | readonly ["ageDeadLetters", elapsedMs: number, maxMs: number]
  /** Changes nothing but a counter: shows whether the disk takes writes. */
  | readonly ["probe"];

export type Read =
  | readonly ["waiting", afterPlace: number, limit: number]
  | readonly ["read", connectionId: string]
  | readonly ["deadLetters", afterPlace: number, limit: number];

/** The requests of the journal to its file. Tuples of strings and numbers, since they are copied to another thread. */
export type Operation = KeepableWrite | DemandingWrite | Read;

/** A write's number of rows, or what a read found. */
export type Result = number | DueDisconnect | WaitingDisconnect[] | DeadLetter[] | null;

/** The outcome of a batch. All of it was written, or, where there is a `failure`, none. */
export interface BatchOutcome {
  readonly failure: string | null;
  /** One for each operation. Null where they could not be carried out; after a failed commit they are as if it had not. */
  readonly results: readonly Result[] | null;
}

/** From the event loop to the thread. Each is answered once, in order. */
export type Request =
  | readonly ["open", dataDir: string, synchronous: Synchronous]
  /** The open file is not where its path leads: a new one takes its place, with all that can still be read. */
  | readonly ["replace", reason: string]
  /** `finishCheckpoint`: after the answer the rest of the WAL is played into the file. */
  | readonly ["batch", operations: readonly Operation[], finishCheckpoint: boolean]
  /** Plays the WAL of another thread's file. */
  | readonly ["checkpoint", path: string]
  | readonly ["close"];

/** From the thread. `damaged` answers nothing: it comes before the answer. */
export type Reply =
  | readonly ["damaged", movedTo: string, reason: string]
  | readonly ["opened", nextPlace: number]
  /** `hopeless`: no later try will do better. */
  | readonly ["unopened", reason: string, hopeless: boolean]
  | readonly ["batch", outcome: BatchOutcome]
  | readonly ["checkpointed"]
  | readonly ["closed"];

/** What a commit waits for: nothing but the kernel, or the disk. */
export type Synchronous = "normal" | "full";

/** Where the journal of a folder is. */
export function journalPath(dataDir: string): string {
  return join(dataDir, "journal.sqlite");
}

/** How many places an operation on many connections takes at once: more than a file will ever hold. */
export const PLACES_AT_ONCE = 2 ** 26;

export function isRead(operation: Operation): operation is Read {
  return operation[0] === "waiting" || operation[0] === "read" || operation[0] === "deadLetters";
}

export function isKeepable(operation: Operation): operation is KeepableWrite {
  const [name] = operation;
  return name === "due" || name === "tried" || name === "settled" || name === "died" || name === "recover";
}

export function isDemanding(operation: Operation): operation is DemandingWrite {
  return !isRead(operation) && !isKeepable(operation);
}

/** A due disconnect that is so old by now. */
export function withAges(due: DueWrite, ages: AgesRow): DueWrite {
  const [name, place, facts, [code, reason, unknown, sinceMs, , , nthCode]] = due;
  return [name, place, facts, [code, reason, unknown, sinceMs, ...ages, nthCode]];
}

/** `OwedDisconnect.nth` as a number. */
export function toNthCode({ nth }: Pick<OwedDisconnect, "nth">): number {
  return nth === undefined ? 0 : nth === "first" ? 1 : 2;
}

export function fromNthCode(code: number): Pick<OwedDisconnect, "nth"> {
  return code === 1 ? { nth: "first" } : code === 2 ? { nth: "second" } : {};
}

export function toAgesRow({ triedForMs, refusedForMs }: RetryAges): AgesRow {
  return [triedForMs, refusedForMs];
}

/** The error with which the journal rejects a call. */
export function refusedBy(reason: string): Error {
  return new Error(`the journal of connections: ${reason}`);
}
