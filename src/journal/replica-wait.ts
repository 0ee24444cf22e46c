import type { Report } from "../protocol/notices.ts";

/** How long a connect waits for its copy. NATS counts as away past this, until it has acknowledged what was sent to it. */
const MAX_WAIT_MS = 2000;

/** How often an error line says that clients are accepted without a copy. */
const SAY_MS = 10_000;

/** What a wait needs. */
export interface ReplicaWaitOptions {
  readonly copy: WaitedReplica;
  /**
   * Resolves when this node's lease is in NATS: the others take over no replica whose node they do not know. Undefined where it is there.
   * It may never resolve.
   */
  readonly whenLeased: () => Promise<void> | undefined;
  readonly report: Report;
}

/** The replica, as far as a wait needs it; see `JetstreamJournal`. */
export interface WaitedReplica {
  readonly isExpected: boolean;
  whenReplicated(): Promise<void>;
  countUncopied(): number;
}

/**
 * The wait of a connect for its copy in NATS, after which another node can send its disconnect event, even if this node is lost for good.
 *
 *     waiting ── the replica stops, or 2 s ──▶ accepting without a copy: an error line with the count, at once and every 10 s
 *        ▲                                              │
 *        └───────────── all is copied ──────────────────┘
 *
 * Errors: none. Where NATS is away the gateway goes on without it.
 * Cost:   one promise and one timer for each message of the replica, shared by all that wait for it.
 */
export class ReplicaWait {
  readonly #options: ReplicaWaitOptions;
  /** The wait for the same message. */
  #copied: Promise<void> | null = null;
  #shared: Promise<void> = Promise.resolve();
  /** NATS has not acknowledged in time. */
  #isLate = false;
  #sayTimer: ReturnType<typeof setInterval> | null = null;

  constructor(options: ReplicaWaitOptions) {
    this.#options = options;
  }

  /** Resolves when all that was changed so far is copied, or is not waited for. */
  wait(): Promise<void> {
    const { copy } = this.#options;
    if (this.#isLate || !copy.isExpected) {
      this.#say();
      return Promise.resolve();
    }
    const copied = copy.whenReplicated();
    if (copied !== this.#copied) {
      this.#copied = copied;
      this.#shared = this.#limited(copied);
    }
    return this.#shared;
  }

  stop(): void {
    if (this.#sayTimer !== null) clearInterval(this.#sayTimer);
    this.#sayTimer = null;
  }

  #limited(copied: Promise<void>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      this.#isLate = true;
      this.#say();
      resolve();
    }, MAX_WAIT_MS);
    const end = (next?: Promise<void>): void => {
      clearTimeout(timer);
      this.#isLate = false;
      resolve(next);
    };
    const leased = this.#options.whenLeased();
    (leased === undefined ? copied : Promise.all([copied, leased])).then(
      () => end(),
      // Where the node goes on in another replica, its entries are written to that one.
      () => end(this.wait()),
    );
    return promise;
  }

  /** An error line now, and more of them while it lasts. */
  #say(): void {
    if (this.#sayTimer !== null) return;
    this.#tell();
    this.#sayTimer = setInterval(() => {
      if (this.#options.copy.isExpected && !this.#isLate) this.stop();
      else this.#tell();
    }, SAY_MS);
  }

  #tell(): void {
    const { copy, report } = this.#options;
    report({ kind: "replica-missing", entriesWithoutCopy: copy.countUncopied() });
  }
}
