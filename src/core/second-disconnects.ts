import type { NamedUser } from "../protocol/dialect.ts";
import { type ConnectionFacts, copyFacts } from "../protocol/facts.ts";
import type { Report } from "../protocol/notices.ts";
import type { Journal, OwedDisconnect } from "./ports/journal.ts";
import type { LateAnswer } from "./ports/upstream.ts";

/** A connect event that timed out, while its answer may still come or its second disconnect event is under way. */
interface Open {
  readonly owed: OwedDisconnect;
  /**
   * The state of the first disconnect event: its first try is under way; it waits for the next; the upstream has it or does not want
   * it; it is a dead letter. Last, the second event is under way.
   */
  stage: "first-try" | "waiting" | "ended" | "dead" | "second-try";
  /** The second event, once connect was answered with 2xx. */
  second: OwedDisconnect | null;
}

/** What the end of an event means for its journal entry. */
export type EventEnd =
  /** Nothing is owed any more. */
  | "settle"
  /** The answer to connect may still come: the entry stays. */
  | "keep"
  /** This event follows. */
  | OwedDisconnect;

/**
 * Knows for which connections a second disconnect event may follow: connect timed out, the first disconnect event went out, and the
 * backend may answer connect with 2xx after all. It would keep a user that is gone.
 *
 *     timed out ─┬─ first event ─▶ ended ─┬─ the answer may still come: the journal has the second event, and it is not tried
 *                │                        └─▶ no answer, or no 2xx ─▶ settled
 *                └─ late answer ─▶ 2xx ─▶ the journal says that a second event follows ─ first ended ─▶ the second event
 *
 * Order:  the second event is never sent before the first has ended, and only after a 2xx; after a crash in between, without one.
 * Bound:  those that the upstream waits for, and those whose first try is under way.
 * Source: the seed, "Disconnect": always triggered where connect returns 2xx; decision 0038.
 */
export class SecondDisconnects {
  readonly #journal: Journal;
  readonly #timeOfDayMs: () => number;
  readonly #report: Report;
  readonly #open = new Map<string, Open>();

  constructor(parts: { readonly journal: Journal; readonly timeOfDayMs: () => number; readonly report: Report }) {
    this.#journal = parts.journal;
    this.#timeOfDayMs = parts.timeOfDayMs;
    this.#report = parts.report;
  }

  /** A late answer is waited for; the first try of the first event follows. */
  expect(owed: OwedDisconnect): void {
    this.#open.set(owed.facts.connectionId, { owed, stage: "first-try", second: null });
  }

  /** Whether what the journal has waiting of a connection is not to be tried now. */
  isHeldBack(connectionId: string): boolean {
    const open = this.#open.get(connectionId);
    return open !== undefined && open.stage !== "waiting";
  }

  /** An event failed its first try, or was given up for now: as it is to be written to the journal. */
  asWaiting(owed: OwedDisconnect): OwedDisconnect {
    const open = this.#open.get(owed.facts.connectionId);
    return open?.stage === "first-try" && open.second !== null ? { ...open.second, nth: "first" } : owed;
  }

  /** The first try is over, and the event waits for the next. */
  waits(connectionId: string): void {
    const open = this.#open.get(connectionId);
    if (open === undefined) return;
    // Else the journal says what follows.
    if (open.stage === "first-try" && open.second === null) open.stage = "waiting";
    else this.#open.delete(connectionId);
  }

  /** The upstream has an event, or does not want it. */
  ended(owed: OwedDisconnect): EventEnd {
    const { connectionId } = owed.facts;
    const open = this.#open.get(connectionId);
    if (owed.nth === "second") {
      this.#open.delete(connectionId);
      return "settle";
    }
    if (open === undefined) return owed.nth === "first" ? { ...owed, nth: "second" } : "settle";
    if (open.second !== null) {
      open.stage = "second-try";
      return open.second;
    }
    open.stage = "ended";
    this.#write({ ...open.owed, nth: "second" });
    return "keep";
  }

  /** An event is a dead letter now. */
  died(connectionId: string): void {
    const open = this.#open.get(connectionId);
    if (open !== undefined) open.stage = "dead";
  }

  /**
   * The outcome of the answer to connect: the second event, where it is to be sent now; else whether the first one waits and is followed,
   * or nothing is to be done.
   */
  answered(connectionId: string, answer: LateAnswer): OwedDisconnect | "followed" | null {
    const open = this.#open.get(connectionId);
    if (open === undefined) return null;
    if (answer.kind !== "accepted") {
      this.#open.delete(connectionId);
      // Of a process that ends the next one sends what the journal has.
      if (open.stage === "ended" && answer.kind !== "stopped") void this.#journal.settled(connectionId);
      return null;
    }
    this.#report({ kind: "accepted-late", facts: open.owed.facts });
    const second: OwedDisconnect = {
      facts: withUser(copyFacts(open.owed.facts), answer.reply),
      end: open.owed.end,
      connectOutcomeUnknown: false,
      nth: "second",
    };
    switch (open.stage) {
      case "first-try":
        open.second = second;
        this.#write({ ...second, nth: "first" });
        return null;
      case "waiting":
        this.#open.delete(connectionId);
        this.#write({ ...second, nth: "first" });
        return "followed";
      default:
        open.stage = "second-try";
        this.#write(second);
        return second;
    }
  }

  /** Not waited for: a crash before it is written costs a second event that was owed for a moment only. */
  #write(owed: OwedDisconnect): void {
    void this.#journal.due({ ...owed, dueSinceMs: this.#timeOfDayMs(), triedForMs: 0, refusedForMs: 0 });
  }
}

/** The facts with the user that a late answer names, as for one that came in time. */
function withUser(facts: ConnectionFacts, { userId, isLatin1User }: NamedUser): ConnectionFacts {
  return isLatin1User === true
    ? { ...facts, userId, rare: { ...facts.rare, userIdCoding: "latin1" } }
    : { ...facts, userId };
}
