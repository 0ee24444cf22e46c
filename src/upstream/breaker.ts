/** When an entry's breaker opens. */
export interface BreakerSettings {
  /** Share of failures at which it opens, up to 1; 0 turns it off. */
  readonly failureRatio: number;
  /** Fewer calls than this within the window say nothing. */
  readonly minCalls: number;
  readonly windowMs: number;
}

/** What the breaker says to an event: go, go as the one that tries whether the upstream is back, or don't. */
export type Admission = "pass" | "probe" | "refuse";

/** The result of an admitted call: `none` where it says nothing of the upstream. */
export type BreakerResult = "success" | "failure" | "none";

/** How long an open breaker waits before it lets another event try. */
export const PROBE_INTERVAL_MS = 1000;

/** The window moves on in this many steps. */
const SLICES = 10;

/**
 * Keeps events from an upstream that fails: it could not recover, and clients would wait in vain.
 *
 *   closed ── failures / calls >= failureRatio, of at least minCalls ──> open
 *      ^                                                                  │ once a second: one probe
 *      └────────────────────────── its success ───────────────────────────┘
 *
 * Order: results of calls that were admitted before it opened, or at the same time as the probe, change nothing while it is open.
 * Units: times are milliseconds of the caller's clock.
 */
export class Breaker {
  readonly #settings: BreakerSettings;
  readonly #calls = new Array<number>(SLICES).fill(0);
  readonly #failures = new Array<number>(SLICES).fill(0);
  readonly #sliceMs: number;
  /** The number of the newest slice, counted from the clock's zero. */
  #slice = 0;
  #open = false;
  #probing = false;
  #nextProbeAt = 0;

  constructor(settings: BreakerSettings) {
    this.#settings = settings;
    this.#sliceMs = Math.max(1, settings.windowMs / SLICES);
  }

  get isOpen(): boolean {
    return this.#open;
  }

  /** Whether an event that came now would be refused. */
  wouldRefuse(nowMs: number): boolean {
    return this.#open && (this.#probing || nowMs < this.#nextProbeAt);
  }

  /** Asks whether an event may be sent now. Every call that is not refused must be followed by one `settle`. */
  admit(nowMs: number): Admission {
    if (!this.#open) return "pass";
    if (this.wouldRefuse(nowMs)) return "refuse";
    this.#probing = true;
    return "probe";
  }

  /** Tells how an admitted call went; `isProbe` is whether it was admitted as the probe. */
  settle(result: BreakerResult, call: { readonly isProbe: boolean; readonly nowMs: number }): void {
    if (call.isProbe) this.#settleProbe(result, call.nowMs);
    else if (!this.#open && result !== "none") this.#count(result === "failure" ? 1 : 0, call.nowMs);
  }

  #settleProbe(result: BreakerResult, nowMs: number): void {
    this.#probing = false;
    if (result === "success") this.#close();
    else if (result === "failure") this.#nextProbeAt = nowMs + PROBE_INTERVAL_MS;
  }

  #close(): void {
    this.#open = false;
    this.#calls.fill(0);
    this.#failures.fill(0);
  }

  #count(failures: number, nowMs: number): void {
    this.#moveWindow(Math.floor(nowMs / this.#sliceMs));
    const index = this.#slice % SLICES;
    this.#calls[index] = (this.#calls[index] ?? 0) + 1;
    this.#failures[index] = (this.#failures[index] ?? 0) + failures;
    if (failures === 0) return;
    const calls = sum(this.#calls);
    if (
      this.#settings.failureRatio === 0 ||
      calls < this.#settings.minCalls ||
      sum(this.#failures) / calls < this.#settings.failureRatio
    )
      return;
    this.#open = true;
    this.#nextProbeAt = nowMs + PROBE_INTERVAL_MS;
  }

  #moveWindow(slice: number): void {
    if (slice - this.#slice >= SLICES) {
      this.#calls.fill(0);
      this.#failures.fill(0);
    } else {
      for (let passed = this.#slice + 1; passed <= slice; passed++) {
        this.#calls[passed % SLICES] = 0;
        this.#failures[passed % SLICES] = 0;
      }
    }
    this.#slice = slice;
  }
}

function sum(numbers: readonly number[]): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}
