import type { Connection } from "./connection.ts";
import type { Clock } from "./ports/clock.ts";
import { TimingWheel } from "./timing-wheel.ts";
import { isProgress, Progress, TrafficMeter } from "./traffic.ts";

export interface LivenessOptions {
  /** A connection from which nothing came for this long is pinged; after half of it already, where many are due at one time. */
  readonly pingAfterMs: number;
  /** A pinged connection from which nothing comes for this long is cut, unless bytes move on it. */
  readonly pongTimeoutMs: number;
  /** How long a client may take nothing of what waits in front of its ping. */
  readonly outboxStallTimeoutMs: number;
}

/** Longest tick; a deadline is met at most one tick late. */
const MAX_TICK_MS = 1000;

/** Usual tick. Its work is done in one go, and messages wait meanwhile: 225 pings at 15,000 connections, 1.5 ms. */
const TICK_MS = 100;

/** Ticks are longer where the longer of the two times would take more, though no longer than the bounds above and below. */
const USUAL_BUCKETS = 1000;

/**
 * An interval is a little late each time, by what the turn before it took: ticks that were missed are made up for. So many at
 * most: a process that was held up for longer has not read the pongs yet.
 */
const MAX_TICKS_AT_ONCE = 3;

/** A bucket with fewer is never crowded. */
const MIN_CROWD = 64;

/** A bucket with so many times its share of all connections is crowded. */
const CROWD_FACTOR = 3;

/** A pinged client that has not answered yet, since it was last looked at. */
interface Suspect {
  readonly meter: TrafficMeter;
  /** Of the bytes that it takes. */
  readonly progress: Progress;
  sinceTick: number;
  /** Whether the ping waited behind bytes that the client had not taken. */
  wasBacklogged: boolean;
}

/**
 * Pings silent connections and cuts those that do not answer.
 *
 *     bucket of tick n ─▶ heard from since? ─yes─▶ bucket of (last heard + pingAfter)
 *                                │no
 *                                ▼
 *                        ping ─▶ half of pongTimeout ─▶ the other half ─▶ heard from since? ─yes─▶ as above
 *                                 traffic is noted                               │no
 *                                                                                ▼
 *                                   half of pongTimeout ◀─yes─ has traffic moved since the last look?
 *                                                                                │no
 *                                                                                ▼
 *                                                                             onDead
 *
 * A client cannot answer in the middle of a frame that it is sending, nor before it has read what is in front of the ping. So
 * bytes of a frame that arrive are a sign of life, and while the ping waits behind a backlog, bytes that the client takes are: the
 * time of the pong begins when the ping has left. A client's system takes bytes in steps of up to a sixteenth of its receive
 * buffer, so a slow reader may seem to take nothing for a while: outboxStallTimeout bounds that.
 *
 * Clients that came in one burst, as after a restart, would be pinged together from then on. A client that finds its bucket crowded
 * takes an earlier one, and is pinged up to half of pingAfter sooner: the burst is spread in one round, and stays so while it is
 * silent.
 *
 * Why not Bun's idleTimeout: every successful send resets it, so a silent peer that gets messages would never be cut.
 * Cost:   one number written per received message; one tick in 100 ms visits a hundredth of the connections. A system call or two
 *         for a client that has not answered within half of pongTimeout.
 * Source: decision 0024.
 */
export class Liveness {
  readonly #options: LivenessOptions;
  readonly #clock: Clock;
  readonly #onDead: (connection: Connection) => void;
  #wheel = new TimingWheel(1);
  #pingAfterTicks = 1;
  #pongTimeoutTicks = 1;
  #cancel: () => void = () => {};
  #tick = 0;
  #tickMs = MAX_TICK_MS;
  readonly #suspects = new Map<Connection, Suspect>();
  /** Up to when ticks have been counted. */
  #tickedAtMs = 0;

  /** The options may change later; `reconfigure` follows. */
  constructor(options: LivenessOptions, clock: Clock, onDead: (connection: Connection) => void) {
    this.#options = options;
    this.#clock = clock;
    this.#onDead = onDead;
    this.reconfigure();
  }

