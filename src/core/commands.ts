import { type ClientCommand, type ClientProtocols, type Frame, protocolOf } from "../protocol/client-protocol.ts";
import { CLOSE, type ConnectionEnd } from "../protocol/close-causes.ts";
import type { Report } from "../protocol/notices.ts";
import type { Connection } from "./connection.ts";
import { Dispatch, type EventOwner } from "./dispatch.ts";
import { Inbox, MESSAGE_BYTES } from "./inbox.ts";
import type { Clock } from "./ports/clock.ts";
import type { Upstream } from "./ports/upstream.ts";
import type { Pressure } from "./pressure.ts";

export interface CommandOptions {
  readonly maxInboxMessages: number;
  readonly maxInboxBytes: number;
  readonly inboxPauseTimeoutMs: number;
  readonly inboxDrainTimeoutMs: number;
}

/** How often paused connections are looked at; a pause ends at most this late. */
const MAX_PAUSE_SWEEP_MS = 1000;

/**
 * Takes what clients ask for, the commands of each connection one after the other. Every command is an event for the upstream.
 *
 *     socket ─▶ received ─▶ [ inbox ] ─▶ one event in flight ─▶ onOver: the next one
 *                  │ full: reading pauses
 *                  ▼
 *        no progress for inboxPauseTimeoutMs: 1013       closed: what waits is still posted, then `onDrained`
 *
 * Order:  never two events of one connection at once. Source: the seed, "Send Messages"; PROTOCOL.md, "Message".
 */
export class Commands implements EventOwner {
  readonly #options: CommandOptions;
  readonly #protocols: ClientProtocols;
  readonly #clock: Clock;
  readonly #report: Report;
  readonly #close: (connection: Connection, cause: ConnectionEnd) => void;
  readonly #onDrained: (connection: Connection) => void;
  readonly #onResumed: (connection: Connection) => void;
  readonly #pressure: Pressure;
  readonly #dispatch: Dispatch;
  readonly #paused = new Set<Connection>();
  readonly #cancelSweep: () => void;
  /** Set at shutdown: what still waits is given up, so that the disconnects go out in time. */
  #abandoning = false;

  constructor(parts: {
    options: CommandOptions;
    protocols: ClientProtocols;
    upstream: Upstream;
    clock: Clock;
    report: Report;
    close: (connection: Connection, cause: ConnectionEnd) => void;
    /** Called once for a closed connection whose messages are all posted or given up. */
    onDrained: (connection: Connection) => void;
    /** Called when reading from a connection goes on. */
    onResumed: (connection: Connection) => void;
    pressure: Pressure;
  }) {
    this.#options = parts.options;
    this.#protocols = parts.protocols;
    this.#clock = parts.clock;
    this.#report = parts.report;
    this.#close = parts.close;
    this.#onDrained = parts.onDrained;
    this.#onResumed = parts.onResumed;
    this.#pressure = parts.pressure;
    this.#dispatch = new Dispatch({ ...parts, owner: this });
    const sweepMs = Math.min(MAX_PAUSE_SWEEP_MS, Math.max(1, parts.options.inboxPauseTimeoutMs / 4));
    this.#cancelSweep = parts.clock.every(sweepMs, () => this.#sweepPaused());
  }

