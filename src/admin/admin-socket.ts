import { join } from "node:path";

/** The socket by which command lines reach the process at work in a data folder. */
export function adminSocketPath(dataDir: string): string {
  return join(dataDir, "control.sock");
}

/** The paths of the requests; the host does not count. */
export const ADMIN_PATHS = {
  list: "/dead-letters",
  retry: "/dead-letters/retry",
  drop: "/dead-letters/drop",
  stats: "/stats",
} as const;

/** How many connection ids one request may name. */
export const MAX_CONNECTION_IDS = 1000;

/** A disconnect event that was given up, as people see it: without claims and query, which are for the backend alone. */
export interface DeadLetterEntry {
  readonly connectionId: string;
  readonly hub: string;
  readonly userId: string;
  readonly closeCode: number;
  readonly closeReason: string;
  readonly connectOutcomeUnknown: boolean;
  /** ISO 8601, UTC: when it was first found undelivered. */
  readonly since: string;
  /** ISO 8601, UTC: when it was given up. */
  readonly diedAt: string;
  readonly cause: string;
}

/** The answer to `list`. */
export interface DeadLetterPage {
  readonly deadLetters: readonly DeadLetterEntry[];
  /** The value of the next `?after=`; null where these were the last. */
  readonly next: number | null;
}

/** The body of `retry` and `drop`. */
export interface DeadLetterChoice {
  /** At most `MAX_CONNECTION_IDS`; null: all. */
  readonly connectionIds: readonly string[] | null;
}

/** The answer to `retry` and `drop`. */
export interface DeadLetterCount {
  readonly count: number;
  /** Which of the ids named no dead letter. */
  readonly missing: readonly string[];
}

/** The answer to a request that failed. */
export interface AdminError {
  /** A sentence for people. */
  readonly error: string;
}
