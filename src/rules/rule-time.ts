/** A moment by both times: what the store keeps, to go on from at the next start. */
export interface ClockPair {
  /** By the time of the rules, in milliseconds. */
  readonly ruleMs: number;
  /** By the clock of this machine: Unix time in milliseconds. */
  readonly wallMs: number;
}

/** The two clocks of a machine. */
export interface Clocks {
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** Unix time in milliseconds, which can be set. */
  readonly wallMs: () => number;
}

/** A stop of hubwire for longer than this may be a clock that is wrong. */
const PLAUSIBLE_STOP_MS = 24 * 3_600_000;

/** For so long a clock that seems wrong is waited for: it is set right soon after a machine has started. */
const DOUBT_MS = 3_600_000;

/** A clock that is set by less makes no difference. */
const MIN_SHIFT_MS = 5000;

/**
 * The time by which group rules end: Unix time where the clock is right, and never one that jumps with it.
 *
 *     last run ──ruleMs, wallMs──▶ stop: so long as the clock says ──▶ this run: monotonic
 *                                   └─ longer than a day, or less than nothing: in doubt for an hour
 *
 * Shape:  the clock says one thing only, how long hubwire was stopped. Where that is in doubt, a clock that is set right within the hour
 *         is asked again.
 * Source: decision 0042.
 */
export class RuleTime {
  readonly #clocks: Clocks;
  #last: ClockPair | null = null;
  #beganAtMs: number;
  /** How long hubwire was stopped, as far as is known. */
  #stoppedMs = 0;
  #isInDoubt = false;
  #beganRuleMs: number;

  constructor(clocks: Clocks) {
    this.#clocks = clocks;
    this.#beganAtMs = clocks.now();
    this.#beganRuleMs = clocks.wallMs();
  }

  /** Goes on from the last run; null: there was none, or it kept no time. Returns by how much the clock does not fit, in words. */
  begin(last: ClockPair | null): string | null {
    if (last === null) return null;
    this.#last = last;
    this.#beganAtMs = this.#clocks.now();
    const stoppedMs = this.#clocks.wallMs() - last.wallMs;
    this.#isInDoubt = stoppedMs < -MIN_SHIFT_MS || stoppedMs > PLAUSIBLE_STOP_MS;
    this.#stoppedMs = Math.max(stoppedMs, 0);
    this.#beganRuleMs = last.ruleMs;
    if (!this.#isInDoubt) return null;
    return `the clock is ${Math.round(Math.abs(stoppedMs) / 1000)} s ${stoppedMs < 0 ? "behind" : "ahead of"} the last run`;
  }

  /** Whether the length of the stop may still be corrected. */
  get isInDoubt(): boolean {
    return this.#isInDoubt;
  }

  nowMs(): number {
    return Math.round(this.#beganRuleMs + this.#stoppedMs + this.#uptimeMs());
  }

  pair(): ClockPair {
    return { ruleMs: this.nowMs(), wallMs: Math.round(this.#clocks.wallMs()) };
  }

  /**
   * Asks the clock again while in doubt. Returns by how much the time of the rules was corrected, in milliseconds, once the doubt is over,
   * and null otherwise.
   */
  settle(): number | null {
    if (!this.#isInDoubt || this.#last === null) return null;
    const uptimeMs = this.#uptimeMs();
    const stoppedMs = this.#clocks.wallMs() - uptimeMs - this.#last.wallMs;
    const isSetRight = stoppedMs > -MIN_SHIFT_MS && stoppedMs <= PLAUSIBLE_STOP_MS;
    if (!isSetRight && uptimeMs < DOUBT_MS) return null;
    this.#isInDoubt = false;
    if (!isSetRight) return 0;
    const shiftMs = Math.max(Math.round(stoppedMs), 0) - this.#stoppedMs;
    this.#stoppedMs += shiftMs;
    return shiftMs;
  }

  #uptimeMs(): number {
    return this.#clocks.now() - this.#beganAtMs;
  }
}
