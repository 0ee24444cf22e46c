import { CLOSE, type ConnectionEnd } from "../protocol/close-causes.ts";
import type { Connection } from "./connection.ts";
import { MESSAGE_BYTES } from "./inbox.ts";
import { Outboxes } from "./outboxes.ts";
import type { Clock } from "./ports/clock.ts";
import type { Registry } from "./registry.ts";
import { Shortage } from "./shortage.ts";
import { Unanswered } from "./unanswered.ts";

export interface PressureOptions {
  /** The bytes that may wait for one client that does not read. */
  readonly maxOutboxBytes: number;
  /** How long a client for whom bytes wait may take nothing of them. */
  readonly outboxStallTimeoutMs: number;
  /** The bytes that may wait in the whole process: messages in flight and in inboxes, outboxes, bodies of REST calls, answers. */
  readonly maxBufferedBytes: number;
}

/** Past this share of `maxBufferedBytes` no new clients are let in. */
const HIGH_SHARE = 0.8;

/**
 * Past this share clients that have sent ahead are read no further. Messages of many of them may come in one turn of the event loop,
 * up to half a megabyte of each: it must fit below the bound.
 */
const FILLING_SHARE = 0.5;

/** Bun's buffer for a client doubles when it grows, so it may take twice what it holds. */
export const OUTBOX_FACTOR = 2;

/** Past 80 %, a client of whose messages none was answered for this long is not waited for. */
const STUCK_MS = 2000;

/** A client is not closed for a message in flight that is smaller: its end would free next to nothing. */
const MIN_STUCK_BYTES = 1024;

/** How many looks there are at least while one client's bound fills up. */
const LOOKS_PER_BOUND = 4;

/** The same for the whole process's: finer than the fifth that lies between no new clients and closing some. */
const LOOKS_PER_TOTAL = 20;

/** How often the sockets are looked at while something may wait. */
const CHECK_INTERVAL_MS = 500;

/** The bound on the process's memory. */
export interface MemoryBound {
  readonly isOver: boolean;
  /** Bytes have come into the process and wait in it. */
  arrived(byteCount: number): void;
}

/** One open connection and what it holds. */
interface Holder {
  readonly connection: Connection;
  readonly outboxBytes: number;
}

/** Messages may have been let go since the holder was found. */
function bytesOf({ connection, outboxBytes }: Holder): number {
  return outboxBytes * OUTBOX_FACTOR + connection.heldBytes;
}

/**
 * Bounds what waits for clients and for the upstream.
 *
 *     a client's outbox past maxOutboxBytes      ─▶ it is cut: slow consumer
 *     no progress for outboxStallTimeoutMs       ─▶ it is cut: slow consumer
 *     the process past half of maxBufferedBytes  ─▶ clients with messages that wait are read no further (`isFilling`); messages in
 *                                                   flight that were written and not answered for 2 s let their payload go
 *     past 80 % of it                            ─▶ clients that read too slowly are cut, the largest outboxes first; clients of
 *                                                   whose messages none was answered for 2 s are closed, and what
 *                                                   they sent is discarded
 *     still past 80 %                            ─▶ no new upgrades, no messages through the REST API
 *     for 5 s                                    ─▶ those whose end frees most are closed until it is not, and what they sent is
 *                                                   discarded: no client keeps others out for longer, even if it reads well
 *     the process past maxBufferedBytes          ─▶ the largest holders are closed until it is not
 *     still past it                              ─▶ what closed connections have not posted yet is discarded
 *
 * The messages of a connection that has closed are still posted (PROTOCOL.md, "message"), so closing frees none of them: they
 * do not count for closing more. What Bun has of a message that is not whole yet
 * cannot be seen here; `MemoryWatch` bounds it.
 *
 * Why it looks instead of being told: a fan-out is one call for thousands of sockets, and Bun drops for a full one without
 * saying for which. So Bun is given room beyond this bound, and the sockets are looked at before that room can be used up:
 * every half second, each time a quarter of `maxOutboxBytes` was sent, and each time a twentieth of `maxBufferedBytes` was,
 * counted for every receiver. A look in the middle of a turn may miss what was published in it, since small messages reach
 * the sockets at its end; so the half second's look is never left out for it. What `ClientSocket.sendSoon` keeps for the end of a
 * turn is not seen either: a quarter of `maxOutboxBytes` at most, for which that room is enough.
 * Cost:   about 0.1 µs for each connection and look; none while nothing was sent and nothing waits.
 * Source: decisions 0024 and 0032.
 */
