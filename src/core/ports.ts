import type { CloseCause } from "../protocol/close-causes.ts";
import type { Envelope, Question, Target } from "../protocol/envelope.ts";
import type { ConnectionFacts, MessageEvent, UpstreamEvent } from "../protocol/events.ts";
import type { HeaderLines } from "../protocol/headers.ts";
import type { MessageCall } from "./message-call.ts";

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
  /** Values as they arrived, one char a byte: a refusal's go to the client so, and whoever reads one decodes it. */
  readonly headers: HeaderLines;
  /** The first `Content-Type` among them, empty where there is none: all that a message's answer is asked for. */
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
  /** A bug of ours ended it. */
  onFault(bug: unknown): void;
  /** Of a connect event, the client that must still be there when it is sent. */
  readonly client?: WaitingClient | null;
}

/**
 * Posts events to the user's backend.
 *
 * Errors: never throws or rejects for a remote fault; that is an outcome. Rejects only for a bug of ours.
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

/** A complete WebSocket message: a string is a text frame, bytes are a binary frame. */
export type Frame = string | Uint8Array;

/** What a client's TCP connection has carried, as the system counts it. Only growth has a meaning. Units: bytes. */
export interface Traffic {
  /** Received from the client, bytes of an incomplete message included. */
  readonly received: number;
  /** Acknowledged by the client's system: no longer waiting anywhere on this machine. */
  readonly delivered: number;
  /** Not sent yet, since the client's system takes no more. What waits in this process is not included. */
  readonly unsent: number;
}

/**
 * One client's WebSocket, already open.
 *
 * `close` and `terminate` may call the core's `closed` before they return. After either, every method does nothing.
 */
export interface ClientSocket {
  /** Bytes that wait for the client to read. */
  readonly waitingBytes: number;
  /** Whether its messages may come compressed. */
  readonly isCompressed: boolean;
  /** Whether its bytes come in TLS records, whose heads `readTraffic` counts too. */
  readonly isEncrypted: boolean;
  /** What its TCP connection has carried; null where the system does not tell. Costs a system call. */
  readTraffic(): Traffic | null;
  /** `sent`: given to the kernel or queued within bounds. `full`: not sent, since more than `maxOutboxBytes` would wait. */
  send(frame: Frame): "sent" | "full";
  /**
   * The same, but may be written at the end of the turn, together with others' frames; `full` is told up to a quarter of
   * `maxOutboxBytes` later then. What is sent, published or closed after it goes out after it.
   */
  sendSoon(frame: Frame): "sent" | "full";
  /** From here on gets what the fan-out publishes to a topic. `unsubscribe` undoes it; both may be repeated. */
  subscribe(topic: string): void;
  unsubscribe(topic: string): void;
  ping(): void;
  /** Stops reading, so that TCP holds the client back. Messages already read may still arrive. */
  pause(): void;
  resume(): void;
  /** Sends a close frame behind what waits. `code` must be one that RFC 6455 section 7.4 lets an endpoint send. */
  close(code: number, reason: string): void;
  /** Cuts the TCP connection without a close frame. */
  terminate(): void;
}

/**
 * Sends one frame to every socket that subscribed to a topic.
 *
 * Order:  what is published and sent in one turn reaches a socket in that order.
 * Errors: nothing is dropped: what a client does not read waits, and `Pressure` ends those for whom too much does.
 */
export interface Fanout {
  publish(topic: string, frame: Frame): void;
}

/**
 * What a node says to a question. `limit`: the change would pass `maxGroupsPerConnection` for at least one member of the target;
 * for the others it was made.
 */
export type Answer = "yes" | "no" | "limit";

/** Which nodes must have answered before an answer holds: the first that says yes, or all. */
export type AnswerScope = "first-yes" | "every-node";

/** A node's end of the broker: what comes from any node, its own included. */
export interface BrokerHandler {
  receive(envelope: Envelope): void;
  /** Resolves once what the question changes has taken effect here. What comes behind it may be received meanwhile. */
  answer(question: Question): Promise<Answer>;
}

/**
 * Carries envelopes and questions to every node that may have a member of their target.
 *
 * Promise: at most once. `publish` resolves when the envelope is on its way, `ask` when the answer holds.
 * Order:   envelopes of one publisher for one target arrive in the order of `publish`; a question asked after an
 *          envelope was published is answered after it was received.
 * Errors:  `unavailable` where the nodes cannot be reached, or not all of those that must answer have: it is not known then
 *          which of them have done it. Rejects only for a bug of ours.
 */
