import type { Report } from "../protocol/notices.ts";
import { Burial, describeUndelivered } from "./burial.ts";
import { type DisconnectResult, judgeDisconnect, postDisconnect } from "./disconnect-outcome.ts";
import { HeldDisconnect, type HeldNames, namesOf, type RetryLimits } from "./held-disconnect.ts";
import type { Clock } from "./ports/clock.ts";
import type { DeadLetter, DeadLetters, DueDisconnect, Journal, RetryAges, WaitingDisconnect } from "./ports/journal.ts";
import type { EntryView, Upstream } from "./ports/upstream.ts";
import { RetryLane } from "./retry-lane.ts";
import type { SecondDisconnects } from "./second-disconnects.ts";

export interface RedeliveryOptions extends RetryLimits {
  /** For each upstream entry. */
  readonly maxPerSecond: number;
}

export interface RedeliveryParts {
  readonly options: RedeliveryOptions;
  readonly upstream: Upstream;
  readonly journal: Journal;
  readonly seconds: SecondDisconnects;
  readonly clock: Clock;
  /** Unix time in milliseconds. */
  readonly timeOfDayMs: () => number;
  /** From 0 to below 1. */
  readonly random: () => number;
  readonly report: Report;
}

/** A first try: when it began, and the entry that was in force then. */
export interface Attempt {
  readonly entry: EntryView | null;
  readonly startedAtMs: number;
}

/** A result that asks for another try. */
export type Failure = Extract<DisconnectResult, { kind: "retry" }>;

/** Waiting events that are held here, about 200 bytes each; more wait in the journal until half of these are gone. */
const MAX_HELD = 100_000;

/** How many are fetched from the journal at once. */
const PAGE = 1000;

/** How often lanes are looked at while anything waits; a try comes at most this late. */
const TICK_MS = 100;

/** How often those are looked for whose time is up. */
const EXPIRY_TICK_MS = 10_000;

/** How long after a bug in hubwire the same event is tried again. */
const FAULT_PAUSE_MS = 1000;

/**
 * Tries disconnect events again until the upstream has them, through restarts.
 *
 *     departure ─ failed ─▶ journal: due ─▶ lane of its entry ─▶ tried ─▶ settled
 *     start: what the journal has ────────────────▲                │ failed, or refused
 *                                                 └── after the lane's pause, or its own where it was refused;
 *                                                     longer than retryForSeconds or retryRefusedForSeconds: dead letter
 *
 * Order:  oldest first within an entry, but one that failed comes after those that wait with it. The upstream is chosen at
 *         each try, by the configuration in force then.
 * Cost:   a tick every tenth of a second while anything waits, none else.
 * Source: PROTOCOL.md, "At least once" and "When it is tried again".
 */
export class Redelivery implements DeadLetters {
  readonly #parts: RedeliveryParts;
  readonly #lanes = new Map<EntryView, RetryLane>();
  /** The events that wait or are under way, by connection id. */
  readonly #held = new Map<string, HeldDisconnect>();
  /** The place behind which the journal may have some that are not held. */
  #lastPlace = 0;
  #mayHaveMore = false;
  /** Whether the next page is the first: of one that is on its way now, the last place goes on. */
  #fromTheStart = false;
  #fetching = false;
  /** The time before which nothing is fetched, since the last time failed. */
  #noFetchBeforeMs = Number.NEGATIVE_INFINITY;
  #cancelTick: (() => void) | null = null;
  readonly #cancelExpiry: () => void;
  readonly #burial: Burial;
  #stopped = false;

  constructor(parts: RedeliveryParts) {
    this.#parts = parts;
    this.#burial = new Burial(parts);
    this.#cancelExpiry = parts.clock.every(EXPIRY_TICK_MS, () => this.#expire());
  }

  /** How many are held here. */
  get waitingCount(): number {
    return this.#held.size;
  }

