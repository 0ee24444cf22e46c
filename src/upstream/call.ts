import { formatSignature } from "../auth/access-keys.ts";
import type {
  AnswerHead,
  NotSent,
  RefusalCause,
  RefusedCall,
  UnknownOutcome,
  WaitingClient,
} from "../core/ports/upstream.ts";
import type { AnswerContent } from "../protocol/dialect.ts";
import type { MessageEvent, UpstreamEvent } from "../protocol/events.ts";
import type { HeaderLines } from "../protocol/headers.ts";
import type { AuthorizationFault } from "./authorization.ts";
import type { BreakerResult } from "./breaker.ts";
import { copyOf } from "./byte-gatherer.ts";
import type { Waiting } from "./deadlines.ts";
import type { Entry } from "./entry.ts";
import { isEventId } from "./event-id.ts";
import { Exchange, type ExchangeOwner, type HttpAnswer, type HttpOutcome, lostAnswer } from "./exchange.ts";
import { forwardedLines, hasName } from "./forwarded-headers.ts";
import { type LateHead, MAX_GRACE_MS } from "./late-answers.ts";
import { formatRequest } from "./request-bytes.ts";
import { fillUrlTemplate } from "./url-template.ts";
import type { AddressShare, PlaceSeeker } from "./waiting-line.ts";

/** What a refused client is told to wait. The breaker lets one event try after as long. */
const RETRY_AFTER_SECONDS = 1;
const NO_DEADLINE = Number.POSITIVE_INFINITY;
/** A deadline that every sweep finds passed. */
const EACH_SWEEP = Number.NEGATIVE_INFINITY;

/** How a call ended. */
export type CallOutcome =
  | (AnswerHead & AnswerContent)
  | NotSent
  /** `late`: of a connect event that timed out, what comes of its answer after all. */
  | (UnknownOutcome & { readonly late?: Promise<LateHead> })
  | RefusedCall;

/** Hears how a call ended, once. */
export interface CallListener {
  onOutcome(outcome: CallOutcome, entry: Entry): void;
  /** A bug in hubwire ended it. */
  onFault(bug: unknown): void;
  /** Of a connect event, the client that must still be there when it is sent. */
  readonly client?: WaitingClient | null;
}

/**
 * One event's way through its entry.
 *
 *   start ──> waiting ──> placed ──> authorizing ──> sending ──> settled
 *     │          │           │            │             │           ^
 *     └──────────┴───────────┴────────────┴─────────────┴───────────┘
 *
 * A connect event whose client leaves before a byte of it was written settles at once, as `not-sent`.
 *
 * Order: it settles once, and its listener is not told before `start` has returned; place, breaker and deadline are given back, and
 *        its entry left, before.
 */
export class Call implements Waiting, PlaceSeeker, ExchangeOwner {
  /** When the sweep is to look at it: at its end, or each time where it has a client that may leave. */
  deadlineMs = NO_DEADLINE;
  /** Until it waits for a place or for HTTP, nothing limits it: a token has a limit of its own. */
  #endsAtMs = NO_DEADLINE;
  deadlineSlot = -1;
  placeIndex = -1;
  share: AddressShare | null = null;
  readonly event: UpstreamEvent;
  /** In the clock's time. */
  startedAtMs = 0;
  readonly #entry: Entry;
  readonly #listener: CallListener;
  readonly #leave: (entry: Entry) => void;
  #isStarting = false;
  #stage: "waiting" | "placed" | "authorizing" | "sending" | "settled" = "waiting";
  #isAdmitted = false;
  #isProbe = false;
  #isRepeatForgone = false;
  #authorization: HeaderLines = [];
  #exchange: Exchange | null = null;

  constructor(entry: Entry, event: UpstreamEvent, listener: CallListener, leave: (entry: Entry) => void) {
    this.#entry = entry;
    this.event = event;
    this.#listener = listener;
    this.#leave = leave;
  }

  /** A message may have been acted on: its entry says whether it may be sent twice. The other events always may. */
  get mayRepeat(): boolean {
    if (this.event.name !== "message") return true;
    return this.#entry.settings.repeatOnStaleSocket && !this.#isRepeatForgone;
  }

  /** Whether it waits for a place. */
  get isWaiting(): boolean {
    return this.#stage === "waiting";
  }

  get clientBlock(): string {
    return this.#entry.context.clientBlocks.of(this.event.facts);
  }

