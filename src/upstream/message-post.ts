import type { MessageCall } from "../core/message-call.ts";
import type { Meters } from "../core/meters.ts";
import type { NotSent, ReplyListener } from "../core/ports/upstream.ts";
import type { AnswerContent, MessageReply } from "../protocol/dialect.ts";
import type { MessageEvent } from "../protocol/events.ts";
import type { Call, CallListener, CallOutcome } from "./call.ts";
import type { Waiting } from "./deadlines.ts";
import type { Entry } from "./entry.ts";

/** Pauses before a message that provably was not sent is posted again. Source: decision 0002. */
export const REPEAT_AFTER_MS = [100, 200, 400];

/** What every message's post needs. */
export interface PostContext {
  /** The pause before each repeat. */
  readonly repeatAfterMs: readonly number[];
  /** Whether messages have been given up, so that none is posted again. */
  readonly isAbandoning: boolean;
  /** Starts a call for a message with the entry that takes it now; null where none does. */
  begin(event: MessageEvent, listener: CallListener): Call | null;
  now(): number;
  readonly meters: Meters;
  /** Calls `expire` once `deadlineMs` has passed, in the time of `now`. */
  wait(waiting: Waiting): void;
  stopWaiting(waiting: Waiting): void;
}

/**
 * One message on its way to the backend: its calls, and the pauses between them while provably none of it was sent.
 *
 *   call ──> reply or failure
 *    │ ▲
 *    ▼ │ at most three times
 *   pause
 */
export class MessagePost implements CallListener, MessageCall, Waiting {
  deadlineMs = 0;
  deadlineSlot = -1;
  readonly #event: MessageEvent;
  readonly #listener: ReplyListener;
  readonly #context: PostContext;
  #call: Call | null = null;
  #repeats = 0;
  #startedAtMs = 0;
  /** How its last call ended, during a pause. */
  #failure: NotSent | null = null;
  #entry: Entry | null = null;

  constructor(event: MessageEvent, listener: ReplyListener, context: PostContext) {
    this.#event = event;
    this.#listener = listener;
    this.#context = context;
  }

  /** Returns false where no entry takes the message: the listener hears nothing then. */
  start(): boolean {
    this.#call = this.#context.begin(this.#event, this);
    if (this.#call === null) return false;
    if (this.#repeats === 0) this.#startedAtMs = this.#call.startedAtMs;
    return true;
  }

  forgoRepeat(): boolean {
    return this.#call?.forgoRepeat() === true;
  }

  tookMs(): number {
    return Math.round(this.#context.now() - this.#startedAtMs);
  }

  abandon(): void {
    if (this.#failure === null) this.#call?.abandon();
    else this.#giveUp(this.#failure);
  }

  onOutcome(outcome: CallOutcome, entry: Entry): void {
    if (outcome.kind === "answer") this.#read(outcome, entry);
    else if (outcome.kind !== "not-sent" || !this.#pause(outcome, entry)) this.#listener.onFailure(outcome, entry);
  }

  onFault(bug: unknown): void {
    this.#listener.onFault(bug);
  }

  /** Called by the sweep: the pause is over. */
  expire(): void {
    this.#endPause();
    this.#context.meters.messageRepeats++;
    if (!this.start()) this.#listener.onFailure({ kind: "unrouted" }, null);
  }

  #read(answer: AnswerContent, { dialect }: Entry): void {
    let reply: MessageReply;
    try {
      reply = dialect.readReply(answer);
    } catch (bug) {
      this.onFault(bug);
      return;
    }
    this.#listener.onReply(reply);
  }

  #pause(failure: NotSent, entry: Entry): boolean {
    const delayMs = this.#context.repeatAfterMs[this.#repeats];
    if (delayMs === undefined || this.#context.isAbandoning) return false;
    this.#repeats++;
    this.#call = null;
    this.#failure = failure;
    this.#entry = entry;
    this.deadlineMs = this.#context.now() + delayMs;
    this.#context.wait(this);
    return true;
  }

  #endPause(): void {
    this.#context.stopWaiting(this);
    this.#failure = null;
  }

  #giveUp(failure: NotSent): void {
    this.#endPause();
    this.#listener.onFailure(failure, this.#entry);
  }
}
