/** One promise for all that wait for the same message. */
type Waiters = PromiseWithResolvers<void>;

/**
 * The callers that wait until their changes are in the replica.
 *
 *     forNext ─▶ [ next message ] ─ takeOff ─▶ [ message in flight ] ─ land ─▶ resolved
 *                                   forCurrent ─▶ ┘      └──────────── fail ─▶ rejected
 *
 * Cost: one promise for each message, however many callers wait for it.
 */
export class ReplicaWaiters {
  #next: Waiters | null = null;
  #current: Waiters | null = null;
  #isInFlight = false;

  /** Whether a message is being written. */
  get isInFlight(): boolean {
    return this.#isInFlight;
  }

  /** Whether a caller waits for a message that is not being written yet. */
  get areWaiting(): boolean {
    return this.#next !== null;
  }

  /** Resolves with the next message that holds all changes so far. */
  forNext(): Promise<void> {
    this.#next ??= waiters();
    return this.#next.promise;
  }

  /** Resolves with the message in flight. */
  forCurrent(): Promise<void> {
    this.#current ??= waiters();
    return this.#current.promise;
  }

  /** A message is written now. `withAll`: it holds all changes so far. */
  takeOff({ withAll }: { withAll: boolean }): void {
    this.#isInFlight = true;
    if (!withAll) return;
    this.#current = this.#next;
    this.#next = null;
  }

  /** The message is in the replica. */
  land(): void {
    this.#isInFlight = false;
    this.#current?.resolve();
    this.#current = null;
  }

  /** Nothing is being written any more. */
  fail(reason: string): void {
    this.#isInFlight = false;
    for (const waiting of [this.#current, this.#next]) waiting?.reject(new Error(reason));
    this.#current = null;
    this.#next = null;
  }
}

/** Rejected without a caller having to listen: most callers do not wait for the replica. */
export function refusedWait(reason: string): Promise<void> {
  const { promise, reject } = waiters();
  reject(new Error(reason));
  return promise;
}

function waiters(): Waiters {
  const made = Promise.withResolvers<void>();
  made.promise.catch(() => null);
  return made;
}
