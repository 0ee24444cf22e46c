import { type DialectName, dialectOf } from "../protocol/dialect-names.ts";
import type { ConnectionFacts } from "../protocol/facts.ts";
import type { RetryAges } from "./ports/journal.ts";

/** Pauses between failures in a row: this, doubled each time, up to the next. Source: PROTOCOL.md, "When it is tried again". */
const FIRST_BACK_OFF_MS = 500;
export const MAX_BACK_OFF_MS = 30_000;

/** A pause is this share of itself at least; the rest is drawn, so that many gateways do not come back at the same time. */
const JITTER_FLOOR = 0.5;

/** How long disconnect events are tried. */
export interface RetryLimits {
  /** Time spent trying, from the first failure on; then it is a dead letter. 0: at the first failure. */
  readonly retryForSeconds: number;
  /** Time spent being refused, from the first of the last tries that were. 0: at the first refusal. */
  readonly retryRefusedForSeconds: number;
}

/** The pause after so many failures in a row. `random` is below 1. */
export function backOffMs(failuresInRow: number, random: number): number {
  const fullMs = Math.min(MAX_BACK_OFF_MS, FIRST_BACK_OFF_MS * 2 ** (failuresInRow - 1));
  return fullMs * (JITTER_FLOOR + (1 - JITTER_FLOOR) * random);
}

/** Whose event it is, and what chooses the entry that takes it. */
export interface HeldNames {
  readonly connectionId: string;
  readonly hub: string;
  readonly dialect: DialectName;
}

export function namesOf(facts: ConnectionFacts): HeldNames {
  return { connectionId: facts.connectionId, hub: facts.hub, dialect: dialectOf(facts) };
}

/**
 * A waiting disconnect as it is held in memory.
 *
 * Units: all times are the clock's. Never a difference of dates: a clock that is set right would end all retries at once, or none.
 */
export class HeldDisconnect {
  readonly connectionId: string;
  readonly hub: string;
  readonly dialect: DialectName;
  /** Whether connect was answered with 2xx after this event began to wait, so that a second one follows. */
  isFollowed = false;
  /** When its retries began, had all of them been made by this process: so it may lie before the process's start. */
  readonly #triedSinceMs: number;
  /** The same for the last tries, which were refused; null where the last was not. */
  #refusedSinceMs: number | null;
  /** How many of its last tries were refused, in this process. */
  #refusedCount = 0;

  constructor(names: HeldNames, ages: RetryAges, nowMs: number) {
    this.connectionId = names.connectionId;
    this.hub = names.hub;
    this.dialect = names.dialect;
    this.#triedSinceMs = nowMs - ages.triedForMs;
    this.#refusedSinceMs = ages.refusedForMs === 0 ? null : nowMs - ages.refusedForMs;
  }

  agesAt(nowMs: number): RetryAges {
    const refusedForMs = this.#refusedSinceMs === null ? 0 : nowMs - this.#refusedSinceMs;
    return { triedForMs: nowMs - this.#triedSinceMs, refusedForMs };
  }

  /** A try has failed. Returns whether this is the first refusal. */
  failed({ isRefusal, nowMs }: { readonly isRefusal: boolean; readonly nowMs: number }): boolean {
    this.#refusedSinceMs = isRefusal ? (this.#refusedSinceMs ?? nowMs) : null;
    this.#refusedCount = isRefusal ? this.#refusedCount + 1 : 0;
    return this.#refusedCount === 1;
  }

  /** Whether it is to be given up. A refusal, which its last try must have met, has a limit of its own. */
  isTimeUp({ retryForSeconds, retryRefusedForSeconds }: RetryLimits, nowMs: number, isRefused = false): boolean {
    const { triedForMs, refusedForMs } = this.agesAt(nowMs);
    return isRefused ? refusedForMs >= retryRefusedForSeconds * 1000 : triedForMs >= retryForSeconds * 1000;
  }

  /** How long this event waits before its next try after a refusal, although its entry takes others. */
  restMs(
    { retryRefusedForSeconds }: RetryLimits,
    refusal: {
      readonly nowMs: number;
      readonly waitMs: number | null;
      readonly random: number;
      readonly tried: boolean;
    },
  ): number {
    const { nowMs, waitMs, random, tried } = refusal;
    const pauseMs = Math.max(waitMs ?? 0, backOffMs(Math.max(1, this.#refusedCount), random));
    if (!tried) return pauseMs;
    // The last try is made when the time is up, not up to half a minute later.
    return Math.min(pauseMs, retryRefusedForSeconds * 1000 - this.agesAt(nowMs).refusedForMs);
  }
}
