import type { AnswerHead, NotSent, UnknownCause, UnknownOutcome } from "../core/ports/upstream.ts";
import type { AnswerContent } from "../protocol/dialect.ts";
import type { HeaderLines } from "../protocol/headers.ts";
import { copyOf, NO_BYTES } from "./byte-gatherer.ts";

/** A whole answer. Whether it answers a repeat its exchange knows. */
export interface HttpAnswer extends Omit<AnswerHead, "wasRepeated">, AnswerContent {
  /** How its body is coded, in the order in which the codings were applied; lower case, without `identity`. */
  readonly contentCodings: readonly string[];
}

/** The part that was seen of an answer that did not come whole. */
export interface SeenHead {
  readonly status: number;
  /** Empty where the head did not come whole, or is broken. */
  readonly headers: HeaderLines;
}

/** How one exchange ended: the port's outcomes, as far as HTTP knows them. */
export type HttpOutcome = HttpAnswer | NotSent | Omit<UnknownOutcome, "wasRepeated">;

/** The outcome of an exchange that was sent and got no whole answer. */
export function lostAnswer(cause: UnknownCause, seen: SeenHead | null, detail: string): HttpOutcome {
  const lost = { kind: "unknown", cause, status: seen?.status ?? null, detail } as const;
  const headers = seen?.headers ?? [];
  return headers.length === 0 ? lost : { ...lost, headers };
}

/** The part that started an exchange and is told its outcome. */
export interface ExchangeOwner {
  /** Whether it may be sent again after a pooled socket died without a byte of answer, though some of it was written. */
  readonly mayRepeat: boolean;
  /** Whether the id of an event, as an answer's `X-Hubwire-Event-Id` has it, is that of the request; asked only of answers that have the header. */
  isEventId(bytes: Uint8Array, start: number, end: number): boolean;
  /**
   * Whether it reads the body of an answer with this status, so that a coded one must be decoded; asked only where it is coded.
   * The body of any other is handed over as it came.
   */
  readsBody(status: number): boolean;
  /** Forms the request anew for the second try; the first one's bytes came with it. */
  formatRequest(): Uint8Array;
  /** Called once, unless the exchange was cut. `nowMs` is the clock's time where somebody has just looked. */
  onExchangeEnd(outcome: HttpOutcome, nowMs?: number): void;
}

/** The facts that are known of an exchange that was cut. */
export interface CutExchange {
  /** Whether at least one byte of the request was written. */
  readonly written: boolean;
  readonly seen: SeenHead | null;
}

/** The part that carries an exchange at the moment. */
export interface ExchangeCarrier {
  /** Ends the work on the exchange without an outcome; returns what it has seen of the answer. */
  drop(): SeenHead | null;
  /** Whether it goes on reading for an answer although the time for it is over; false where it has seen some of it, or none can come. */
  linger(): boolean;
}

/** One request and the wait for its answer, over one or two sockets. */
export class Exchange {
  owner: ExchangeOwner;
  /** The request is in these bytes from `start` to `end`. */
  bytes: Uint8Array;
  start: number;
  end: number;
  carrier: ExchangeCarrier | null = null;
  /** Over all tries: a request that was written once may have been acted on. */
  written = false;
  /** Whether it was written once before: that answer was lost, if there was one. */
  repeated = false;
  /** Its answer, from its arrival until the owner is told, and what it holds of the process's memory meanwhile. */
  answer: HttpAnswer | null = null;
  heldBytes = 0;
  /** Whether it was given up. */
  isCut = false;

  constructor(owner: ExchangeOwner, bytes: Uint8Array, start = 0, end = bytes.length) {
    this.owner = owner;
    this.bytes = bytes;
    this.start = start;
    this.end = end;
  }

  /** Forms the request anew. */
  formAgain(): void {
    this.bytes = this.owner.formatRequest();
    this.start = 0;
    this.end = this.bytes.length;
  }

  /** Whether every byte of the request was written. */
  get isSent(): boolean {
    return this.bytes.length === 0;
  }

  /** Every byte of the request was written: they are not kept, since a second try forms them anew. */
  letBytesGo(): void {
    this.bytes = NO_BYTES;
    this.start = 0;
    this.end = 0;
  }

  /** Takes the request out of a room that others will use. */
  keepBytes(): void {
    this.bytes = copyOf(this.bytes, this.start, this.end);
    this.start = 0;
    this.end = this.bytes.length;
  }

  /** The time is over, and an answer that still comes is another owner's. False where none can come: then nothing has changed. */
  linger(owner: ExchangeOwner): boolean {
    if (this.carrier?.linger() !== true) return false;
    this.owner = owner;
    return true;
  }

  /** Gives the exchange up: its socket is destroyed and the owner hears no more of it. */
  cut(): CutExchange {
    this.isCut = true;
    const seen = this.carrier?.drop() ?? this.answer;
    this.carrier = null;
    return { written: this.written, seen };
  }
}
