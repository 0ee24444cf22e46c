import type { CloseCause } from "../protocol/close-causes.ts";
import { dialectOf } from "../protocol/dialect-names.ts";
import type { ConnectionFacts } from "../protocol/facts.ts";
import type { Report } from "../protocol/notices.ts";
import { describeUndelivered } from "./burial.ts";
import { type DisconnectResult, judgeDisconnect, postDisconnect } from "./disconnect-outcome.ts";
import type { Outstanding } from "./outstanding.ts";
import type { Clock } from "./ports/clock.ts";
import type { DueDisconnect, Journal, OwedDisconnect } from "./ports/journal.ts";
import type { LateAnswer, Upstream } from "./ports/upstream.ts";
import type { Attempt, Failure, Redelivery } from "./redelivery.ts";
import type { SecondDisconnects } from "./second-disconnects.ts";

/** How long after a bug in hubwire the event is tried again. */
const FAULT_PAUSE_MS = 1000;

/**
 * Sends the disconnect event of a connection for the first time, and sees that it is never forgotten.
 *
 *     send ─▶ tried ─┬─ the upstream has it, or does not want it ─▶ journal: settled, or a second event may follow
 *                    └─ not delivered ───────────────────────────▶ journal: due, redelivery
 *
 * Order:  after the connection's last message event; the caller sees to that.
 * Errors: an event that the upstream does not want (4xx) is reported with its cause.
 * Source: the seed, "Disconnect": always triggered once connect was answered with 2xx; PROTOCOL.md, "Disconnect".
 */
export class Departure {
  readonly #upstream: Upstream;
  readonly #journal: Journal;
  readonly #redelivery: Redelivery;
  readonly #seconds: SecondDisconnects;
  readonly #outstanding: Outstanding;
  readonly #clock: Clock;
  readonly #timeOfDayMs: () => number;
  readonly #report: Report;
  readonly #underWay = new Set<OwedDisconnect>();

  constructor(parts: {
    upstream: Upstream;
    journal: Journal;
    redelivery: Redelivery;
    seconds: SecondDisconnects;
    outstanding: Outstanding;
    clock: Clock;
    /** Unix time in milliseconds. */
    timeOfDayMs: () => number;
    report: Report;
  }) {
    this.#upstream = parts.upstream;
    this.#journal = parts.journal;
    this.#redelivery = parts.redelivery;
    this.#seconds = parts.seconds;
    this.#outstanding = parts.outstanding;
    this.#clock = parts.clock;
    this.#timeOfDayMs = parts.timeOfDayMs;
    this.#report = parts.report;
  }

  /**
   * Ends what was outstanding for the connection, too. Never rejects.
   *
   * `late`: what comes of the answer to a connect event that timed out. It is outstanding as well.
   */
  async send(
    facts: ConnectionFacts,
    end: CloseCause,
    connectOutcomeUnknown = false,
    late: Promise<LateAnswer> | null = null,
  ): Promise<void> {
    const owed: OwedDisconnect = { facts, end, connectOutcomeUnknown };
    if (late !== null) {
      this.#outstanding.begin();
      this.#seconds.expect(owed);
      void this.#awaitLate(facts.connectionId, late);
    }
    await this.#deliver(owed);
    this.#outstanding.end();
  }

  /**
   * The same where another node has taken over the connection before connect was answered with 2xx. It may have sent the disconnect event
   * by then, so this is the second one.
   */
  async sendSecond(facts: ConnectionFacts, end: CloseCause): Promise<void> {
    await this.#deliver({ facts, end, connectOutcomeUnknown: false, nth: "second" });
    this.#outstanding.end();
  }

  async #awaitLate(connectionId: string, late: Promise<LateAnswer>): Promise<void> {
    const answer = await late.catch((bug: unknown): LateAnswer => {
      this.#report({ kind: "fault", where: "late answer", error: bug });
      // It may have been a 2xx: what the journal has stays, and is sent by the next process.
      return { kind: "stopped" };
    });
    const second = this.#seconds.answered(connectionId, answer);
    if (second === "followed") this.#redelivery.follow(connectionId);
    else if (second !== null) await this.#deliver(second);
    this.#outstanding.end();
  }

  async #deliver(owed: OwedDisconnect): Promise<void> {
    const { facts } = owed;
    this.#underWay.add(owed);
    try {
      const startedAtMs = this.#clock.now();
      const entry = this.#upstream.entryFor(facts.hub, dialectOf(facts));
      const outcome = await postDisconnect(this.#upstream, owed);
      await this.#settle(owed, judgeDisconnect(outcome, this.#timeOfDayMs()), { entry, startedAtMs });
    } catch (error) {
      this.#report({ kind: "fault", where: "disconnect event", error });
      const failure = { cause: "a fault of the service", waitMs: FAULT_PAUSE_MS, tried: false, isRefusal: false };
      const attempt = { entry: this.#upstream.entryFor(facts.hub, dialectOf(facts)), startedAtMs: this.#clock.now() };
      await this.#keep(owed, { kind: "retry", ...failure }, attempt);
    } finally {
      this.#underWay.delete(owed);
    }
  }

  /** A connection has ended whose disconnect event another node sends. */
  handOver(): void {
    this.#outstanding.end();
  }

  /** The process is about to end: what is under way is kept as it is, so that the next start sends it with its own end. */
  async keepUnderWay(): Promise<void> {
    await Promise.all([...this.#underWay].map((owed) => this.#journal.due(this.#dueNow(owed))));
  }

  #dueNow(owed: OwedDisconnect): DueDisconnect {
    return { ...this.#seconds.asWaiting(owed), dueSinceMs: this.#timeOfDayMs(), triedForMs: 0, refusedForMs: 0 };
  }

  async #settle(owed: OwedDisconnect, result: DisconnectResult, attempt: Attempt): Promise<void> {
    const { connectionId } = owed.facts;
    if (result.kind === "retry") {
      await this.#keep(owed, result, attempt);
      return;
    }
    if (result.kind === "ended") {
      this.#report(describeUndelivered("undelivered", owed.facts, { cause: result.cause, owed }));
    }
    const end = this.#seconds.ended(owed);
    // Not waited for: a crash before it is written costs a duplicate, and the upstream knows those by the event's id.
    if (end === "settle") void this.#journal.settled(connectionId);
    else if (end !== "keep") await this.#deliver(end);
  }

  async #keep(owed: OwedDisconnect, failure: Failure, attempt: Attempt): Promise<void> {
    const due = this.#dueNow(owed);
    this.#seconds.waits(owed.facts.connectionId);
    await this.#redelivery.add(due, failure, attempt);
  }
}