export class Pressure {
  readonly #options: PressureOptions;
  readonly #registry: Registry;
  readonly #clock: Clock;
  readonly #memory: MemoryBound;
  readonly #close: (connection: Connection, cause: ConnectionEnd) => void;
  readonly #cancel: () => void;
  readonly #outboxes = new Outboxes();
  readonly #unanswered = new Unanswered();
  /** Closed connections whose messages are still posted, and how to give up those that wait. */
  readonly #draining = new Map<Connection, () => void>();
  #movedSinceCheck = 0;
  #movedToAllSinceCheck = 0;
  #movedSinceTick = false;
  #bodyBytes = 0;
  /** Of messages: those of connections that have closed too. */
  #messageBytes = 0;
  #checking = false;
  /** Whether all those that the last look found to read too slowly have been cut. */
  #areSlowCut = false;
  readonly #shortage: Shortage;
  /** Whether it has been past 80 % for too long, at the last tick. */
  #isHighForLong = false;

  constructor(parts: {
    options: PressureOptions;
    registry: Registry;
    clock: Clock;
    memory: MemoryBound;
    close: (connection: Connection, cause: ConnectionEnd) => void;
  }) {
    this.#options = parts.options;
    this.#registry = parts.registry;
    this.#clock = parts.clock;
    this.#memory = parts.memory;
    this.#close = parts.close;
    this.#shortage = new Shortage(parts.clock.now());
    this.#cancel = parts.clock.every(CHECK_INTERVAL_MS, () => {
      const holdsNothing = this.#outboxes.bytes === 0 && this.#bodyBytes === 0 && !this.isFilling;
      const isIdle = !this.#movedSinceTick && holdsNothing;
      this.#movedSinceTick = false;
      this.#isHighForLong = this.#shortage.see(this.isHigh, this.#clock.now());
      if (!isIdle) this.#check();
    });
  }

  /** Whether so much waits that new clients and messages through the REST API must be refused. */
  get isHigh(): boolean {
    return this.#heldBytes > this.#options.maxBufferedBytes * HIGH_SHARE;
  }

  /** Whether so much waits that clients with messages that wait are read no further. */
  get isFilling(): boolean {
    return this.#heldBytes > this.#options.maxBufferedBytes * FILLING_SHARE;
  }

  /**
   * Why new clients and messages through the REST API cannot be taken, as a sentence; null where they can. Ends clients that read
   * too slowly first.
   */
  shortage(): string | null {
    if (this.isHigh) this.#relieve();
    if (this.isHigh) return "more than 80 % of limits.maxBufferedBytes is in use";
    return this.#memory.isOver ? "the process has grown by more than 1.5 times limits.maxBufferedBytes" : null;
  }

  /** Whether so many bytes more may wait. */
  fits(byteCount: number): boolean {
    return this.#heldBytes + byteCount <= this.#options.maxBufferedBytes;
  }

  /** To be called for what is sent to clients, and for what they make hubwire send; once for a whole fan-out. */
  moved(byteCount: number, receivers = 1): void {
    // An empty message has a frame's head too, and must be noticed.
    this.#movedSinceCheck += byteCount + 1;
    this.#movedToAllSinceCheck += (byteCount + 1) * receivers;
    this.#movedSinceTick = true;
    const { maxOutboxBytes, maxBufferedBytes } = this.#options;
    const mayFillOne = this.#movedSinceCheck > maxOutboxBytes / LOOKS_PER_BOUND;
    if (mayFillOne || this.#movedToAllSinceCheck > maxBufferedBytes / LOOKS_PER_TOTAL) this.#check();
  }

  /** Counts bytes of bodies and answers while they are on their way; negative when they are let go. */
  hold(byteCount: number): void {
    this.#bodyBytes += byteCount;
    if (byteCount > 0) this.#memory.arrived(byteCount);
  }

  /** Counts bytes of a connection's messages from their arrival until they are posted; negative when they are let go. */
  holdMessage(connection: Connection, byteCount: number): void {
    connection.heldBytes += byteCount;
    this.#messageBytes += byteCount;
    if (byteCount <= 0) return;
    this.#memory.arrived(byteCount);
    this.moved(byteCount);
  }

  /** A connection has closed and its messages are still posted; `discard` gives up those that wait. `drained` follows. */
  draining(connection: Connection, discard: () => void): void {
    this.#draining.set(connection, discard);
  }

  drained(connection: Connection): void {
    this.#draining.delete(connection);
  }

  stop(): void {
    this.#cancel();
  }

  get #heldBytes(): number {
    return this.#outboxes.bytes * OUTBOX_FACTOR + this.#messageBytes + this.#bodyBytes;
  }

  #check(): void {
    // Closing a connection may move bytes, and come back here.
    if (this.#checking) return;
    this.#checking = true;
    try {
      this.#movedSinceCheck = 0;
      this.#movedToAllSinceCheck = 0;
      this.#areSlowCut = false;
      const holders = this.#closeSlow();
      if (this.isHigh) this.#relieve();
      this.#relieveOfMessages(holders);
      if (this.isHigh && this.#isHighForLong) this.#endLargest(holders);
      this.#closeLargest(holders);
      if (!this.fits(0)) this.#discardDraining();
    } finally {
      this.#checking = false;
    }
  }

  /** Cuts clients whose outbox is past its bound or stalled, and counts what the others hold. */
  #closeSlow(): Holder[] {
    const holders: Holder[] = [];
    const { maxOutboxBytes, outboxStallTimeoutMs } = this.#options;
    const now = this.#clock.now();
    this.#outboxes.begin();
    for (const connection of this.#registry.values()) {
      const { socket } = connection;
      const outboxBytes = socket?.waitingBytes ?? 0;
      if (outboxBytes === 0 && connection.heldBytes === 0) continue;
      if (outboxBytes > maxOutboxBytes) {
        this.#cut(connection);
        continue;
      }
      if (socket !== null && outboxBytes > 0) {
        const seen = { bytes: outboxBytes, now, stallTimeoutMs: outboxStallTimeoutMs };
        if (this.#outboxes.see(connection, socket, seen).stalledMs >= outboxStallTimeoutMs) {
          this.#cut(connection);
          continue;
        }
      }
      holders.push({ connection, outboxBytes });
    }
    this.#outboxes.end();
    return holders;
  }

  /** Cuts clients that read too slowly, the largest outboxes first, until less than 80 % is in use. */
  #relieve(): void {
    // Clients that read too slowly are found by a look. Until the next one there are no others, however many requests ask.
    if (this.#areSlowCut) return;
    for (const { connection } of this.#outboxes.tooSlow()) {
      if (!this.isHigh) return;
      this.#cut(connection);
    }
    this.#areSlowCut = true;
  }

  /** Lets go of messages that wait for an upstream that does not answer. */
  #relieveOfMessages(holders: readonly Holder[]): void {
    if (!this.isFilling) {
      this.#unanswered.forget();
      return;
    }
    const now = this.#clock.now();
    const connections = [...holders.map(({ connection }) => connection), ...this.#draining.keys()];
    this.#unanswered.look(connections, now);
    const candidates = connections.filter((connection) => !this.fits(0) || this.#isStuck(connection, now));
    const largestFirst = candidates.sort((one, other) => other.heldBytes - one.heldBytes);
    this.#letPayloadsGo(largestFirst, now);
    this.#endStuck(largestFirst, now);
  }

  /** Whether none of its messages was answered for too long. */
  #isStuck(connection: Connection, now: number): boolean {
    const { inbox } = connection;
    return (
      (inbox !== null && now - inbox.progressAt >= STUCK_MS) || this.#unanswered.ageMs(connection, now) >= STUCK_MS
    );
  }

  /** A message that was written whole needs its payload no more, unless its socket should turn out to have died before. */
  #letPayloadsGo(largestFirst: readonly Connection[], now: number): void {
    for (const connection of largestFirst) {
      if (!this.isFilling) return;
      if (this.fits(0) && this.#unanswered.ageMs(connection, now) < STUCK_MS) continue;
      const byteCount = connection.inFlight?.letPayloadGo() ?? 0;
      if (byteCount > 0) this.holdMessage(connection, -byteCount);
    }
  }

  /** Closes clients whose messages wait for an upstream that does not answer, and discards what waits of them. */
  #endStuck(largestFirst: readonly Connection[], now: number): void {
    for (const connection of largestFirst) {
      if (!this.isHigh) return;
      const { inbox, inFlight } = connection;
      const isInboxStuck = inbox !== null && now - inbox.progressAt >= STUCK_MS;
      // One that was written whole has let its payload go.
      const isUnsent = inFlight !== null && inFlight.payload.length >= MIN_STUCK_BYTES;
      const isCallStuck = isUnsent && this.#unanswered.ageMs(connection, now) >= STUCK_MS;
      if (!isInboxStuck && !isCallStuck) continue;
      this.#end(connection, CLOSE.inboxFull);
      if (isCallStuck) inFlight.giveUp();
    }
  }

  /** Closes those whose end frees most, and discards what waits of them, until less than 80 % is in use. */
  #endLargest(holders: readonly Holder[]): void {
    const gone = [...this.#draining.keys()].map((connection) => ({ connection, outboxBytes: 0 }));
    const freeing = [...holders, ...gone].map(({ connection, outboxBytes }) => {
      const forClient = outboxBytes * OUTBOX_FACTOR;
      const { inbox } = connection;
      const fromClient = inbox === null ? 0 : inbox.byteCount + inbox.count * MESSAGE_BYTES;
      return { connection, forClient, fromClient, bytes: forClient + fromClient };
    });
    freeing.sort((one, other) => other.bytes - one.bytes);
    for (const { connection, forClient, fromClient, bytes } of freeing) {
      if (bytes === 0 || !this.isHigh) return;
      this.#end(connection, forClient >= fromClient ? CLOSE.slowConsumer : CLOSE.inboxFull);
    }
  }

  /** Closes a connection, where it is not closed yet, and discards what waits of it. */
  #end(connection: Connection, cause: ConnectionEnd): void {
    this.#outboxes.delete(connection);
    this.#close(connection, cause);
    this.#draining.get(connection)?.();
  }

  /** The largest first, since one loss is better than many. */
  #discardDraining(): void {
    const waiting = [...this.#draining].filter(([{ inbox }]) => inbox !== null);
    const largest = waiting.sort(([one], [other]) => other.heldBytes - one.heldBytes);
    for (const [, discard] of largest) {
      if (this.fits(0)) return;
      discard();
    }
  }

  #cut(connection: Connection): void {
    this.#outboxes.delete(connection);
    this.#close(connection, CLOSE.slowConsumer);
  }

  #closeLargest(holders: Holder[]): void {
    let openBytes = this.#bodyBytes;
    const open = holders.filter(({ connection }) => connection.socket !== null);
    for (const holder of open) openBytes += bytesOf(holder);
    const { maxBufferedBytes } = this.#options;
    if (openBytes <= maxBufferedBytes) return;
    open.sort((one, other) => bytesOf(other) - bytesOf(one));
    for (const holder of open) {
      if (openBytes <= maxBufferedBytes) return;
      const { connection, outboxBytes } = holder;
      const bytes = bytesOf(holder);
      openBytes -= bytes;
      this.#outboxes.delete(connection);
      this.#close(connection, outboxBytes * OUTBOX_FACTOR * 2 >= bytes ? CLOSE.slowConsumer : CLOSE.inboxFull);
    }
  }
}
