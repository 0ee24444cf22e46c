import type { ConnectReply, MessageReply } from "../../protocol/dialect.ts";
import type { DialectName } from "../../protocol/dialect-names.ts";
import type { ConnectEvent, DisconnectEvent, MessageEvent } from "../../protocol/events.ts";
import type { HeaderLines } from "../../protocol/headers.ts";
import type { MessageCall } from "../message-call.ts";

/**
 * The core's view of the outside: what it needs, as small as it needs it. Adapters implement these.
 */

/** What an entry of `upstreams` wants done with a message that got no answer. */
export type MessageFailurePolicy = "close" | "ignore";

/** Why a request that was sent (at least one byte of it) brought no usable answer. */
export type UnknownCause = "timeout" | "reset" | "malformed" | "too-large" | "abandoned";

/** Why an event was not tried: the breaker is open, or no place came free within `maxWaitMs`, of all or of the client's address. */
export type RefusalCause = "breaker" | "concurrency" | "address-concurrency";

/** Provably no byte of the request was written: safe to repeat. `detail` is for the log and holds no secret. */
export interface NotSent {
  readonly kind: "not-sent";
  readonly detail: string;
}

/** Sent, but without a whole answer. */
export interface UnknownOutcome {
  readonly kind: "unknown";
  readonly cause: UnknownCause;
  /** Null where no status line was seen before it went wrong. */
  readonly status: number | null;
  /** Those of the answer's head, where it arrived whole. */
  readonly headers?: HeaderLines;
  /** For the log; holds no secret. */
  readonly detail: string;
  /** Set where it was sent twice: the first request may have been acted on. */
  readonly wasRepeated?: true;
}

export interface RefusedCall {
  readonly kind: "refused";
  readonly cause: RefusalCause;
  readonly retryAfterSeconds: number;
}

/** No entry of `upstreams` takes the event. */
export interface Unrouted {
  readonly kind: "unrouted";
}

/** Why an event has no answer. */
export type CallFailure = NotSent | UnknownOutcome | RefusedCall | Unrouted;

/** The status and headers of a whole answer; interim 1xx answers are skipped, a final 101 is an answer. */
export interface AnswerHead {
  readonly kind: "answer";
  readonly status: number;
  /** Values as they arrived, one char a byte: a refusal's go to the client unchanged, and each reader decodes what it needs. */
  readonly headers: HeaderLines;
  /** Set where this answers a repeat: the first request may have been acted on, and its answer was lost. */
  readonly wasRepeated?: true;
}

/** The outcome of a connect event. */
export type ConnectOutcome =
  /** `reply` is what a 2xx means, null for any other status, whose `body` is as it arrived. */
  | (AnswerHead & {
      readonly reply: ConnectReply | null;
      readonly body: Uint8Array;
      /** Lines of a 2xx for the client's 101; absent where the entry passes none on. */
      readonly passed?: HeaderLines;
    })
  | NotSent
  /** `reply`: what the head of a 2xx means whose body did not arrive. `late`: what comes of an answer that is not there in time. */
  | (UnknownOutcome & { readonly reply: ConnectReply | null; readonly late?: Promise<LateAnswer> })
  | RefusedCall
  /** `reply` is what the client's token alone means. */
  | (Unrouted & { readonly reply: ConnectReply });

/** The outcome of a disconnect event. */
export type NotifyOutcome = AnswerHead | CallFailure;

/** The outcome of an answer after its time was over: a 2xx, none (no answer, or another status), or the process ended before. */
export type LateAnswer =
  | { readonly kind: "accepted"; readonly reply: ConnectReply }
  | { readonly kind: "none" }
  | { readonly kind: "stopped" };

/** A client whose handshake has not been answered. */
export interface WaitingClient {
  /** Whether its TCP connection has ended. */
  readonly hasLeft: boolean;
}

/** Hears what becomes of a message, once. */
export interface ReplyListener {
  onReply(reply: MessageReply): void;
  /** `entry` is the one that took it; null where none did. */
  onFailure(failure: CallFailure, entry: EntryView | null): void;
  /** A bug in hubwire ended the call. */
  onFault(bug: unknown): void;
}

/**
 * Tells the user's backend of events.
 *
 * Errors: never throws or rejects for a remote fault; that is an outcome. Rejects only for a bug in hubwire.
 * Order:  calls may run side by side; the core never starts two for one connection.
 * Repeat: an event that provably was not sent may be sent again inside, and so may one that went to a kept socket which the backend
 *         had closed; a message only where its entry allows that (decisions 0002 and 0029).
 */
export interface Upstream {
  /**
   * Asks whether a client may connect. `client` is the one that waits for the answer. Once it has left, a call that has not been sent is
   * given up with `not-sent`; one that has been sent goes on.
   */
  connect(event: ConnectEvent, client: WaitingClient | null): Promise<ConnectOutcome>;
  /** Without a promise, since there are many. Null where no entry takes it. The listener never hears before this returns. */
  post(event: MessageEvent, listener: ReplyListener): MessageCall | null;
  notify(event: DisconnectEvent): Promise<NotifyOutcome>;
  /**
   * Ends every message call with `unknown`, cause `abandoned`, and those that wait for a repeat with `not-sent`; from now on none is
   * repeated. Shutdown uses it so that disconnects still go out.
   */
  abandonMessages(): void;
  /** The entry that takes disconnect events of connections of a hub and a dialect by the configuration in force; null where none does. */
  entryFor(hub: string, dialect: DialectName): EntryView | null;
}

/** An entry of `upstreams`. The same object for as long as the entry is in force. */
export interface EntryView {
  /** For the log; holds no secret. */
  readonly label: string;
  readonly maxConcurrency: number;
  readonly isBreakerOpen: boolean;
  readonly onMessageFailure: MessageFailurePolicy;
}