  /** A complete message has arrived; `bytes` are those of the frame. */
  received(connection: Connection, frame: Frame, bytes: Uint8Array): void {
    const command = protocolOf(this.#protocols, connection).decode(frame, bytes);
    if (connection.inFlight !== null) {
      this.#enqueue(connection, command);
      return;
    }
    const posted = this.#dispatch.begin(connection, command);
    this.#pressure.holdMessage(connection, command.payload.length + MESSAGE_BYTES);
    this.#dispatch.send(posted);
  }

  /** The call of a connection's event is over, and what it meant is done: the next one follows. */
  onOver(connection: Connection, answered: boolean): void {
    let next: ClientCommand | undefined;
    try {
      if (connection.closeAfterCall !== null) this.#close(connection, connection.closeAfterCall);
      next = this.#mayGoOn(connection, answered) ? this.#next(connection) : undefined;
    } catch (bug) {
      this.onFault(connection, bug);
      return;
    }
    if (next === undefined) this.#rest(connection);
    else this.#dispatch.send(this.#dispatch.begin(connection, next));
  }

  /** A bug in hubwire ended an event's call: the connection's order cannot be kept. */
  onFault(connection: Connection, bug: unknown): void {
    this.#rest(connection);
    this.#report({ kind: "fault", where: "message event", error: bug });
    this.#close(connection, CLOSE.internalError);
  }

  /** Closes a connection whose event is in flight once that event's answer has been delivered. */
  closeAfterCall(connection: Connection, cause: ConnectionEnd): void {
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

  /** Gives up every event in flight or waiting, now and from now on. */
  abandon(): void {
    this.#abandoning = true;
    this.#dispatch.abandon();
  }

  stop(): void {
    this.#cancelSweep();
  }

  #enqueue(connection: Connection, command: ClientCommand): void {
    const { maxInboxMessages, maxInboxBytes } = this.#options;
    connection.inbox ??= new Inbox({ maxMessages: maxInboxMessages, maxBytes: maxInboxBytes }, this.#clock.now());
    connection.inbox.push(command);
    this.#pressure.holdMessage(connection, command.payload.length + MESSAGE_BYTES);
    // Too many bytes in the whole process may just have ended this connection.
    if (connection.socket === null || connection.inbox === null) return;
    // While much waits in the whole process, nothing more is read from a client that has sent ahead.
    if (connection.inbox.paused || !(connection.inbox.isFull || this.#pressure.isFilling)) return;
    connection.inbox.paused = true;
    connection.inbox.progressAt = this.#clock.now();
    this.#paused.add(connection);
    connection.socket.pause();
  }

  /** No call is under way for the connection any more. */
  #rest(connection: Connection): void {
    connection.inFlight = null;
    if (connection.end !== null) this.#pressure.drained(connection);
    this.#discardWaiting(connection);
    if (connection.end !== null && connection.socket === null) this.#onDrained(connection);
  }

  /** Whether the next command may follow: always while open; then until one fails or time is up. */
  #mayGoOn(connection: Connection, answered: boolean): boolean {
    if (connection.isDisowned) return false;
    if (connection.end === null) return true;
    if (!answered || this.#abandoning) return false;
    // Between the decision to close and the close the drain's time has not begun.
    return connection.socket !== null || this.#clock.now() < connection.drainUntil;
  }

  #next(connection: Connection): ClientCommand | undefined {
    const { inbox } = connection;
    if (inbox === null) return undefined;
    const command = inbox.shift();
    inbox.progressAt = this.#clock.now();
    if (inbox.paused && (this.#pressure.isFilling ? inbox.count === 0 : inbox.isRelaxed)) {
      inbox.paused = false;
      this.#paused.delete(connection);
      connection.socket?.resume();
      this.#onResumed(connection);
    }
    if (inbox.count === 0 && !inbox.paused) connection.inbox = null;
    return command;
  }

  #discardWaiting(connection: Connection): void {
    this.#discardQueue(connection);
    this.#pressure.holdMessage(connection, -connection.heldBytes);
  }

  /** Gives up the commands behind the one in flight. */
  #discardQueue(connection: Connection): void {
    const { inbox } = connection;
    if (inbox === null) return;
    connection.inbox = null;
    this.#pressure.holdMessage(connection, -inbox.byteCount - inbox.count * MESSAGE_BYTES);
    if (inbox.count > 0) this.#dispatch.reportDiscarded(connection, inbox.count);
  }

  #sweepPaused(): void {
    const now = this.#clock.now();
    for (const connection of [...this.#paused]) {
      const pausedFor = now - (connection.inbox?.progressAt ?? now);
      if (pausedFor >= this.#options.inboxPauseTimeoutMs) this.#close(connection, CLOSE.inboxFull);
    }
  }
}
