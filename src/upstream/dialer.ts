import type { Clock } from "../core/ports/clock.ts";

/** How long one address is waited for before the next one is tried as well. Source: RFC 8305, section 5. */
export const NEXT_ADDRESS_AFTER_MS = 250;

export interface DialerOptions {
  readonly addresses: readonly string[];
  readonly clock: Clock;
  /** Errors: rejects where the address cannot be connected to. */
  readonly connect: (address: string) => Promise<unknown>;
  /** The address refused or is slow, and another is tried. */
  readonly onPassedOver: (address: string) => void;
  /** No address is left; `error` is the last one's. */
  readonly onFailed: (error: unknown) => void;
}

/**
 * Tries one address after the other, until `stop` says that one is connected.
 *
 *   try ──refused, or 250 ms gone──> try the next ──> … ──all refused──> onFailed
 *
 * Order: earlier tries go on while later ones run, so a second one may connect after `stop`: the caller must close it.
 */
export class Dialer {
  readonly #options: DialerOptions;
  #next = 0;
  #underWay = 0;
  #ended = false;
  #cancelTimer: (() => void) | null = null;

  constructor(options: DialerOptions) {
    this.#options = options;
  }

  /** Tries the first address. */
  start(): void {
    this.#tryNext();
  }

  /** Nothing is tried or told any more. May be called twice. */
  stop(): void {
    this.#ended = true;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }

  get #isLast(): boolean {
    return this.#next >= this.#options.addresses.length;
  }

  #tryNext(): void {
    const { addresses, clock, connect } = this.#options;
    const address = addresses[this.#next];
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    if (address === undefined) return;
    this.#next++;
    this.#underWay++;
    if (!this.#isLast) this.#cancelTimer = clock.after(NEXT_ADDRESS_AFTER_MS, () => this.#passOver(address));
    connect(address).catch((error: unknown) => this.#onRefused(address, error));
  }

  #passOver(address: string): void {
    this.#options.onPassedOver(address);
    this.#tryNext();
  }

  #onRefused(address: string, error: unknown): void {
    if (this.#ended) return;
    this.#underWay--;
    if (!this.#isLast) {
      this.#passOver(address);
    } else if (this.#underWay === 0) {
      this.stop();
      this.#options.onFailed(error);
    }
  }
}
