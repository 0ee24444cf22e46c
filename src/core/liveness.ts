import type { Connection } from "./connection.ts";
import type { Clock } from "./ports.ts";

export interface LivenessOptions {
  /** A connection from which nothing came for this long is pinged. */
  readonly pingAfterMs: number;
  /** A pinged connection from which nothing comes for this long is cut. */
  readonly pongTimeoutMs: number;
}

/** Longest tick; a deadline is met at most one tick late. */
const MAX_TICK_MS = 1000;

/**
 * Pings silent connections and cuts those that do not answer.
 *
 *     bucket of tick n ─▶ heard from since? ─yes─▶ bucket of (last heard + pingAfter)
 *                                │no
 *                                ▼
 *                        ping, bucket of (n + pongTimeout) ─▶ heard from since? ─yes─▶ as above
 *                                                                   │no
 *                                                                   ▼
 *                                                               onDead
 *
 * Why not Bun's idleTimeout: every successful send resets it, so a mute peer that is pushed to would never be cut.
 * Cost:   one number written per received message; one tick a second visits a 28th of the connections.
 */
export class Liveness {
  readonly #options: LivenessOptions;
  readonly #clock: Clock;
  readonly #onDead: (connection: Connection) => void;
  #buckets: Set<Connection>[] = [];
  #pingAfterTicks = 1;
  #pongTimeoutTicks = 1;
  #cancel: () => void = () => {};
  #tick = 0;

  /** The options may change later; `reconfigure` follows. */
  constructor(options: LivenessOptions, clock: Clock, onDead: (connection: Connection) => void) {
    this.#options = options;
    this.#clock = clock;
    this.#onDead = onDead;
    this.reconfigure();
  }

  /** The options have changed: everybody counts as just heard from. */
  reconfigure(): void {
    this.#cancel();
    const { pingAfterMs, pongTimeoutMs } = this.#options;
    const tickMs = Math.max(1, Math.min(MAX_TICK_MS, pingAfterMs / 4, pongTimeoutMs / 4));
    this.#pingAfterTicks = Math.ceil(pingAfterMs / tickMs);
    this.#pongTimeoutTicks = Math.ceil(pongTimeoutMs / tickMs);
    const longest = Math.max(this.#pingAfterTicks, this.#pongTimeoutTicks);
    const connections = this.#buckets.flatMap((bucket) => [...bucket]);
    this.#buckets = Array.from({ length: longest + 1 }, () => new Set());
    for (const connection of connections) this.add(connection);
    this.#cancel = this.#clock.every(tickMs, () => this.#turn());
  }

  add(connection: Connection): void {
    this.heard(connection);
    this.#place(connection, this.#pingAfterTicks);
  }

  /** To be called for every message and pong that arrives. */
  heard(connection: Connection): void {
    connection.heardAtTick = this.#tick;
    connection.pingedAtTick = 0;
  }

  remove(connection: Connection): void {
    this.#buckets[connection.wheelBucket]?.delete(connection);
    connection.wheelBucket = -1;
  }

  stop(): void {
    this.#cancel();
  }

  #place(connection: Connection, ticksFromNow: number): void {
    const bucket = (this.#tick + Math.max(1, ticksFromNow)) % this.#buckets.length;
    connection.wheelBucket = bucket;
    this.#buckets[bucket]?.add(connection);
  }

  #turn(): void {
    this.#tick++;
    const due = this.#buckets[this.#tick % this.#buckets.length];
    if (due === undefined || due.size === 0) return;
    const visited = [...due];
    due.clear();
    for (const connection of visited) this.#visit(connection);
  }

  #visit(connection: Connection): void {
    // While reading is paused no pong can be seen; the inbox has a deadline of its own.
    if (connection.inbox?.paused === true) this.heard(connection);
    const silentTicks = this.#tick - connection.heardAtTick;
    if (connection.pingedAtTick !== 0) {
      connection.wheelBucket = -1;
      this.#onDead(connection);
    } else if (silentTicks < this.#pingAfterTicks) {
      this.#place(connection, this.#pingAfterTicks - silentTicks);
    } else {
      connection.pingedAtTick = this.#tick;
      connection.socket?.ping();
      this.#place(connection, this.#pongTimeoutTicks);
    }
  }
}
