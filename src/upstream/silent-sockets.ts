import type { Clock } from "../core/ports/clock.ts";
import type { Deadlines, Waiting } from "./deadlines.ts";

/** How long a call on a fresh socket may be without a byte before the backend's idle sockets are closed. */
export const SILENT_AFTER_MS = 100;

/** Sockets that are kept for the next call. */
export interface IdleSockets {
  /** Closes all that are idle now. */
  closeIdle(): void;
}

/**
 * Notices fresh sockets that a backend leaves without a byte, and has the idle sockets to the same backend closed meanwhile.
 *
 * Why: in a prefork server a worker serves one connection at a time. A kept socket holds its worker while it is idle, and calls
 * on fresh sockets wait for a worker until the idle time ends.
 *
 * Shape: one for each origin, since entries with the same origin share its workers.
 * Source: docs/decisions/0029-kept-sockets.md.
 */
export class SilentSockets {
  readonly clock: Clock;
  readonly deadlines: Deadlines;
  readonly #pools = new Set<IdleSockets>();
  #count = 0;

  constructor(clock: Clock, deadlines: Deadlines) {
    this.clock = clock;
    this.deadlines = deadlines;
  }

  /** Whether some fresh socket is silent, so that no socket should be kept. */
  get areThere(): boolean {
    return this.#count > 0;
  }

  /** Whether no pool is left that would close its idle sockets. */
  get isUnused(): boolean {
    return this.#pools.size === 0;
  }

  addPool(pool: IdleSockets): void {
    this.#pools.add(pool);
  }

  removePool(pool: IdleSockets): void {
    this.#pools.delete(pool);
  }

  /** A socket has been silent for too long. */
  enter(): void {
    this.#count++;
    for (const pool of this.#pools) pool.closeIdle();
  }

  /** It has sent a byte, or is gone. */
  leave(): void {
    this.#count--;
  }
}

/** The wait for the first byte on one fresh socket. Each step of connecting counts as a byte. */
export class Silence implements Waiting {
  deadlineMs = 0;
  deadlineSlot = -1;
  readonly #sockets: SilentSockets;
  #isLong = false;

  constructor(sockets: SilentSockets) {
    this.#sockets = sockets;
  }

  /** Begins, or begins again. */
  begin(): void {
    this.end();
    this.deadlineMs = this.#sockets.clock.now() + SILENT_AFTER_MS;
    this.#sockets.deadlines.add(this);
  }

  /** May be called twice. */
  end(): void {
    this.#sockets.deadlines.remove(this);
    if (this.#isLong) this.#sockets.leave();
    this.#isLong = false;
  }

  /** Called by the sweep. */
  expire(): void {
    this.#sockets.deadlines.remove(this);
    this.#isLong = true;
    this.#sockets.enter();
  }
}
