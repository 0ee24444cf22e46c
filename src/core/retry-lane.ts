import { backOffMs, type HeldDisconnect, MAX_BACK_OFF_MS } from "./held-disconnect.ts";
import type { EntryView } from "./ports/upstream.ts";
import { RateAllowance } from "./rate.ts";

/** While the entry's breaker is open one waiting event is tried this often: it is the breaker's probe. */
const PROBE_INTERVAL_MS = 1000;

/** The part of an entry's places that waiting events may use, so that live traffic does not wait for them. */
const PLACES_SHARE = 1 / 4;

/** Refused events that wait are looked for in steps of this length. */
const REST_STEP_MS = 100;

/**
 * The disconnect events that wait for one upstream entry, and when the next may be tried.
 *
 *     add ─▶ [ oldest … newest ] ─▶ take, if not in a pause ─▶ succeeded: as many at once as the bounds allow
 *                  ▲                                     ├──▶ failed: a pause; one that failed goes to the end
 *                  ├─────────────────────────────────────────┘
 *                  └── its own pause is over ◀── [ resting ] ◀── refused: it alone waits
 *
 * Why the pause is the entry's: an upstream that is down is down for all of them. A single event that fails goes to the end,
 * so it does not hold up others.
 */
export class RetryLane {
  readonly upstream: EntryView;
  /** Why the last try failed: the cause of events that are given up while they wait here. */
  lastCause = "not tried";
  /** In the order of the next try. */
  readonly #waiting = new Set<HeldDisconnect>();
  /** Those with a pause of their own, by the step in which it is over. */
  readonly #resting = new Map<number, HeldDisconnect[]>();
  #lastStep = 0;
  #rate: RateAllowance;
  #maxPerSecond: number;
  #underWay = 0;
  #failuresInRow = 0;
  /** The pause that failures made. An open breaker has times of its own. */
  #backOffUntilMs = 0;
  /** The pause that the upstream asked for, or that follows a refusal of the breaker. */
  #askedUntilMs = 0;
  #lastTryAtMs = Number.NEGATIVE_INFINITY;
  #sawBreakerOpen = false;
  #lastFailureAtMs = Number.NEGATIVE_INFINITY;

  constructor(upstream: EntryView, maxPerSecond: number, nowMs: number) {
    this.upstream = upstream;
    this.#maxPerSecond = maxPerSecond;
    this.#rate = new RateAllowance(maxPerSecond, nowMs);
  }

  setRate(maxPerSecond: number, nowMs: number): void {
    if (maxPerSecond === this.#maxPerSecond) return;
    this.#maxPerSecond = maxPerSecond;
    this.#rate = new RateAllowance(maxPerSecond, nowMs);
  }

  /** Whether nothing waits or is under way, and no failure is still of interest. */
  canBeForgotten(nowMs: number): boolean {
    if (this.#waiting.size > 0 || this.#resting.size > 0 || this.#underWay > 0) return false;
    return !this.isFailing || nowMs - this.#lastFailureAtMs > 2 * MAX_BACK_OFF_MS;
  }

  get isFailing(): boolean {
    return this.#failuresInRow > 0;
  }

  get waiting(): ReadonlySet<HeldDisconnect> {
    return this.#waiting;
  }

  add(one: HeldDisconnect): void {
    this.#waiting.add(one);
  }

  /** Whether events wait that were refused. */
  get isRefusing(): boolean {
    return this.#resting.size > 0;
  }

  /** Waits for itself, apart from the others. */
  rest(one: HeldDisconnect, untilMs: number): void {
    const step = Math.ceil(untilMs / REST_STEP_MS);
    const others = this.#resting.get(step);
    if (others === undefined) this.#resting.set(step, [one]);
    else others.push(one);
  }

  /** Gives up all that wait; what is under way stays. */
  takeAll(): HeldDisconnect[] {
    const all = [...this.#waiting, ...[...this.#resting.values()].flat()];
    this.#waiting.clear();
    this.#resting.clear();
    return all;
  }

  remove(one: HeldDisconnect): void {
    this.#waiting.delete(one);
  }

  /** Takes the next one to be tried; null while a bound or a pause is against it. `release` must follow. */
  take(nowMs: number): HeldDisconnect | null {
    this.#wake(nowMs);
    const places = Math.max(1, Math.floor(this.upstream.maxConcurrency * PLACES_SHARE));
    const allowed = this.isFailing || this.upstream.isBreakerOpen ? 1 : places;
    if (nowMs < this.#pausedUntilMs(nowMs) || this.#underWay >= allowed) return null;
    const [next] = this.#waiting;
    if (next === undefined || !this.#rate.take(1, nowMs)) return null;
    this.#waiting.delete(next);
    this.#underWay++;
    this.#lastTryAtMs = nowMs;
    return next;
  }

  release(nowMs: number): void {
    this.#underWay--;
    // A probe's pause begins with its end: the breaker counts from there.
    this.#lastTryAtMs = nowMs;
  }

  succeeded(): void {
    this.#failuresInRow = 0;
  }

  /** A try that began at `startedAtMs` has failed. Those that were under way together count once. `random` is below 1. */
  failed(call: { startedAtMs: number; nowMs: number; waitMs: number | null; random: number }): void {
    if (call.startedAtMs > this.#lastFailureAtMs) {
      this.#failuresInRow++;
      this.#lastFailureAtMs = call.nowMs;
    }
    this.#backOffUntilMs = Math.max(this.#backOffUntilMs, call.nowMs + backOffMs(this.#failuresInRow, call.random));
    if (call.waitMs !== null) this.pause(call.nowMs, call.waitMs);
  }

  /** Tries nothing for this long. */
  pause(nowMs: number, pauseMs: number): void {
    this.#askedUntilMs = Math.max(this.#askedUntilMs, nowMs + pauseMs);
  }

  /** Cost: looks at all steps ten times a second. They are 300, however many events rest, and 36,000 by an odd `Retry-After`. */
  #wake(nowMs: number): void {
    const now = Math.floor(nowMs / REST_STEP_MS);
    if (now === this.#lastStep) return;
    this.#lastStep = now;
    for (const [step, rested] of this.#resting) {
      if (step > now) continue;
      this.#resting.delete(step);
      for (const one of rested) this.#waiting.add(one);
    }
  }

  #pausedUntilMs(nowMs: number): number {
    if (this.upstream.isBreakerOpen) {
      this.#sawBreakerOpen = true;
      return Math.max(this.#askedUntilMs, this.#lastTryAtMs + PROBE_INTERVAL_MS);
    }
    // The event that closed the breaker has shown that the upstream is back.
    if (this.#sawBreakerOpen) this.#backOffUntilMs = nowMs;
    this.#sawBreakerOpen = false;
    return Math.max(this.#askedUntilMs, this.#backOffUntilMs);
  }
}
