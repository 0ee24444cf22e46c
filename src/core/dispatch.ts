import { CLOSE, type CloseCause } from "../protocol/close-causes.ts";
import type { MessageReply } from "../protocol/dialect.ts";
import { messageEventId } from "../protocol/events.ts";
import type { Report } from "../protocol/notices.ts";
import type { Connection } from "./connection.ts";
import { type InboundMessage, Inbox, MESSAGE_BYTES } from "./inbox.ts";
import { describeOutcome } from "./outcome.ts";
import type { Clock } from "./ports/clock.ts";
import type { CallFailure, EntryView, Upstream } from "./ports/upstream.ts";
import { type MessageOwner, PostedMessage } from "./posted-message.ts";
import type { Pressure } from "./pressure.ts";

export interface DispatchOptions {
  readonly maxInboxMessages: number;
  readonly maxInboxBytes: number;
  readonly inboxPauseTimeoutMs: number;
  readonly inboxDrainTimeoutMs: number;
}

/** How often paused connections are looked at; a pause ends at most this late. */
const MAX_PAUSE_SWEEP_MS = 1000;

/**
 * Takes each connection's messages to the upstream, one after the other, and brings the answers back.
 *
 *     socket ─▶ received ─▶ [ inbox ] ─▶ one call in flight ─▶ answer ─▶ socket
 *                  │ full: reading pauses                │ none: close or ignore
 *                  ▼                                     ▼
 *        no progress for inboxPauseTimeoutMs: 1013   closed: what waits is still posted, then `onDrained`
 *
 * Order:  never two calls at once for one connection. Source: the seed, "Send Messages"; PROTOCOL.md, "Message".
 */
export class Dispatch implements MessageOwner {
  readonly #options: DispatchOptions;
  readonly #upstream: Upstream;
  readonly #clock: Clock;
  readonly #report: Report;
  readonly #close: (connection: Connection, cause: CloseCause) => void;
  readonly #onDrained: (connection: Connection) => void;
  readonly #onResumed: (connection: Connection) => void;
  readonly #pressure: Pressure;
  readonly #paused = new Set<Connection>();
  readonly #cancelSweep: () => void;
  /** Set at shutdown: all waiting messages are given up, so that the disconnects go out in time. */
  #abandoning = false;

  constructor(parts: {
    options: DispatchOptions;
    upstream: Upstream;
    clock: Clock;
    report: Report;
    close: (connection: Connection, cause: CloseCause) => void;
    /** Called once for a closed connection whose messages are all posted or given up. */
    onDrained: (connection: Connection) => void;
    /** Called when reading from a connection goes on. */
    onResumed: (connection: Connection) => void;
    pressure: Pressure;
  }) {
    this.#options = parts.options;
    this.#upstream = parts.upstream;
    this.#clock = parts.clock;
    this.#report = parts.report;
    this.#close = parts.close;
    this.#onDrained = parts.onDrained;
    this.#onResumed = parts.onResumed;
    this.#pressure = parts.pressure;
    const sweepMs = Math.min(MAX_PAUSE_SWEEP_MS, Math.max(1, parts.options.inboxPauseTimeoutMs / 4));
    this.#cancelSweep = parts.clock.every(sweepMs, () => this.#sweepPaused());
  }

  received(connection: Connection, message: InboundMessage): void {
    if (connection.inFlight !== null) {
      this.#enqueue(connection, message);
      return;
    }
    const posted = this.#begin(connection, message);
    this.#pressure.holdMessage(connection, message.payload.length + MESSAGE_BYTES);
    this.#send(posted);
  }

  onReply(message: PostedMessage, reply: MessageReply): void {
    try {
      this.#letGo(message);
      this.#reply(message.facts, reply);
    } catch (bug) {
      this.onFault(message, bug);
      return;
    }
    this.#goOn(message, true);
  }

  onFailure(message: PostedMessage, failure: CallFailure, entry: EntryView | null): void {
    try {
      this.#letGo(message);
      this.#fail(message, failure, entry);
    } catch (bug) {
      this.onFault(message, bug);
      return;
    }
    this.#goOn(message, false);
  }

  /** A bug in hubwire ended a message's call: the connection's order cannot be kept. */
  onFault({ facts: connection }: PostedMessage, bug: unknown): void {
    this.#rest(connection);
    this.#report({ kind: "fault", where: "message event", error: bug });
    this.#close(connection, CLOSE.internalError);
  }

  /** Closes a connection whose call is in flight once that call's answer has been delivered. */
  closeAfterCall(connection: Connection, cause: CloseCause): void {
    connection.closeAfterCall = cause;
  }

  /** To be called when the connection's socket has closed. */
  closed(connection: Connection): void {
    this.#paused.delete(connection);
    if (connection.inFlight === null) {
      this.#onDrained(connection);
      return;
    }
    connection.drainUntil = this.#clock.now() + this.#options.inboxDrainTimeoutMs;
    this.#pressure.draining(connection, () => this.#discardQueue(connection));
  }

  /** Gives up every message in flight or waiting, now and from now on. */
  abandon(): void {
    this.#abandoning = true;
    this.#upstream.abandonMessages();
  }

  stop(): void {
    this.#cancelSweep();
  }

