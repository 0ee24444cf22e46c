import type { Server } from "bun";
import type { Clock } from "../core/ports/clock.ts";
import type { Pressure } from "../core/pressure.ts";

/** Bun keeps a copy of a body until it has gone out. */
const COPIES = 2;

/** The kernel takes so much of an answer at once, so that nothing of it waits in the process. */
const KERNEL_BYTES = 16_384;

const CHECK_INTERVAL_MS = 500;

/** A client that has not read its answer for this long is too slow while memory is short. */
const GRACE_MS = 2000;

/** The shortest timeout of Bun that ends a request, in seconds; it then takes up to 4 s. */
const SHORTEST_TIMEOUT_SECONDS = 1;

/** An upstream's refusal that a client may not have taken yet. */
interface Relayed {
  readonly request: Request;
  readonly heldBytes: number;
  readonly since: number;
}

/**
 * Counts the bodies of upstreams' refusals until their clients have taken them. Bun does not tell when an answer has gone out, but
 * it forgets the address of a request that is over.
 *
 *     add ─▶ held ─▶ taken, or the client has gone ─▶ let go
 *              └─ not taken for 2 s while memory is short ─▶ the client is cut when it takes nothing for 4 s more
 *
 * Cost: one look at each such answer every half second; nothing while no answer waits.
 */
export class RelayedAnswers {
  readonly #pressure: Pressure;
  readonly #clock: Clock;
  #held: Relayed[] = [];
  #cancel: (() => void) | null = null;

  constructor(pressure: Pressure, clock: Clock) {
    this.#pressure = pressure;
    this.#clock = clock;
  }

  /** Whether a body of this size may wait for a client. */
  fits(byteCount: number): boolean {
    return byteCount <= KERNEL_BYTES || this.#pressure.fits(byteCount * COPIES);
  }

  /** Counts a body that is about to be given to Bun. */
  add(request: Request, byteCount: number, server: Pick<Server<unknown>, "requestIP" | "timeout">): void {
    if (byteCount <= KERNEL_BYTES) return;
    const heldBytes = byteCount * COPIES;
    this.#pressure.hold(heldBytes);
    this.#held.push({ request, heldBytes, since: this.#clock.now() });
    this.#cancel ??= this.#clock.every(CHECK_INTERVAL_MS, () => this.#check(server));
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  #check(server: Pick<Server<unknown>, "requestIP" | "timeout">): void {
    const isShort = this.#pressure.shortage() !== null;
    const now = this.#clock.now();
    const held = this.#held;
    this.#held = held.filter(({ request, heldBytes, since }) => {
      if (server.requestIP(request) === null) {
        this.#pressure.hold(-heldBytes);
        return false;
      }
      if (isShort && now - since >= GRACE_MS) server.timeout(request, SHORTEST_TIMEOUT_SECONDS);
      return true;
    });
    if (this.#held.length === 0) this.stop();
  }
}