export interface Broker {
  publish(envelope: Envelope): Promise<"sent" | "unavailable">;
  ask(question: Question, scope: AnswerScope): Promise<Answer | "unavailable">;
  /**
   * This node has one more member of the target. Resolves when what any node publishes for it from now on arrives here; at once
   * where nobody can publish. Never rejects. A connection's own subject needs none: its id names the node.
   */
  join(target: Target): Promise<void>;
  /** It has one less. To be called once for each `join`. */
  leave(target: Target): void;
}

/** The only source of time in `core`. Milliseconds; `now` is monotonic. */
export interface Clock {
  now(): number;
  /** Calls back once, after `delayMs`. The returned function cancels. */
  after(delayMs: number, callback: () => void): () => void;
  /** Calls back every `intervalMs`. The returned function cancels. */
  every(intervalMs: number, callback: () => void): () => void;
}

/** Why an event could not be delivered, in words for the log: cause and detail of the outcome. */
export interface Undelivered {
  readonly connectionId: string;
  readonly hub: string;
  /** The connection's whole `X-Forwarded-For`, from which a line names the client; null where it is not at hand. */
  readonly forwardedFor: string | null;
  readonly event: "connect" | "message" | "disconnect";
  readonly eventId: string;
  readonly cause: string;
  /** How many events this line stands for; above one where a queue was discarded whole. */
  readonly count: number;
}

/** A client that was not let in. */
export interface RefusedClient {
  /** Empty where the request names none. */
  readonly hub: string;
  readonly status: number;
  readonly code: string;
  /** The refusal's sentence. */
  readonly message: string;
  readonly clientAddress: string;
  /** Whether the client, which is no trusted proxy, sent `X-Forwarded-For`. */
  readonly isChainIgnored: boolean;
}

/** One method for each fact worth a log line, a metric or a span. The core knows no logger. */
export interface Report {
  connectionOpened(facts: ConnectionFacts): void;
  connectionClosed(facts: ConnectionFacts, end: CloseCause): void;
  connectionRefused(refused: RefusedClient): void;
  /** A client ended its TCP connection before its handshake was answered. */
  clientLeft(hub: string, clientAddress: string): void;
  /** Connect was answered with 2xx after it had timed out: a second disconnect event follows. */
  acceptedLate(facts: ConnectionFacts): void;
  undelivered(fact: Undelivered): void;
  /** An entry of `upstreams` did not take a disconnect event: it and those after it wait. `entry` names it without any secret. */
  disconnectsWaiting(entry: string, cause: string): void;
  /** It takes them again. */
  disconnectsFlowing(entry: string): void;
  /** It refuses a disconnect event with a status that a backend also says while it is deployed: the event is tried again for a while. */
  disconnectRefused(entry: string, cause: string): void;
  /** A disconnect event is given up after all its tries; `hubwire dead-letters` has it now. */
  deadLetter(fact: Undelivered): void;
  /** Another node is gone, and what it owed is this one's now. */
  nodeTakenOver(nodeId: string, count: number): void;
  /** It was tried in vain; whoever finds the lease over again tries once more. */
  takeoverFailed(nodeId: string, cause: string): void;
  /** A bug of ours that an edge caught. */
  fault(where: string, error: unknown): void;
}

/** A disconnect event that is owed. */
export interface OwedDisconnect {
  readonly facts: ConnectionFacts;
  readonly end: CloseCause;
  /** True where the connect event was sent and its answer never came. */
  readonly connectOutcomeUnknown: boolean;
  /** Which of two events it is, where connect was answered with 2xx after it had timed out; absent where there is one (decision 0038). */
  readonly nth?: "first" | "second";
}

/** Ages of a waiting disconnect when they were stored, by the monotonic clocks of all processes that have tried it. */
export interface RetryAges {
  /** Since its first try. */
  readonly triedForMs: number;
  /** Since the first of its last tries that the backend refused (decision 0037); 0 where the last try was not refused. */
  readonly refusedForMs: number;
}

/** A disconnect event that was tried in vain and waits. */
export interface DueDisconnect extends OwedDisconnect, RetryAges {
  /** Unix time in milliseconds at which it was first found undelivered. For people only: a clock can be set. */
  readonly dueSinceMs: number;
}

/** A disconnect event that waits for its next try, as light as a queue of many wants it. */
export interface WaitingDisconnect extends RetryAges {
  readonly connectionId: string;
  readonly hub: string;
  /** Its place in the queue: later ones are larger, and none is used twice. */
  readonly place: number;
}

