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

/** Usual tick. What it brings is done in one go, and messages wait meanwhile: 150 of 15,000 connections, a millisecond. */
const TICK_MS = 100;

/** So many buckets at most for each of the two times, so that an hour does not take 36,000. */
const MAX_BUCKETS = 1000;

/** A bucket with fewer is never crowded. */
const MIN_CROWD = 64;

/** A bucket with so many times its share of all connections is crowded. */
const CROWD_FACTOR = 3;

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
 * Those that came in one burst, as after a restart, would be pinged in one go for ever after. Whoever finds his bucket crowded
 * takes an earlier one, and is pinged up to half of pingAfter sooner: the burst is spread in one round, and stays so.
 *
 * Why not Bun's idleTimeout: every successful send resets it, so a mute peer that is pushed to would never be cut.
 * Cost:   one number written per received message; one tick in 100 ms visits a 280th of the connections.
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
  #count = 0;

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
    const usualMs = Math.max(TICK_MS, Math.max(pingAfterMs, pongTimeoutMs) / MAX_BUCKETS);
    const tickMs = Math.max(1, Math.min(MAX_TICK_MS, usualMs, pingAfterMs / 4, pongTimeoutMs / 4));
    this.#pingAfterTicks = Math.ceil(pingAfterMs / tickMs);
    this.#pongTimeoutTicks = Math.ceil(pongTimeoutMs / tickMs);
    const longest = Math.max(this.#pingAfterTicks, this.#pongTimeoutTicks);
    const connections = this.#buckets.flatMap((bucket) => [...bucket]);
    this.#buckets = Array.from({ length: longest + 1 }, () => new Set());
    this.#count = 0;
    for (const connection of connections) this.add(connection);
    this.#cancel = this.#clock.every(tickMs, () => this.#turn());
  }

  add(connection: Connection): void {
    this.#count++;
    this.heard(connection);
    this.#placeForPing(connection);
  }

  /** To be called for every message and pong that arrives. */
  heard(connection: Connection): void {
    connection.heardAtTick = this.#tick;
    connection.pingedAtTick = 0;
  }

  remove(connection: Connection): void {
    if (this.#buckets[connection.wheelBucket]?.delete(connection) === true) this.#count--;
    connection.wheelBucket = -1;
  }

  stop(): void {
    this.#cancel();
  }

  /** Places it where its ping is due, or before that, where fewer are. */
  #placeForPing(connection: Connection): void {
    const dueInTicks = this.#pingAfterTicks - (this.#tick - connection.heardAtTick);
    const earliest = Math.max(1, dueInTicks - Math.floor(this.#pingAfterTicks / 2));
    const crowd = Math.max(MIN_CROWD, (CROWD_FACTOR * this.#count) / this.#pingAfterTicks);
    let ticks = dueInTicks;
    while (ticks > earliest && this.#bucketIn(ticks).size >= crowd) ticks--;
    // Counts as heard from so much earlier, and as silent for long enough when its turn comes.
    connection.heardAtTick -= dueInTicks - ticks;
    this.#place(connection, ticks);
  }

  #place(connection: Connection, ticksFromNow: number): void {
    const ticks = Math.max(1, ticksFromNow);
    connection.wheelBucket = (this.#tick + ticks) % this.#buckets.length;
    this.#bucketIn(ticks).add(connection);
  }

  #bucketIn(ticks: number): Set<Connection> {
    return this.#buckets[(this.#tick + ticks) % this.#buckets.length] as Set<Connection>;
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
      this.#count--;
      this.#onDead(connection);
    } else if (silentTicks < this.#pingAfterTicks) {
      this.#placeForPing(connection);
    } else {
      connection.pingedAtTick = this.#tick;
      connection.socket?.ping();
      this.#place(connection, this.#pongTimeoutTicks);
    }
  }
}