  /**
   * Goes on with what waits in the journal. To be called once the journal has recovered, and again where it could be opened
   * only later: what an earlier process left may have turned up in front of what is held.
   */
  start(): void {
    if (this.#stopped) return;
    this.#burial.ageLetters();
    this.#fromTheStart = true;
    this.#fetch();
  }

  /** An event failed its first try. Resolves once that would survive a crash. */
  async add(due: DueDisconnect, failure: Failure, attempt: Attempt): Promise<void> {
    const lane = this.#laneOf(namesOf(due.facts));
    // A reload meanwhile may have brought another entry, of which the failure says nothing.
    const countsFor = lane !== null && lane.upstream === attempt.entry && !this.#stopped;
    // The refusal of a live event says nothing of waiting events: their own tries find out.
    if (countsFor && failure.tried) this.#failed(lane, failure, attempt.startedAtMs);
    const place = await this.#parts.journal.due(due);
    const one = this.#toHeld(namesOf(due.facts), due);
    this.#noteFailure(lane, one, failure);
    if (failure.tried && this.#isTimeUp(one, failure.isRefusal)) {
      await this.#bury(one, failure.cause);
    } else {
      this.#holdNew(place, one, this.#restMs(one, failure));
    }
  }

  /** Connect was answered with 2xx after all, and the journal says so: a second event follows the one that waits. */
  follow(connectionId: string): void {
    const one = this.#held.get(connectionId);
    if (one !== undefined) one.isFollowed = true;
  }

  #holdNew(place: number, one: HeldDisconnect, restMs = 0): void {
    if (this.#fetching || this.#mayHaveMore || this.#held.size >= MAX_HELD) {
      // Holding it now would move the last place past others that are still in the journal only.
      this.#fetch();
    } else {
      this.#hold(place, one, restMs);
    }
  }