  /** The options have changed: every connection counts as just heard from. */
  reconfigure(): void {
    this.#cancel();
    const { pingAfterMs, pongTimeoutMs } = this.#options;
    const usualMs = Math.max(TICK_MS, Math.max(pingAfterMs, pongTimeoutMs) / USUAL_BUCKETS);
    const tickMs = Math.max(1, Math.min(MAX_TICK_MS, usualMs, pingAfterMs / 4, pongTimeoutMs / 4));
    this.#pingAfterTicks = Math.ceil(pingAfterMs / tickMs);
    this.#pongTimeoutTicks = Math.ceil(pongTimeoutMs / tickMs);
    const longest = Math.max(this.#pingAfterTicks, this.#pongTimeoutTicks);
    const connections = this.#wheel.takeAll();
    this.#wheel = new TimingWheel(longest);
    this.#suspects.clear();
    for (const connection of connections) this.add(connection);
    this.#tickMs = tickMs;
    this.#tickedAtMs = this.#clock.now();
    this.#cancel = this.#clock.every(tickMs, () => this.#catchUp());
  }

  /** Counts the ticks. */
  get tick(): number {
    return this.#tick;
  }

  add(connection: Connection): void {
    this.heard(connection);
    connection.pingedAtTick = 0;
    this.#placeForPing(connection);
  }

  /** To be called for every message and pong that arrives. */
  heard(connection: Connection): void {
    connection.heardAtTick = this.#tick;
  }

  /** Whether it has been pinged and not been heard from since. */
  isPinged({ pingedAtTick, heardAtTick }: Connection): boolean {
    return pingedAtTick !== 0 && pingedAtTick > heardAtTick;
  }

  remove(connection: Connection): void {
    this.#wheel.remove(connection);
    this.#suspects.delete(connection);
  }

  stop(): void {
    this.#cancel();
  }

  /** Places it where its ping is due, or before that, where fewer are. */
  #placeForPing(connection: Connection): void {
    const dueInTicks = this.#pingAfterTicks - (this.#tick - connection.heardAtTick);
    // Half of the buckets, each with three times its share, hold one and a half times all connections: one of them has room.
    const crowd = Math.max(MIN_CROWD, (CROWD_FACTOR * this.#wheel.size) / this.#pingAfterTicks);
    let ticks = dueInTicks;
    while (ticks > 1 && this.#wheel.sizeAt(this.#tick + ticks) >= crowd) ticks--;
    // Counts as heard from so much earlier, and as silent for long enough when its turn comes.
    connection.heardAtTick -= dueInTicks - ticks;
    this.#place(connection, ticks);
  }

  #place(connection: Connection, ticksFromNow: number): void {
    this.#wheel.place(connection, this.#tick + Math.max(1, ticksFromNow));
  }

  #catchUp(): void {
    const now = this.#clock.now();
    const missed = Math.round((now - this.#tickedAtMs) / this.#tickMs);
    if (missed > MAX_TICKS_AT_ONCE) this.#tickedAtMs = now - this.#tickMs;
    for (let ticks = missed > MAX_TICKS_AT_ONCE ? 1 : missed; ticks > 0; ticks--) {
      this.#tickedAtMs += this.#tickMs;
      this.#turn();
    }
  }

  #turn(): void {
    this.#tick++;
    try {
      this.#visitDue();
    } finally {
      // A failure in one must not affect the others, which would never be looked at again.
      for (let due = this.#takeDue(); due !== null; due = this.#takeDue()) this.#place(due, 1);
    }
  }

  #visitDue(): void {
    for (let due = this.#takeDue(); due !== null; due = this.#takeDue()) this.#visit(due);
  }

  #takeDue(): Connection | null {
    return this.#wheel.takeDue(this.#tick);
  }

  #visit(connection: Connection): void {
    // While reading is paused no pong can be seen; the inbox has a deadline of its own.
    if (connection.inbox?.paused === true) this.heard(connection);
    const pongTicksLeft = connection.pingedAtTick + this.#pongTimeoutTicks - this.#tick;
    if (this.isPinged(connection)) this.#visitPinged(connection);
    // Its next ping is due from the end of the pong's time on, as if it had not been looked at meanwhile: that keeps a burst spread.
    else if (connection.pingedAtTick !== 0 && pongTicksLeft > 0) this.#place(connection, pongTicksLeft);
    else this.#visitHeard(connection);
  }

  #visitHeard(connection: Connection): void {
    connection.pingedAtTick = 0;
    this.#suspects.delete(connection);
    if (this.#tick - connection.heardAtTick < this.#pingAfterTicks) this.#placeForPing(connection);
    else this.#ping(connection);
  }

  #ping(connection: Connection): void {
    connection.pingedAtTick = this.#tick;
    // A ping behind a backlog is measured from the start: the backlog may be gone at the next look, and the pong not due yet.
    if ((connection.socket?.waitingBytes ?? 0) > 0) this.#suspect(connection);
    else this.#suspects.delete(connection);
    connection.socket?.ping();
    this.#place(connection, Math.ceil(this.#pongTimeoutTicks / 2));
  }

  /** No answer yet. */
  #visitPinged(connection: Connection): void {
    const suspect = this.#suspects.get(connection) ?? this.#suspect(connection);
    if (this.#hasMoved(connection, suspect)) connection.pingedAtTick = this.#tick;
    const leftTicks = this.#pongTimeoutTicks - (this.#tick - connection.pingedAtTick);
    if (leftTicks > 0) {
      this.#place(connection, Math.min(leftTicks, Math.ceil(this.#pongTimeoutTicks / 2)));
      return;
    }
    this.#suspects.delete(connection);
    this.#onDead(connection);
  }

  #suspect(connection: Connection): Suspect {
    const progress = new Progress(0, this.#clock.now());
    const suspect: Suspect = { meter: new TrafficMeter(), progress, sinceTick: this.#tick, wasBacklogged: false };
    this.#suspects.set(connection, suspect);
    this.#look(connection, suspect);
    return suspect;
  }

  /** Whether bytes have moved since the last look that say that the client lives. */
  #hasMoved(connection: Connection, suspect: Suspect): boolean {
    const { meter, progress, sinceTick, wasBacklogged } = suspect;
    const { receivedBytes } = meter;
    this.#look(connection, suspect);
    const durationMs = (this.#tick - sinceTick) * this.#tickMs;
    if (isProgress(meter.receivedBytes - receivedBytes, durationMs)) return true;
    const stalledMs = progress.stalledMs(meter.deliveredBytes, this.#clock.now());
    return wasBacklogged && stalledMs < this.#options.outboxStallTimeoutMs;
  }

  #look({ socket }: Connection, suspect: Suspect): void {
    if (socket !== null) suspect.meter.look(socket);
    suspect.sinceTick = this.#tick;
    suspect.wasBacklogged = suspect.meter.isBacklogged;
  }
}