  #enqueue(connection: Connection, message: InboundMessage): void {
    const { maxInboxMessages, maxInboxBytes } = this.#options;
    connection.inbox ??= new Inbox({ maxMessages: maxInboxMessages, maxBytes: maxInboxBytes }, this.#clock.now());
    connection.inbox.push(message);
    this.#pressure.holdMessage(connection, message.payload.length + MESSAGE_BYTES);
    // Too many bytes in the whole process may just have ended this connection.
    if (connection.socket === null || connection.inbox === null) return;
    // While much waits in the whole process, nothing more is read from a client that has sent ahead.
    if (connection.inbox.paused || !(connection.inbox.isFull || this.#pressure.isFilling)) return;
    connection.inbox.paused = true;
    connection.inbox.progressAt = this.#clock.now();
    this.#paused.add(connection);
    connection.socket.pause();
  }

  #begin(connection: Connection, message: InboundMessage): PostedMessage {
    connection.messageCount++;
    const posted = new PostedMessage(connection, connection.messageCount, message, this);
    connection.inFlight = posted;
    return posted;
  }

  #send(message: PostedMessage): void {
    try {
      message.call = this.#upstream.post(message, message);
    } catch (bug) {
      this.onFault(message, bug);
    }
  }

  /** A message's call is over, and what it meant is done: the next one follows. */
  #goOn(message: PostedMessage, answered: boolean): void {
    const connection = message.facts;
    let next: InboundMessage | undefined;
    try {
      if (connection.closeAfterCall !== null) this.#close(connection, connection.closeAfterCall);
      next = this.#mayGoOn(connection, answered) ? this.#next(connection) : undefined;
    } catch (bug) {
      this.onFault(message, bug);
      return;
    }
    if (next === undefined) this.#rest(connection);
    else this.#send(this.#begin(connection, next));
  }

  #letGo({ facts: connection, payload }: PostedMessage): void {
    this.#pressure.holdMessage(connection, -payload.length - MESSAGE_BYTES);
  }

  /** No call is under way for the connection any more. */
  #rest(connection: Connection): void {
    connection.inFlight = null;
    if (connection.end !== null) this.#pressure.drained(connection);
    this.#discardWaiting(connection);
    if (connection.end !== null && connection.socket === null) this.#onDrained(connection);
  }

  #fail(message: PostedMessage, failure: CallFailure, entry: EntryView | null): void {
    const connection = message.facts;
    this.#reportUndelivered(connection, message.eventId, describeOutcome(failure), 1);
    const due = connection.closeAfterCall;
    if (entry === null) this.#close(connection, due ?? CLOSE.noUpstreamForMessages);
    else if (entry.onMessageFailure === "close") this.#close(connection, due ?? causeOf(failure));
  }

  #reply(connection: Connection, { payload }: MessageReply): void {
    // An answer after the client has left is dropped: PROTOCOL.md, "Message".
    if (connection.socket === null || payload === null) return;
    if (connection.socket.send(payload.data) === "full") this.#close(connection, CLOSE.slowConsumer);
    this.#pressure.moved(payload.data.length);
  }

  /** Whether the next waiting message may be posted: always while open; then until one fails or time is up. */
  #mayGoOn(connection: Connection, answered: boolean): boolean {
    if (connection.isDisowned) return false;
    if (connection.end === null) return true;
    if (!answered || this.#abandoning) return false;
    // Between the decision to close and the close the drain's time has not begun.
    return connection.socket !== null || this.#clock.now() < connection.drainUntil;
  }

  #next(connection: Connection): InboundMessage | undefined {
    const { inbox } = connection;
    if (inbox === null) return undefined;
    const message = inbox.shift();
    inbox.progressAt = this.#clock.now();
    if (inbox.paused && (this.#pressure.isFilling ? inbox.count === 0 : inbox.isRelaxed)) {
      inbox.paused = false;
      this.#paused.delete(connection);
      connection.socket?.resume();
      this.#onResumed(connection);
    }
    if (inbox.count === 0 && !inbox.paused) connection.inbox = null;
    return message;
  }

  #discardWaiting(connection: Connection): void {
    this.#discardQueue(connection);
    this.#pressure.holdMessage(connection, -connection.heldBytes);
  }

  /** Gives up the messages behind the one in flight. */
  #discardQueue(connection: Connection): void {
    const { inbox } = connection;
    if (inbox === null) return;
    connection.inbox = null;
    this.#pressure.holdMessage(connection, -inbox.byteCount - inbox.count * MESSAGE_BYTES);
    if (inbox.count === 0) return;
    const firstEventId = messageEventId(connection.connectionId, connection.messageCount + 1);
    const cause = "queued messages discarded after the connection closed";
    this.#reportUndelivered(connection, firstEventId, cause, inbox.count);
  }

  #reportUndelivered(connection: Connection, eventId: string, cause: string, count: number): void {
    const { connectionId, hub, forwardedFor } = connection;
    this.#report({ kind: "undelivered", connectionId, hub, forwardedFor, event: "message", eventId, cause, count });
  }

  #sweepPaused(): void {
    const now = this.#clock.now();
    for (const connection of [...this.#paused]) {
      const pausedFor = now - (connection.inbox?.progressAt ?? now);
      if (pausedFor >= this.#options.inboxPauseTimeoutMs) this.#close(connection, CLOSE.inboxFull);
    }
  }
}

/** With what a connection is closed whose message had no answer. */
function causeOf(failure: CallFailure): CloseCause {
  const isAtShare = failure.kind === "refused" && failure.cause === "address-concurrency";
  return isAtShare ? CLOSE.addressConcurrency : CLOSE.upstreamUnavailable;
}
