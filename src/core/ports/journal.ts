import type { CloseCause } from "../../protocol/close-causes.ts";
import type { DialectName } from "../../protocol/dialect-names.ts";
import type { ConnectionFacts } from "../../protocol/facts.ts";

/** A disconnect event that is owed. */
export interface OwedDisconnect {
  readonly facts: ConnectionFacts;
  readonly end: CloseCause;
  /** True where the connect event was sent and its answer never came. */
  readonly connectOutcomeUnknown: boolean;
  /** Which of two events it is, where connect was answered with 2xx after it had timed out; absent where there is one (decision 0038). */
  readonly nth?: "first" | "second";
}

/** Ages of a waiting disconnect when they were stored, by the monotonic clocks of all processes that have tried it. */
export interface RetryAges {
  /** Since its first try. */
  readonly triedForMs: number;
  /** Since the first of its last tries that the backend refused (decision 0037); 0 where the last try was not refused. */
  readonly refusedForMs: number;
}

/** A disconnect event that failed and waits. */
export interface DueDisconnect extends OwedDisconnect, RetryAges {
  /** Unix time in milliseconds at which it was first found undelivered. For display only: a clock can be set. */
  readonly dueSinceMs: number;
}

/** A disconnect event that waits for its next try, as light as a queue of many wants it. */
export interface WaitingDisconnect extends RetryAges {
  readonly connectionId: string;
  readonly hub: string;
  readonly dialect: DialectName;
  /** Its place in the queue: later ones are larger, and none is used twice. */
  readonly place: number;
}

/** How a disconnect event was given up. */
export type Death = Pick<DeadLetter, "diedAtMs" | "cause" | "keptForMs">;

/** A disconnect event that was given up. */
export interface DeadLetter extends DueDisconnect {
  /** Unix time in milliseconds. For display only: a clock can be set. */
  readonly diedAtMs: number;
  /** How long it has been kept, by the monotonic clocks of the processes that have kept it: see `ageDeadLetters`. */
  readonly keptForMs: number;
  /** The outcome of its last try, in words. */
  readonly cause: string;
  readonly place: number;
}

/**
 * Remembers, beyond the process, which disconnect events are owed.
 *
 *     connecting ──▶ connected ──▶ due ──▶ dead (30 days)
 *         │              │          ▲│       │
 *         └──────────────┴──────────┘└─▶ settled ◀┘    at the next start all that is not due or dead becomes due
 *
 * Promise: what was resolved survives a crash of the process; with `synchronous: full` a power cut too.
 * Order:   as called. The connect event is posted after `connecting` has resolved, and the 101 sent after `connected` has.
 * Errors:  `connecting`, `connected`, the operator's calls, `ageDeadLetters` and the reads reject where the disk fails. The other
 *          writes never do: what the disk does not take is kept in memory and written when it takes it, so a crash meanwhile costs a
 *          duplicate, never a loss. Of `tried` a crash may lose the last one: the event is retried for longer.
 *          A rejected `connecting` leaves nothing behind.
 * Cost:    one write for all that is called in one turn of the event loop.
 */
export interface Journal {
  /** False from the first write that failed to the next that did not. */
  readonly isWritable: boolean;
  connecting(facts: ConnectionFacts): Promise<void>;
  /** The connect event was answered with 2xx: this is the user. */
  connected(connectionId: string, userId: string | null): Promise<void>;
  /** Its disconnect event failed and waits; resolves with its place. Called again, it gets a new place. */
  due(disconnect: DueDisconnect): Promise<number>;
  /** Nothing is owed any more. An unknown id is not an error. */
  settled(connectionId: string): Promise<void>;
  /** The waiting disconnect failed once more, and is so old now. It keeps its place. */
  tried(connectionId: string, ages: RetryAges): Promise<void>;
  /** The waiting disconnect is given up, or, where another node had given it up, has been kept for so long. */
  died(connectionId: string, death: Death): Promise<void>;

  /**
   * To be called once, before anything else: what an earlier process left behind in `connecting` or `connected` becomes due
   * with this end. Resolves with the number of these. Their connect outcome is unknown where they were still connecting.
   */
  recover(end: CloseCause, nowMs: number): Promise<number>;
  /** The waiting ones behind a place, in order, at most `limit`. */
  waiting(afterPlace: number, limit: number): Promise<WaitingDisconnect[]>;
  /** A waiting one in full; null where it is not waiting. */
  read(connectionId: string): Promise<DueDisconnect | null>;

  /** Dead letters behind a place, in order, at most `limit`. */
  deadLetters(afterPlace: number, limit: number): Promise<DeadLetter[]>;
  /** Makes dead letters due again, all of them where `connectionIds` is null; resolves with how many there were. */
  revive(connectionIds: readonly string[] | null, nowMs: number): Promise<number>;
  /** Forgets dead letters, all of them where `connectionIds` is null; resolves with how many there were. */
  drop(connectionIds: readonly string[] | null): Promise<number>;
  /** So much time has passed for all dead letters. Forgets those that have been kept for `maxMs`; resolves with how many there were. */
  ageDeadLetters(elapsedMs: number, maxMs: number): Promise<number>;
  /** Writes what is still to be written. May be called twice. */
  close(): Promise<void>;
}

/** What a journal has of one connection. */
export type JournalEntry =
  | { readonly state: "connecting" | "connected"; readonly facts: ConnectionFacts }
  | { readonly state: "due"; readonly due: DueDisconnect }
  | { readonly state: "dead"; readonly letter: Omit<DeadLetter, "place"> };

/** What an operator can do with disconnect events that were given up. */
export interface DeadLetters {
  list(afterPlace: number, limit: number): Promise<DeadLetter[]>;
  /** Sends them again, all of them where `connectionIds` is null; resolves with how many there were. */
  retry(connectionIds: readonly string[] | null): Promise<number>;
  drop(connectionIds: readonly string[] | null): Promise<number>;
}
