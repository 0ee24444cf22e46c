import { setTimeout as sleep } from "node:timers/promises";
import type { Msg, NatsConnection, Subscription } from "@nats-io/transport-node";
import type { NatsLink } from "../nats/link.ts";
import type { Passenger } from "../nats/move.ts";
import { Overlap } from "./overlap.ts";

/**
 * In a move: how long servers may take to tell each other what is subscribed on the second connection; how long the twins of what came
 * before that may take; and how long after the move twins may still come. No message tells when all of it is done.
 */
const INTEREST_MS = 250;
const SETTLE_MS = 750;
const LATE_TWINS_MS = 3000;

/** A subject with members here. */
interface Subject {
  memberCount: number;
  subscription: Subscription | null;
  /** On the second connection, while the link moves. */
  next: Subscription | null;
  /** Resolves when the server knows of it; null once it does. */
  known: Promise<void> | null;
}

/**
 * The subjects that this node listens on: one subscription each, however many members it has here.
 *
 *     add ─▶ SUB ─▶ [ those of one turn ] ─▶ PING ─▶ PONG: the server knows them, `add` resolves
 *                          ▲ while one is under way the next gather
 *     last remove ─▶ UNSUB
 *
 * Order:  what comes on any subject is handed on in the order of its arrival. While the link moves to another connection all is
 *         subscribed on both, and what comes over both is handed on once.
 * Cost:   a join of a subject that is known costs a look; PINGs are bounded by round trips, not by joins.
 */
export class Subscriptions implements Passenger {
  readonly #link: NatsLink;
  readonly #receive: (message: Msg) => void;
  readonly #subjects = new Map<string, Subject>();
  /** Those whose SUB went out since the last flush began. */
  #gathering: PromiseWithResolvers<void> | null = null;
  #isFlushing = false;
  #isStopped = false;
  /** Two connections bring the same messages. */
  #overlap: Overlap | null = null;
  /** The one that the link moves to, and has moved to as long as there is an overlap. */
  #second: NatsConnection | null = null;
  /** The same, until the link has moved: all is subscribed there too. */
  #opening: NatsConnection | null = null;

  constructor(link: NatsLink, receive: (message: Msg) => void) {
    this.#link = link;
    this.#receive = receive;
    link.onMove(this);
  }

  /** How many subjects there are. */
  get size(): number {
    return this.#subjects.size;
  }

  /** One more member. Resolves when what is published for it arrives here; at once where the link is down. Never rejects. */
  add(subject: string): Promise<void> {
    const found = this.#subjects.get(subject);
    if (found !== undefined) {
      found.memberCount++;
      return found.known ?? Promise.resolve();
    }
    const added: Subject = {
      memberCount: 1,
      subscription: this.#subscribe(subject, this.#link.connection),
      next: this.#subscribe(subject, this.#opening),
      known: null,
    };
    this.#subjects.set(subject, added);
    if (!this.#link.isUp || this.#isStopped) return Promise.resolve();
    const known = this.#flushSoon().then(() => {
      added.known = null;
    });
    added.known = known;
    return known;
  }

  /** One member less. */
  remove(subject: string): void {
    const found = this.#subjects.get(subject);
    if (found === undefined) return;
    found.memberCount--;
    if (found.memberCount > 0) return;
    this.#subjects.delete(subject);
    found.subscription?.unsubscribe();
    found.next?.unsubscribe();
  }

  async open(next: NatsConnection): Promise<void> {
    const overlap = new Overlap((message) => this.#receive(message));
    this.#overlap = overlap;
    this.#second = next;
    this.#opening = next;
    for (const [subject, found] of this.#subjects) found.next = this.#subscribe(subject, next);
    await next.flush();
    await sleep(INTEREST_MS);
    overlap.mark();
    await sleep(SETTLE_MS);
    overlap.forgetMarked();
  }

  leave(): void {
    for (const found of this.#subjects.values()) found.subscription?.unsubscribe();
  }

  moved(): void {
    this.#opening = null;
    for (const found of this.#subjects.values()) {
      found.subscription = found.next;
      found.next = null;
    }
    const overlap = this.#overlap;
    overlap?.stopHolding();
    setTimeout(() => {
      if (this.#overlap === overlap) this.#endOverlap();
    }, LATE_TWINS_MS).unref();
  }

  abandoned(): void {
    for (const found of this.#subjects.values()) found.next = null;
    this.#endOverlap();
  }

  /**
   * The link is up: resolves when the server knows of every subject; false where the link was lost again meanwhile.
   *
   * The NATS client renews earlier subscriptions; those added before the first connection are made here.
   */
  async linkUp(): Promise<boolean> {
    for (const [subject, found] of this.#subjects) {
      if (found.subscription?.isClosed() !== false)
        found.subscription = this.#subscribe(subject, this.#link.connection);
    }
    try {
      await this.#link.connection?.flush();
      return this.#link.isUp;
    } catch {
      return false;
    }
  }

  /** The link is down: nothing can be published to this node, so no caller needs to wait for a subscription. */
  linkDown(): void {
    this.#gathering?.resolve();
    this.#gathering = null;
  }

  /** Listens no more; what is added from now on is only counted. */
  stop(): void {
    this.#isStopped = true;
    for (const found of this.#subjects.values()) {
      found.subscription?.unsubscribe();
      found.next?.unsubscribe();
    }
    this.linkDown();
  }

  #endOverlap(): void {
    this.#overlap = null;
    this.#second = null;
    this.#opening = null;
  }

  #subscribe(subject: string, connection: NatsConnection | null): Subscription | null {
    if (this.#isStopped || connection === null || connection.isClosed()) return null;
    return connection.subscribe(subject, {
      callback: (error, message) => {
        // A refused subscription is reported by the link.
        if (error !== null) return;
        if (this.#overlap === null) this.#receive(message);
        else if (connection === this.#second) this.#overlap.fromSecond(message);
        else this.#overlap.fromFirst(message);
      },
    });
  }

  #flushSoon(): Promise<void> {
    if (this.#gathering === null) {
      this.#gathering = Promise.withResolvers<void>();
      // Behind all that is added in this turn.
      if (!this.#isFlushing) setImmediate(() => void this.#flush());
    }
    return this.#gathering.promise;
  }

  async #flush(): Promise<void> {
    const gathered = this.#gathering;
    if (gathered === null || this.#isFlushing) return;
    this.#gathering = null;
    this.#isFlushing = true;
    try {
      await Promise.all([this.#link.connection?.flush(), this.#opening?.flush()]);
    } catch {
      // The connection is gone, and nothing can be published; the next one begins with all subjects.
    } finally {
      this.#isFlushing = false;
      gathered.resolve();
      if (this.#gathering !== null) void this.#flush();
    }
  }
}
