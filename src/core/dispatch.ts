import { type ClientProtocols, type EventCommand, protocolOf } from "../protocol/client-protocol.ts";
import { CLOSE, type ConnectionEnd } from "../protocol/close-causes.ts";
import type { MessageReply } from "../protocol/dialect.ts";
import { messageEventId } from "../protocol/events.ts";
import type { Report, Undelivered } from "../protocol/notices.ts";
import type { Connection } from "./connection.ts";
import { describeOutcome } from "./disconnect-outcome.ts";
import { MESSAGE_BYTES } from "./inbox.ts";
import type { CallFailure, EntryView, Upstream } from "./ports/upstream.ts";
import { type MessageOwner, PostedMessage } from "./posted-message.ts";
import type { Pressure } from "./pressure.ts";

/** Hears that the event of a connection is not in flight any more. */
export interface EventOwner {
  onOver(connection: Connection, answered: boolean): void;
  onFault(connection: Connection, bug: unknown): void;
}

/**
 * Takes events of clients to the upstream, and brings the answers back.
 *
 *     begin ─▶ send ─▶ the upstream ─▶ onReply: to the client ────────▶ owner
 *                                   └▶ onFailure: as the entry and ──▶
 *                                      the client protocol say
 */
export class Dispatch implements MessageOwner {
  readonly #protocols: ClientProtocols;
  readonly #upstream: Upstream;
  readonly #report: Report;
  readonly #close: (connection: Connection, cause: ConnectionEnd) => void;
  readonly #pressure: Pressure;
  readonly #owner: EventOwner;

  constructor(parts: {
    protocols: ClientProtocols;
    upstream: Upstream;
    report: Report;
    close: (connection: Connection, cause: ConnectionEnd) => void;
    pressure: Pressure;
    owner: EventOwner;
  }) {
    this.#protocols = parts.protocols;
    this.#upstream = parts.upstream;
    this.#report = parts.report;
    this.#close = parts.close;
    this.#pressure = parts.pressure;
    this.#owner = parts.owner;
  }

  /** The event is the connection's one in flight from here on. `send` must follow. */
  begin(connection: Connection, event: EventCommand): PostedMessage {
    connection.messageCount++;
    const posted = new PostedMessage(connection, connection.messageCount, event, this);
    connection.inFlight = posted;
    return posted;
  }

  send(message: PostedMessage): void {
    try {
      message.call = this.#upstream.post(message, message);
    } catch (bug) {
      this.onFault(message, bug);
    }
  }

  onReply(message: PostedMessage, reply: MessageReply): void {
    try {
      this.#letGo(message);
      this.#reply(message.facts, reply);
    } catch (bug) {
      this.onFault(message, bug);
      return;
    }
    this.#owner.onOver(message.facts, true);
  }

  onFailure(message: PostedMessage, failure: CallFailure, entry: EntryView | null): void {
    try {
      this.#letGo(message);
      this.#fail(message, failure, entry);
    } catch (bug) {
      this.onFault(message, bug);
      return;
    }
    this.#owner.onOver(message.facts, false);
  }

  onFault({ facts: connection }: PostedMessage, bug: unknown): void {
    this.#owner.onFault(connection, bug);
  }

  /** Ends all calls of events. */
  abandon(): void {
    this.#upstream.abandonMessages();
  }

  /** So many events of a connection were given up before they were posted. */
  reportDiscarded(connection: Connection, count: number): void {
    const firstEventId = messageEventId(connection.connectionId, connection.messageCount + 1);
    const cause = "queued messages discarded after the connection closed";
    this.#reportUndelivered(connection, { eventId: firstEventId, cause, count, tookMs: null });
  }

  #letGo({ facts: connection, payload }: PostedMessage): void {
    this.#pressure.holdMessage(connection, -payload.length - MESSAGE_BYTES);
  }

  #fail({ facts: connection, eventId, call }: PostedMessage, failure: CallFailure, entry: EntryView | null): void {
    const tookMs = call?.tookMs() ?? null;
    this.#reportUndelivered(connection, { eventId, cause: describeOutcome(failure), count: 1, tookMs });
    if (entry?.onMessageFailure === "ignore") return;
    const cause = entry === null ? CLOSE.noUpstreamForMessages : causeOf(failure);
    this.#close(connection, connection.closeAfterCall ?? protocolOf(this.#protocols, connection).failed(cause));
  }

  #reply(connection: Connection, { payload }: MessageReply): void {
    // An answer after the client has left is dropped: PROTOCOL.md, "Message".
    if (connection.socket === null || payload === null) return;
    const frame = protocolOf(this.#protocols, connection).encode(payload);
    if (connection.socket.send(frame) === "full") this.#close(connection, CLOSE.slowConsumer);
    this.#pressure.moved(frame.length);
  }

  #reportUndelivered(
    { connectionId, hub, forwardedFor }: Connection,
    lost: Pick<Undelivered, "eventId" | "cause" | "count" | "tookMs">,
  ): void {
    this.#report({ kind: "undelivered", connectionId, hub, forwardedFor, event: "message", ...lost });
  }
}

/** With what a connection is closed whose message had no answer. */
function causeOf(failure: CallFailure): ConnectionEnd {
  const isAtShare = failure.kind === "refused" && failure.cause === "address-concurrency";
  return isAtShare ? CLOSE.addressConcurrency : CLOSE.upstreamUnavailable;
}
