import type { Connection } from "./connection.ts";

/**
 * Connections by the tick at which each is due: a ring of lists, one for each tick to come.
 *
 * Shape: a list runs through `wheelBefore` and `wheelBehind` of its connections. A set for each tick would leave garbage with each
 *        ping, which stays until the next collection: 1.8 MB with 15,000 clients at rest.
 * Cost:  the same for each call, however many are due. No memory but two references for each connection.
 * Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", scheme 4.
 */
export class TimingWheel {
  readonly #first: (Connection | null)[];
  readonly #last: (Connection | null)[];
  readonly #sizes: number[];
  #size = 0;

  /** `longestTicks`: how far ahead of the tick that is visited a connection may be placed. */
  constructor(longestTicks: number) {
    const length = longestTicks + 1;
    this.#first = new Array<Connection | null>(length).fill(null);
    this.#last = new Array<Connection | null>(length).fill(null);
    this.#sizes = new Array<number>(length).fill(0);
  }

  /** How many connections are placed. */
  get size(): number {
    return this.#size;
  }

  /** How many are due at a tick. */
  sizeAt(tick: number): number {
    return this.#sizes[tick % this.#sizes.length] ?? 0;
  }

  /** Places a connection that is not on the wheel, behind the others of that tick. */
  place(connection: Connection, tick: number): void {
    const bucket = tick % this.#first.length;
    const before = this.#last[bucket] ?? null;
    connection.wheelBucket = bucket;
    connection.wheelBefore = before;
    if (before === null) this.#first[bucket] = connection;
    else before.wheelBehind = connection;
    this.#last[bucket] = connection;
    this.#count(bucket, 1);
  }

  /** Takes a connection off the wheel; nothing happens where it is not on it. */
  remove(connection: Connection): void {
    const { wheelBucket: bucket, wheelBefore: before, wheelBehind: behind } = connection;
    if (bucket < 0) return;
    if (before === null) this.#first[bucket] = behind;
    else before.wheelBehind = behind;
    if (behind === null) this.#last[bucket] = before;
    else behind.wheelBefore = before;
    connection.wheelBefore = null;
    connection.wheelBehind = null;
    connection.wheelBucket = -1;
    this.#count(bucket, -1);
  }

  /** Takes the first that is due at a tick off the wheel; null where no connection is. */
  takeDue(tick: number): Connection | null {
    const due = this.#first[tick % this.#first.length] ?? null;
    if (due !== null) this.remove(due);
    return due;
  }

  /** Takes all off the wheel. */
  takeAll(): Connection[] {
    const all: Connection[] = [];
    for (let tick = 0; tick < this.#first.length; tick++) {
      for (let due = this.takeDue(tick); due !== null; due = this.takeDue(tick)) all.push(due);
    }
    return all;
  }

  #count(bucket: number, change: 1 | -1): void {
    this.#sizes[bucket] = (this.#sizes[bucket] ?? 0) + change;
    this.#size += change;
  }
}
