import type { MessageEvent, UpstreamEvent } from "../../protocol/events.ts";
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

/** A whole HTTP answer, whatever its status; interim 1xx answers are skipped, a final 101 is an answer. */
export interface UpstreamAnswer {
  readonly kind: "answer";
  readonly status: number;
  /** Values as they arrived, one char a byte: those of a refusal go to the client unchanged, and a reader of one decodes it. */
  readonly headers: HeaderLines;
  /** The first `Content-Type` among them, empty without such a header; of a message's answer no other header is read. */
  readonly contentType: string;
  /** Decoded where hubwire reads it: an answer to a message, a 2xx to connect. Else as it came. */
  readonly body: Uint8Array;
  /** The body as text; null where it is no UTF-8. */
  readonly text: string | null;
  /** Set where this answers a repeat: the first request may have been acted on, and its answer was lost. */
  readonly wasRepeated?: true;
}

export type UpstreamOutcome =
  | UpstreamAnswer
  /** Provably no byte of the request was written: safe to repeat. `detail` is for the log and holds no secret. */
  | { readonly kind: "not-sent"; readonly detail: string; readonly onMessageFailure: MessageFailurePolicy }
  /** Sent, but no whole answer. `status` is set where a status line was seen before it went wrong. */
  | {
      readonly kind: "unknown";
      readonly cause: UnknownCause;
      readonly status: number | null;
      /** Those of the answer's head, where it came whole. */
      readonly headers?: HeaderLines;
      readonly detail: string;
      /** Set where it was sent twice: the first request may have been acted on. */
      readonly wasRepeated?: true;
      /** Of a connect event that timed out: what comes of its answer after all. */
      readonly late?: Promise<LateAnswer>;
      readonly onMessageFailure: MessageFailurePolicy;
    }
  | {
      readonly kind: "refused";
      readonly cause: RefusalCause;
      readonly retryAfterSeconds: number;
      readonly onMessageFailure: MessageFailurePolicy;
    }
  /** No entry of `upstreams` matches the event. */
  | { readonly kind: "unrouted" };

/** What came of an answer that nobody waits for any more: its head, nothing in time, or the process ended before. */
export type LateAnswer =
  | { readonly kind: "answer"; readonly status: number; readonly headers: HeaderLines }
  | { readonly kind: "none" }
  | { readonly kind: "stopped" };

/** A client whose handshake has not been answered. */
export interface WaitingClient {
  /** Whether its TCP connection has ended. */
  readonly hasLeft: boolean;
}

/** Who waits for what becomes of an event. */
export interface OutcomeListener {
  onOutcome(outcome: UpstreamOutcome): void;
  /** A bug in hubwire ended it. */
  onFault(bug: unknown): void;
  /** Of a connect event, the client that must still be there when it is sent. */
  readonly client?: WaitingClient | null;
}

/**
 * Posts events to the user's backend.
 *
 * Errors: never throws or rejects for a remote fault; that is an outcome. Rejects only for a bug in hubwire.
 * Order:  calls may run side by side; the core never starts two for one connection.
 * Repeat: one `call` is one event. A pooled socket that the server closed before a byte of answer came may be
 *         retried inside for connect and disconnect, never for message.
 */
export interface Upstream {
  /**
   * `client` is who waits for a connect event's answer. Once it has left, what has not been sent is given up: the outcome is
   * `not-sent`. What has been sent goes on.
   */
  call(event: UpstreamEvent, client?: WaitingClient): Promise<UpstreamOutcome>;
  /**
   * The same without a promise, for messages, of which there are many: null where no entry takes it. The listener hears of one end,
   * never before this returns.
   */
  post(event: MessageEvent, listener: OutcomeListener): MessageCall | null;
  /** Ends every message call in flight with `unknown`, cause `abandoned`. Shutdown uses it so that disconnects still go out. */
  abandonMessages(): void;
  /** The entry that a hub's disconnect events go to as things stand; null where none takes them. */
  laneFor(hub: string): UpstreamLane | null;
}

/** One entry of `upstreams` as those see it who wait for it. The same object for as long as the entry is in force. */
export interface UpstreamLane {
  /** For the log; holds no secret. */
  readonly label: string;
  readonly maxConcurrency: number;
  readonly isBreakerOpen: boolean;
}