/** How a disconnect event was given up. */
export type Death = Pick<DeadLetter, "diedAtMs" | "cause" | "keptForMs">;

/** A disconnect event that was given up. */
export interface DeadLetter extends DueDisconnect {
  /** Unix time in milliseconds. For people only: a clock can be set. */
  readonly diedAtMs: number;
  /** How long it has been kept, by the monotonic clocks of the processes that have kept it: see `ageDeadLetters`. */
  readonly keptForMs: number;
  /** The outcome of its last try, in words. */
  readonly cause: string;
  readonly place: number;
}

/**
 * Remembers, beyond the process, who is owed a disconnect event.
 *
 *     connecting ──▶ connected ──▶ due ──▶ dead (30 days)
 *         │              │          ▲│       │
 *         └──────────────┴──────────┘└─▶ settled ◀┘    at the next start all that is not due or dead becomes due
 *
 * Promise: what was resolved survives a crash of the process; with `synchronous: full` a power cut too.
 * Order:   as called. The connect event is posted after `connecting` has resolved, and the 101 sent after `connected` has.
 * Errors:  `connecting`, `connected`, the operator's calls, `ageDeadLetters` and the reads reject where the disk fails. The other
 *          writes never do: what the disk does not take is kept in memory and written when it takes it, so a crash meanwhile costs a
 *          duplicate, never a loss. Of `tried` a crash may lose the last one: the event is retried for longer.
 *          A rejected `connecting` leaves nothing behind.
 * Cost:    one write for all that is called in one turn of the event loop.
 */
export interface Journal {
  /** False from the first write that failed to the next that did not. */
  readonly isWritable: boolean;
  connecting(facts: ConnectionFacts): Promise<void>;
  /** The connect event was answered with 2xx: this is the user. */
  connected(connectionId: string, userId: string): Promise<void>;
  /** Its disconnect event was tried in vain and waits; resolves with its place. Called again, it gets a new place. */
  due(disconnect: DueDisconnect): Promise<number>;
  /** Nothing is owed any more. An unknown id is no error. */
  settled(connectionId: string): Promise<void>;
  /** The waiting disconnect was tried in vain once more, and is so old now. It keeps its place. */
  tried(connectionId: string, ages: RetryAges): Promise<void>;
  /** The waiting disconnect is given up, or, where another node had given it up, has been kept for so long. */
  died(connectionId: string, death: Death): Promise<void>;

  /**
   * To be called once, before anything else: what an earlier process left behind in `connecting` or `connected` becomes due
   * with this end. Resolves with the number of these. Their connect outcome is unknown where they were still connecting.
   */
  recover(end: CloseCause, nowMs: number): Promise<number>;
  /** The waiting ones behind a place, in order, at most `limit`. */
  waiting(afterPlace: number, limit: number): Promise<WaitingDisconnect[]>;
  /** A waiting one in full; null where it is not waiting. */
  read(connectionId: string): Promise<DueDisconnect | null>;

  /** Dead letters behind a place, in order, at most `limit`. */
  deadLetters(afterPlace: number, limit: number): Promise<DeadLetter[]>;
  /** Makes dead letters due again, all of them where `connectionIds` is null; resolves with how many there were. */
  revive(connectionIds: readonly string[] | null, nowMs: number): Promise<number>;
  /** Forgets dead letters, all of them where `connectionIds` is null; resolves with how many there were. */
  drop(connectionIds: readonly string[] | null): Promise<number>;
  /** So much time has passed for all dead letters. Forgets those that have been kept for `maxMs`; resolves with how many there were. */
  ageDeadLetters(elapsedMs: number, maxMs: number): Promise<number>;
  /** Writes what is still to be written. May be called twice. */
  close(): Promise<void>;
}

/** What a journal has of one connection. */
export type JournalEntry =
  | { readonly state: "connecting" | "connected"; readonly facts: ConnectionFacts }
  | { readonly state: "due"; readonly due: DueDisconnect }
  | { readonly state: "dead"; readonly letter: Omit<DeadLetter, "place"> };

/** What an operator can do with disconnect events that were given up. */
export interface DeadLetters {
  list(afterPlace: number, limit: number): Promise<DeadLetter[]>;
  /** Sends them again, all of them where `connectionIds` is null; resolves with how many there were. */
  retry(connectionIds: readonly string[] | null): Promise<number>;
  drop(connectionIds: readonly string[] | null): Promise<number>;
}
