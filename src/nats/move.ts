import type { NatsConnection } from "@nats-io/transport-node";

/** A part that has something on the link's connection, and takes it along to a second one. */
export interface Passenger {
  /** Does on the second connection what it does on the first, which goes on meanwhile: subscribes at once. May reject, or take forever. */
  open(next: NatsConnection): Promise<void>;
  /** Nothing more is to come over the first connection; what is on its way still comes. */
  leave(): void;
  /** The second connection is the link's now, and the first will be closed. Also called where `open` did not resolve. */
  moved(): void;
  /** The link stays on its first connection; the second one will be closed. */
  abandoned(): void;
}

/**
 * How long the passengers may take: JetStream may have to choose leaders. A server in lame-duck mode closes no connection for ten seconds,
 * by default; does it so earlier, the second connection takes over with what is open.
 */
const OPEN_LIMIT_MS = 60_000;

/** How long a message of the first connection to the second may take. */
const PROBE_LIMIT_MS = 5000;

/** How long both connections are used at least once all is open. */
const OVERLAP_MS = 250;

/** How often the first connection's server is asked for a message to the second. */
const PROBE_MS = 100;

/** How long the first connection may take to say that it has all. */
const FLUSH_LIMIT_MS = 500;

/**
 * The move of a link from one connection to a second one, with no moment without any.
 *
 *     open ─▶ overlap: until what the first publishes comes over the second ─▶ leave, flush ─▶ moved
 *       │ the second is lost                                                          ▲
 *       └──────▶ abandoned                            the first is lost, at any time ─┘
 */
export class Move {
  readonly next: NatsConnection;
  readonly #first: NatsConnection;
  readonly #passengers: readonly Passenger[];
  /** Resolves with the loss of the first connection. */
  readonly #hurry = Promise.withResolvers<void>();
  readonly #failure = Promise.withResolvers<never>();
  #isOpen = false;
  #hasFailed = false;

  constructor(first: NatsConnection, next: NatsConnection, passengers: readonly Passenger[]) {
    this.#first = first;
    this.next = next;
    this.#passengers = passengers;
    this.#failure.promise.catch(() => null);
  }

  /** The first connection is lost. False where the second cannot take its place yet. */
  hurry(): boolean {
    if (this.#isOpen) this.#hurry.resolve();
    return this.#isOpen;
  }

  /** The second connection cannot be used. */
  fail(reason: string): void {
    this.#hasFailed = true;
    this.#failure.reject(new Error(reason));
  }

  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  /** Resolves when both connections can be used, and have been long enough. Errors: rejects where the move has failed. */
  async overlap(): Promise<void> {
    const opened = Promise.all(this.#passengers.map((passenger) => passenger.open(this.next)));
    const hurry = this.#hurry.promise;
    // Every passenger has sent what is to be subscribed.
    await this.#unlessFailed(Promise.race([this.next.flush(), hurry]));
    this.#isOpen = true;
    await this.#unlessFailed(Promise.race([opened, hurry, after(OPEN_LIMIT_MS)]));
    await this.#unlessFailed(Promise.race([Promise.all([after(OVERLAP_MS), this.#probe()]), hurry]));
  }

  /** Resolves when the first connection's server has all that was published, and this process all that came over it. */
  async leave(): Promise<void> {
    for (const passenger of this.#passengers) passenger.leave();
    const flushed = this.#first.flush().catch(() => null);
    await Promise.race([flushed, this.#hurry.promise, after(FLUSH_LIMIT_MS)]);
  }

  moved(): void {
    for (const passenger of this.#passengers) passenger.moved();
  }

  abandon(): void {
    for (const passenger of this.#passengers) passenger.abandoned();
  }

  /**
   * Resolves when a message of the first connection has come over the second. Its server knows then of everything that was subscribed
   * there, since the inbox was the last, and servers tell each other in order.
   */
  async #probe(): Promise<void> {
    const inbox = `_INBOX.${crypto.randomUUID()}`;
    const arrived = Promise.withResolvers<void>();
    const subscription = this.next.subscribe(inbox, { callback: () => arrived.resolve() });
    const ask = (): void => {
      if (!this.#first.isClosed()) this.#first.publish(inbox);
    };
    const timer = setInterval(ask, PROBE_MS);
    ask();
    await Promise.race([arrived.promise, this.#hurry.promise, after(PROBE_LIMIT_MS)]);
    clearInterval(timer);
    subscription.unsubscribe();
  }

  #unlessFailed<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#failure.promise]);
  }
}

function after(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