  start(): void {
    const { breaker, limiter, settings, context } = this.#entry;
    const now = context.clock.now();
    this.startedAtMs = now;
    context.deadlines.add(this);
    if (this.#client !== null) this.deadlineMs = EACH_SWEEP;
    this.#isStarting = true;
    if (breaker.wouldRefuse(now)) {
      this.#refuse("breaker");
    } else if (limiter.tryEnter(this)) {
      this.onPlace(now);
    } else if (settings.maxWaitMs === 0) {
      this.#refuse(this.#boundOnPlaces);
    } else {
      this.#endBy(now + settings.maxWaitMs);
      limiter.queue(this);
    }
    this.#isStarting = false;
  }

  onPlace(nowMs = this.#entry.context.clock.now()): void {
    const { authorizer, breaker } = this.#entry;
    this.#stage = "placed";
    this.#endBy(NO_DEADLINE);
    if (this.#client?.hasLeft === true) {
      this.#withdraw();
      return;
    }
    // Asked again, since the breaker may have opened while the call waited.
    const admission = breaker.admit(nowMs);
    if (admission === "refuse") {
      this.#refuse("breaker");
      return;
    }
    this.#isAdmitted = true;
    this.#isProbe = admission === "probe";
    const headers = authorizer.current();
    if (headers !== null) {
      this.#send(headers, nowMs);
      return;
    }
    this.#stage = "authorizing";
    authorizer.obtain().then(
      (obtained) => this.#onAuthorized(obtained),
      (bug: unknown) => this.#fault(bug),
    );
  }

  /** Called by the sweep. */
  expire(nowMs: number): void {
    if (this.#client?.hasLeft === true && this.#exchange?.written !== true) {
      this.#withdraw();
    } else if (nowMs < this.#endsAtMs) {
      return;
    } else if (this.#stage === "waiting") {
      this.#refuse(this.#boundOnPlaces);
    } else if (this.#exchange !== null) {
      if (this.event.name === "connect" && this.#waitForLate(this.#exchange, nowMs)) return;
      const { written, seen } = this.#exchange.cut();
      const detail = lateDetail(this.#entry.settings.timeoutMs);
      if (written) this.onExchangeEnd(lostAnswer("timeout", seen, detail));
      else this.onExchangeEnd({ kind: "not-sent", detail: "not connected within the entry's timeoutMs" });
    }
  }

  /** The call ends as timed out, and its answer is waited for without it. False where none can come. */
  #waitForLate(exchange: Exchange, nowMs: number): boolean {
    const { lateAnswers, settings } = this.#entry;
    const answered = lateAnswers.wait(exchange, nowMs + Math.min(settings.timeoutMs, MAX_GRACE_MS));
    if (answered === null) return false;
    this.#giveBack("failure", nowMs);
    const outcome = {
      kind: "unknown",
      cause: "timeout",
      status: null,
      detail: lateDetail(settings.timeoutMs),
      ...(exchange.repeated ? { wasRepeated: true } : {}),
      // An entry that a reload has replaced keeps its sockets until then.
      late: answered.finally(() => this.#leave(this.#entry)),
    } as const satisfies CallOutcome;
    this.#entry.context.meters.called("connect", outcome);
    this.#listener.onOutcome(outcome, this.#entry);
    return true;
  }

  forgoRepeat(): boolean {
    if (this.#stage !== "sending" || this.#exchange?.isSent !== true) return false;
    this.#isRepeatForgone = true;
    return true;
  }

  /** Ends the call at any stage. */
  abandon(): void {
    const seen = this.#exchange?.cut().seen ?? null;
    this.onExchangeEnd(lostAnswer("abandoned", seen, "abandoned by the gateway"));
  }

  isEventId(bytes: Uint8Array, start: number, end: number): boolean {
    return isEventId(this.event, bytes, start, end);
  }

  /** A refusal passes to the client as it came, and a disconnect's answer is its status. */
  readsBody(status: number): boolean {
    return this.event.name === "message" || (this.event.name === "connect" && status >= 200 && status < 300);
  }

  formatRequest(): Uint8Array {
    const { event } = this;
    if (event.name === "message") {
      const formed = this.#formMessage(event);
      return copyOf(formed.bytes, formed.start, formed.end);
    }
    const { context, settings, dialect, opening, openingWithoutAgent, template, date } = this.#entry;
    const hub = context.spellHub(event.facts.hub);
    const { headers, body } = dialect.form(event, {
      hub,
      signature: formatSignature(event.facts.connectionId, context.keys()),
      date: date.now(),
      connectEventName: settings.connectEventName,
    });
    const target = fillUrlTemplate(template, hub, event.name);
    const own = this.#authorization;
    const passed = event.name === "connect" ? forwardedLines(settings.forwardHeaders, event.headers, own) : [];
    const request = { method: "POST", target, headers: [...own, ...passed, ...headers], body } as const;
    return formatRequest(request, hasName(passed, "user-agent") ? openingWithoutAgent : opening);
  }

  onExchangeEnd(outcome: HttpOutcome, nowMs?: number): void {
    const wasRepeated = this.#exchange?.repeated === true;
    if (wasRepeated) this.#entry.context.meters.staleSocketRepeats++;
    if (outcome.kind !== "not-sent" && outcome.status === 401) this.#entry.authorizer.rejected(this.#authorization);
    if (outcome.kind === "answer") {
      this.#settle(wasRepeated ? asRepeated(outcome) : outcome, nowMs);
    } else {
      this.#settle(wasRepeated && outcome.kind === "unknown" ? { ...outcome, wasRepeated } : outcome);
    }
  }

  #onAuthorized(obtained: HeaderLines | AuthorizationFault): void {
    // Abandoned in the meantime.
    if (this.#stage !== "authorizing") return;
    if (this.#client?.hasLeft === true) this.#withdraw();
    else if ("fault" in obtained) this.onExchangeEnd({ kind: "not-sent", detail: obtained.fault });
    else this.#send(obtained, this.#entry.context.clock.now());
  }

  #send(authorization: HeaderLines, nowMs: number): void {
    this.#authorization = authorization;
    this.#stage = "sending";
    const { client, settings } = this.#entry;
    this.#endBy(nowMs + settings.timeoutMs);
    const { event } = this;
    try {
      this.#exchange = event.name === "message" ? this.#formMessage(event) : new Exchange(this, this.formatRequest());
      client.carry(this.#exchange, nowMs);
    } catch (bug) {
      this.#fault(bug);
    }
  }

  /** The client that must still be there when the event is sent. */
  get #client(): WaitingClient | null {
    return this.event.name === "connect" ? (this.#listener.client ?? null) : null;
  }

  #endBy(endsAtMs: number): void {
    this.#endsAtMs = endsAtMs;
    if (this.deadlineMs !== EACH_SWEEP) this.deadlineMs = endsAtMs;
  }

  #formMessage(event: MessageEvent): Exchange {
    const { context, dialect, messageStarts, date, client } = this.#entry;
    const start = messageStarts.startOf(event, context.keys(), this.#authorization, date.now());
    return client.room.form(this, start, event, dialect.tail(event));
  }

  get #boundOnPlaces(): RefusalCause {
    return this.#entry.limiter.isAtShare(this) ? "address-concurrency" : "concurrency";
  }

  #refuse(cause: RefusalCause): void {
    this.#settle({ kind: "refused", cause, retryAfterSeconds: RETRY_AFTER_SECONDS });
  }

  /** No client waits for the answer, and nothing was written, so it says nothing of the upstream. */
  #withdraw(): void {
    this.#exchange?.cut();
    this.#settle({ kind: "not-sent", detail: "the client has left" }, undefined, "none");
  }

  #settle(outcome: CallOutcome, nowMs?: number, result = breakerResultOf(outcome)): void {
    if (this.#stage === "settled") return;
    this.#entry.context.meters.called(this.event.name, outcome);
    this.#giveBack(result, nowMs);
    this.#leave(this.#entry);
    if (this.#isStarting) queueMicrotask(() => this.#listener.onOutcome(outcome, this.#entry));
    else this.#listener.onOutcome(outcome, this.#entry);
  }

  #fault(bug: unknown): void {
    if (this.#stage === "settled") return;
    this.#giveBack("none");
    this.#leave(this.#entry);
    if (this.#isStarting) queueMicrotask(() => this.#listener.onFault(bug));
    else this.#listener.onFault(bug);
  }

  #giveBack(result: BreakerResult, nowMs = this.#entry.context.clock.now()): void {
    const { limiter, context } = this.#entry;
    const hadPlace = this.#stage !== "waiting";
    this.#stage = "settled";
    context.deadlines.remove(this);
    // Before the place is given to the next call, which must see a breaker that has just opened.
    if (this.#isAdmitted) this.#entry.settleBreaker(result, { isProbe: this.#isProbe, nowMs });
    if (hadPlace) limiter.release(this);
    else limiter.leave(this);
  }
}

function lateDetail(timeoutMs: number): string {
  return `no whole answer within ${timeoutMs} ms`;
}

function asRepeated({ kind, status, headers, contentType, body, text }: HttpAnswer): CallOutcome {
  return { kind, status, headers, contentType, body, text, wasRepeated: true };
}

/** What an outcome says of the upstream's health. Source: PROTOCOL.md, "Breaker". */
function breakerResultOf(outcome: CallOutcome): BreakerResult {
  if (outcome.kind === "answer") return outcome.status >= 500 ? "failure" : "success";
  return outcome.kind === "unknown" && outcome.cause === "abandoned" ? "none" : "failure";
}