  /**
   * The entries of `upstreams` or the rates have changed: all waiting events are given to the entries in force now. What is under
   * way still counts where its entry stays.
   */
  reroute(): void {
    const waiting = [...this.#lanes.values()].flatMap((lane) => lane.takeAll());
    for (const lane of this.#lanes.values()) lane.setRate(this.#parts.options.maxPerSecond, this.#parts.clock.now());
    for (const one of waiting) this.#enqueue(one);
  }

  list(afterPlace: number, limit: number): Promise<DeadLetter[]> {
    return this.#parts.journal.deadLetters(afterPlace, limit);
  }

  async retry(connectionIds: readonly string[] | null): Promise<number> {
    const count = await this.#parts.journal.revive(connectionIds, this.#parts.timeOfDayMs());
    this.#fetch();
    return count;
  }

  drop(connectionIds: readonly string[] | null): Promise<number> {
    return this.#parts.journal.drop(connectionIds);
  }

  /** Starts no further try; what waits stays in the journal. May be called twice. */
  stop(): void {
    this.#stopped = true;
    this.#cancelExpiry();
    this.#burial.stop();
    this.#cancelTick?.();
    this.#cancelTick = null;
  }

  #fetch(): void {
    const { journal, clock, report } = this.#parts;
    this.#mayHaveMore = true;
    this.#ensureTick();
    if (this.#fetching || this.#stopped || this.#held.size > MAX_HELD / 2) return;
    if (clock.now() < this.#noFetchBeforeMs) return;
    this.#fetching = true;
    this.#mayHaveMore = false;
    if (this.#fromTheStart) this.#lastPlace = 0;
    this.#fromTheStart = false;
    journal.waiting(this.#lastPlace, PAGE).then(
      (page) => {
        this.#fetching = false;
        this.#noFetchBeforeMs = Number.NEGATIVE_INFINITY;
        for (const one of page) this.#found(one);
        if (page.length === PAGE || this.#mayHaveMore) this.#fetch();
      },
      (error) => {
        this.#fetching = false;
        this.#mayHaveMore = true;
        if (this.#noFetchBeforeMs === Number.NEGATIVE_INFINITY) {
          report({ kind: "fault", where: "disconnect events in the journal", error });
        }
        this.#noFetchBeforeMs = clock.now() + FAULT_PAUSE_MS;
      },
    );
  }

  #found(waiting: WaitingDisconnect): void {
    if (!this.#parts.seconds.isHeldBack(waiting.connectionId))
      this.#hold(waiting.place, this.#toHeld(waiting, waiting));
    else this.#lastPlace = Math.max(this.#lastPlace, waiting.place);
  }

  #hold(place: number, one: HeldDisconnect, restMs = 0): void {
    this.#lastPlace = Math.max(this.#lastPlace, place);
    if (this.#held.has(one.connectionId)) return;
    this.#held.set(one.connectionId, one);
    this.#enqueue(one, restMs);
  }

  #toHeld(names: HeldNames, ages: RetryAges): HeldDisconnect {
    return new HeldDisconnect(names, ages, this.#parts.clock.now());
  }

  #enqueue(one: HeldDisconnect, restMs = 0): void {
    const lane = this.#laneOf(one);
    if (lane === null) {
      // Not settled: if the entry was removed by mistake, `hubwire dead-letters retry` brings its events back.
      void this.#bury(one, "no entry of upstreams matches");
      return;
    }
    if (restMs > 0) lane.rest(one, this.#parts.clock.now() + restMs);
    else lane.add(one);
    this.#ensureTick();
  }

  #laneOf({ hub, dialect }: Pick<HeldNames, "hub" | "dialect">): RetryLane | null {
    const { upstream, options, clock } = this.#parts;
    const entry = upstream.entryFor(hub, dialect);
    if (entry === null) return null;
    let lane = this.#lanes.get(entry);
    if (lane === undefined) {
      lane = new RetryLane(entry, options.maxPerSecond, clock.now());
      this.#lanes.set(entry, lane);
    }
    return lane;
  }

  #ensureTick(): void {
    if (!this.#stopped) this.#cancelTick ??= this.#parts.clock.every(TICK_MS, () => this.#tick());
  }

  #tick(): void {
    if (this.#mayHaveMore) this.#fetch();
    for (const lane of this.#lanes.values()) this.#pump(lane);
    this.#forgetLanes();
    if (this.#held.size > 0 || this.#mayHaveMore || this.#fetching) return;
    this.#cancelTick?.();
    this.#cancelTick = null;
  }

  #pump(lane: RetryLane): void {
    if (this.#stopped) return;
    const now = this.#parts.clock.now();
    for (let one = lane.take(now); one !== null; one = lane.take(now)) void this.#try(lane, one);
  }

  async #try(lane: RetryLane, one: HeldDisconnect): Promise<void> {
    const { journal, upstream, clock, timeOfDayMs, report } = this.#parts;
    const startedAtMs = clock.now();
    let wasRead = false;
    try {
      const due = await journal.read(one.connectionId);
      if (due === null) {
        this.#held.delete(one.connectionId);
        return;
      }
      wasRead = true;
      const outcome = await postDisconnect(upstream, due);
      await this.#settle(lane, one, judgeDisconnect(outcome, timeOfDayMs()), { startedAtMs, due });
    } catch (error) {
      report({ kind: "fault", where: "disconnect event", error });
      if (wasRead && this.#isTimeUp(one)) {
        await this.#bury(one, "a fault of the gateway, see its log");
      } else {
        lane.pause(clock.now(), FAULT_PAUSE_MS);
        this.#enqueue(one);
      }
    } finally {
      lane.release(clock.now());
      this.#pump(lane);
    }
  }

  async #settle(
    lane: RetryLane,
    one: HeldDisconnect,
    result: DisconnectResult,
    { startedAtMs, due }: { readonly startedAtMs: number; readonly due: DueDisconnect },
  ): Promise<void> {
    if (result.kind !== "retry") {
      const { report } = this.#parts;
      if (lane.isFailing) report({ kind: "disconnects-flowing", entry: lane.upstream.label });
      lane.succeeded();
      if (result.kind === "ended") {
        report(describeUndelivered("undelivered", one, { cause: result.cause, owed: due }));
      }
      await this.#finish(one, due);
      return;
    }
    // A call that the shutdown cut off says nothing of the upstream.
    if (this.#stopped) return;
    this.#failed(lane, result, startedAtMs);
    this.#noteFailure(lane, one, result);
    if (result.tried && this.#isTimeUp(one, result.isRefusal)) {
      await this.#bury(one, result.cause);
      return;
    }
    // Stored with each try: the next process goes on counting from here.
    if (result.tried) void this.#parts.journal.tried(one.connectionId, one.agesAt(this.#parts.clock.now()));
    this.#enqueue(one, this.#restMs(one, result));
  }

  #failed(lane: RetryLane, { cause, waitMs, tried, isRefusal }: Failure, startedAtMs: number): void {
    const { clock, random, report } = this.#parts;
    const nowMs = clock.now();
    // It says nothing of the others: the event itself waits.
    if (isRefusal) return;
    if (!tried) {
      lane.pause(nowMs, waitMs ?? 0);
      return;
    }
    lane.lastCause = cause;
    if (!lane.isFailing) report({ kind: "disconnects-waiting", entry: lane.upstream.label, cause });
    lane.failed({ startedAtMs, nowMs, waitMs, random: random() });
  }

  #isTimeUp(one: HeldDisconnect, isRefused = false): boolean {
    return one.isTimeUp(this.#parts.options, this.#parts.clock.now(), isRefused);
  }

  #noteFailure(lane: RetryLane | null, one: HeldDisconnect, { tried, isRefusal, cause }: Failure): void {
    if (!tried) return;
    const isFirstRefusal = one.failed({ isRefusal, nowMs: this.#parts.clock.now() });
    if (isFirstRefusal && lane?.isRefusing === false) {
      this.#parts.report({ kind: "disconnect-refused", entry: lane.upstream.label, cause });
    }
  }

  #restMs(one: HeldDisconnect, { isRefusal, waitMs, tried }: Failure): number {
    if (!isRefusal) return 0;
    const { options, clock, random } = this.#parts;
    return one.restMs(options, { nowMs: clock.now(), waitMs, random: random(), tried });
  }

  async #finish(one: HeldDisconnect, tried: DueDisconnect): Promise<void> {
    const { journal, seconds, timeOfDayMs } = this.#parts;
    // The journal has learned meanwhile that another follows, and of which user.
    const due = one.isFollowed ? ((await journal.read(one.connectionId)) ?? tried) : tried;
    const end = seconds.ended(due);
    this.#held.delete(one.connectionId);
    if (end === "settle") void journal.settled(one.connectionId);
    if (end === "settle" || end === "keep") return;
    const second = { ...end, dueSinceMs: timeOfDayMs(), triedForMs: 0, refusedForMs: 0 };
    this.#holdNew(await journal.due(second), this.#toHeld(namesOf(second.facts), second));
  }

  #bury(one: HeldDisconnect, cause: string): Promise<void> {
    this.#held.delete(one.connectionId);
    this.#parts.seconds.died(one.connectionId);
    return this.#burial.bury(one, cause);
  }

  #forgetLanes(): void {
    const now = this.#parts.clock.now();
    for (const [entry, lane] of this.#lanes) if (lane.canBeForgotten(now)) this.#lanes.delete(entry);
  }

  #expire(): void {
    this.#forgetLanes();
    for (const lane of this.#lanes.values()) {
      // Where the entry takes events, a waiting event has its turn first: only a try that fails may end it.
      if (!lane.isFailing && !lane.upstream.isBreakerOpen) continue;
      for (const one of [...lane.waiting].filter((waiting) => this.#isTimeUp(waiting))) {
        lane.remove(one);
        void this.#bury(one, lane.lastCause);
      }
    }
  }
}
