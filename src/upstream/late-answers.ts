import type { HeaderLines } from "../protocol/headers.ts";
import type { Report } from "../protocol/notices.ts";
import type { Deadlines, Waiting } from "./deadlines.ts";
import type { Exchange, ExchangeOwner, HttpOutcome } from "./exchange.ts";

/** The outcome of an answer after its time was over: its head, nothing, or the process ended before. */
export type LateHead =
  | { readonly kind: "answer"; readonly status: number; readonly headers: HeaderLines }
  | { readonly kind: "none" }
  | { readonly kind: "stopped" };

/** The longest time for which a late answer is waited for. */
export const MAX_GRACE_MS = 30_000;

/** What the waits of one entry need. */
export interface LateAnswersOptions {
  readonly deadlines: Deadlines;
  /** How many may wait; the oldest goes when one more comes. */
  readonly maxWaiting: number;
  /** The entry's name. */
  readonly entry: string;
  readonly report: Report;
}

/**
 * Connect events of one entry that timed out and whose answer may still come. Their calls are over: no place is held for them.
 *
 * Bound:  `maxWaiting` sockets; the oldest wait ends when one more begins.
 * Source: decision 0038.
 */
export class LateAnswers {
  readonly #options: LateAnswersOptions;
  /** The oldest first. */
  readonly #waiting = new Set<LateWait>();

  constructor(options: LateAnswersOptions) {
    this.#options = options;
  }

  /**
   * Waits for the answer of an exchange that has timed out; resolves when it came or the time is over. Null where none can come: the
   * request was not written whole, or its socket is gone.
   */
  wait(exchange: Exchange, deadlineMs: number): Promise<LateHead> | null {
    const wait = new LateWait(exchange, deadlineMs, this.#options.deadlines);
    if (!exchange.linger(wait)) return null;
    wait.begin();
    this.#waiting.add(wait);
    const [oldest] = this.#waiting;
    if (this.#waiting.size > this.#options.maxWaiting && oldest !== undefined) {
      this.#waiting.delete(oldest);
      this.#options.report({ kind: "late-answer-dropped", entry: this.#options.entry });
      oldest.giveUp();
    }
    return wait.answered.finally(() => this.#waiting.delete(wait));
  }
}

/** The wait for one late answer: the exchange's owner in place of the call that is over. */
class LateWait implements Waiting, ExchangeOwner {
  readonly mayRepeat = false;
  readonly deadlineMs: number;
  deadlineSlot = -1;
  readonly answered: Promise<LateHead>;
  readonly #resolve: (answer: LateHead) => void;
  readonly #exchange: Exchange;
  readonly #deadlines: Deadlines;

  constructor(exchange: Exchange, deadlineMs: number, deadlines: Deadlines) {
    const { promise, resolve } = Promise.withResolvers<LateHead>();
    this.answered = promise;
    this.#resolve = resolve;
    this.#exchange = exchange;
    this.deadlineMs = deadlineMs;
    this.#deadlines = deadlines;
  }

  begin(): void {
    this.#deadlines.add(this);
  }

  /** The parser asks this of each answer, as it did of the call. */
  isEventId(): boolean {
    return false;
  }

  readsBody(): boolean {
    return false;
  }

  formatRequest(): Uint8Array {
    throw new Error("a request that has timed out is not sent again");
  }

  onExchangeEnd(outcome: HttpOutcome): void {
    this.#deadlines.remove(this);
    if (outcome.kind === "not-sent" || outcome.status === null) {
      const isStopped = outcome.kind === "unknown" && outcome.cause === "abandoned";
      this.#resolve({ kind: isStopped ? "stopped" : "none" });
      return;
    }
    this.#resolve({ kind: "answer", status: outcome.status, headers: outcome.headers ?? [] });
  }

  /** Called by the sweep: the time is over. */
  expire(): void {
    this.giveUp();
  }

  /** The part of an answer that has been seen by now counts. */
  giveUp(): void {
    this.#deadlines.remove(this);
    const { seen } = this.#exchange.cut();
    // Not spread: an answer's headers are made when they are asked for.
    this.#resolve(seen === null ? { kind: "none" } : { kind: "answer", status: seen.status, headers: seen.headers });
  }
}
