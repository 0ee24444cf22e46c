import { CLOSE, type CloseCause } from "../protocol/close-causes.ts";
import type { Connection } from "./connection.ts";
import type { Clock } from "./ports.ts";
import type { Registry } from "./registry.ts";

export interface PressureOptions {
  /** What may wait for one client that does not read. */
  readonly maxOutboxBytes: number;
  /** What may wait in the whole process: messages in flight and in inboxes, outboxes, bodies of REST calls, answers. */
  readonly maxBufferedBytes: number;
}

/** From this share of `maxBufferedBytes` on nobody new is let in. */
const HIGH_SHARE = 0.8;

/** How many looks there are at least while one client's bound fills up. */
const LOOKS_PER_BOUND = 4;

/** The same for the whole process's: finer than the fifth that lies between no new clients and closing some. */
const LOOKS_PER_TOTAL = 20;

/** How often the sockets are looked at while something may wait. */
const CHECK_INTERVAL_MS = 500;

/** One open connection and what it holds. */
interface Holder {
  readonly connection: Connection;
  readonly outboxBytes: number;
  readonly bytes: number;
}

/**
 * Bounds what waits for clients and for the upstream.
 *
 *     a client's outbox past maxOutboxBytes      ─▶ it is cut: slow consumer
 *     the process past 80 % of maxBufferedBytes  ─▶ no new upgrades, no messages through the REST API
 *     the process past maxBufferedBytes          ─▶ the largest holders are closed until it is not
 *
 * The messages of a connection that has closed are still posted (spec section 5.2), so closing frees none of them: they count
 * for the 80 %, not for closing more. `inboxDrainTimeoutMs` ends them. What Bun has of a message that is not whole yet cannot
 * be seen; it is up to `maxMessageBytes` for each connection.
 *
 * Why it looks instead of being told: a fan-out is one call for thousands of sockets, and Bun drops for a full one without
 * saying for which. So Bun is given room beyond our bound, and the sockets are looked at before that room can be used up:
 * every half second, each time a quarter of `maxOutboxBytes` was sent, and each time a twentieth of `maxBufferedBytes` was,
 * counted for every receiver. A look in the middle of a turn may miss what was published in it, since small messages reach
 * the sockets at its end; so the half second's look is never left out for it. What `ClientSocket.sendSoon` keeps for the end of a
 * turn is not seen either: a quarter of `maxOutboxBytes` at most, for which that room is enough.
 * Cost:   about 0.1 µs for each connection and look; none while nothing was sent and nothing waits.
 */
export class Pressure {
  readonly #options: PressureOptions;
  readonly #registry: Registry;
  readonly #close: (connection: Connection, cause: CloseCause) => void;
  readonly #cancel: () => void;
  #movedSinceCheck = 0;
  #movedToAllSinceCheck = 0;
  #movedSinceTick = false;
  #bodyBytes = 0;
  /** Of messages: those of connections that have closed too. */
  #messageBytes = 0;
  /** What waited for clients at the last look. */
  #outboxBytes = 0;
  #checking = false;

  constructor(parts: {
    options: PressureOptions;
    registry: Registry;
    clock: Clock;
    close: (connection: Connection, cause: CloseCause) => void;
  }) {
    this.#options = parts.options;
    this.#registry = parts.registry;
    this.#close = parts.close;
    this.#cancel = parts.clock.every(CHECK_INTERVAL_MS, () => {
      const isIdle = !this.#movedSinceTick && this.#outboxBytes === 0 && this.#bodyBytes === 0;
      this.#movedSinceTick = false;
      if (!isIdle) this.#check();
    });
  }

  /** Whether new clients and messages through the REST API must be refused. */
  get isHigh(): boolean {
    const heldBytes = this.#outboxBytes + this.#messageBytes + this.#bodyBytes;
    return heldBytes > this.#options.maxBufferedBytes * HIGH_SHARE;
  }

  /** To be called for what is sent to clients; once for a whole fan-out. */
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
  }

  /** Counts bytes of a connection's messages from their arrival until they are posted; negative when they are let go. */
  holdMessage(connection: Connection, byteCount: number): void {
    connection.heldBytes += byteCount;
    this.#messageBytes += byteCount;
    if (byteCount >= 0) this.moved(byteCount);
  }

  stop(): void {
    this.#cancel();
  }

  #check(): void {
    // Closing a connection may move bytes, and come back here.
    if (this.#checking) return;
    this.#checking = true;
    try {
      this.#movedSinceCheck = 0;
      this.#movedToAllSinceCheck = 0;
      this.#closeLargest(this.#closeSlow());
    } finally {
      this.#checking = false;
    }
  }

  /** Cuts those whose outbox is past its bound, and counts what the others hold. */
  #closeSlow(): Holder[] {
    const holders: Holder[] = [];
    this.#outboxBytes = 0;
    for (const connection of this.#registry.all()) {
      const outboxBytes = connection.socket?.waitingBytes ?? 0;
      const bytes = outboxBytes + connection.heldBytes;
      if (bytes === 0) continue;
      if (outboxBytes > this.#options.maxOutboxBytes) {
        this.#close(connection, CLOSE.slowConsumer);
        continue;
      }
      holders.push({ connection, outboxBytes, bytes });
      this.#outboxBytes += outboxBytes;
    }
    return holders;
  }

  #closeLargest(holders: Holder[]): void {
    let openBytes = this.#bodyBytes;
    for (const { bytes } of holders) openBytes += bytes;
    const { maxBufferedBytes } = this.#options;
    if (openBytes <= maxBufferedBytes) return;
    holders.sort((one, other) => other.bytes - one.bytes);
    for (const { connection, outboxBytes, bytes } of holders) {
      if (openBytes <= maxBufferedBytes) return;
      openBytes -= bytes;
      this.#outboxBytes -= outboxBytes;
      this.#close(connection, outboxBytes * 2 >= bytes ? CLOSE.slowConsumer : CLOSE.inboxFull);
    }
  }
}
