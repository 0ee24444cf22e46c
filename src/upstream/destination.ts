import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { AllowedHosts } from "../config/allowed-hosts.ts";
import type { Clock } from "../core/ports/clock.ts";

/** How long a name's addresses are used before they are looked up again: fresh sockets come in bursts. */
export const ADDRESSES_KEPT_MS = 5000;

/**
 * Finds the addresses of a name, in the order in which they are to be tried.
 *
 * Errors: rejects where the name has none, with a `code`.
 */
export type ResolveHost = (hostname: string) => Promise<readonly string[]>;

/** Asks the system: /etc/hosts, then DNS, in the order that the system's rules give. */
export const resolveBySystem: ResolveHost = async (hostname) => {
  const found = await lookup(hostname, { all: true, verbatim: true });
  return found.map(({ address }) => address);
};

/** The addresses that may be connected to, or the reason why no address may; the reason may be logged. */
export type FoundAddresses = readonly string[] | { readonly fault: string };

export interface DestinationOptions {
  /** A name or an address without brackets. */
  readonly hostname: string;
  /** Null where every address may be called. */
  readonly allowed: AllowedHosts | null;
  readonly resolve: ResolveHost;
  readonly clock: Clock;
}

/**
 * The addresses of an origin's host, each judged before anything connects to it.
 *
 * It hands out addresses and never a name, so nothing is looked up again after it was judged: a name that
 * changes its mind in between (DNS rebinding) gains nothing.
 *
 * Order: one lookup at a time; everyone who needs it waits for the same one.
 * Cost:  an address in the URL is judged once; a name costs a lookup every `ADDRESSES_KEPT_MS` in which a socket is opened.
 */
export class Destination {
  readonly #options: DestinationOptions;
  /** An address in the URL: judged for good. */
  readonly #fixed: FoundAddresses | null;
  #found: readonly string[] = [];
  #freshUntilMs = 0;
  #lookup: Promise<FoundAddresses> | null = null;

  constructor(options: DestinationOptions) {
    this.#options = options;
    this.#fixed = isIP(options.hostname) === 0 ? null : this.#judge([options.hostname]);
  }

  /** The addresses that are known without waiting; null where `find` has to be asked. */
  current(): FoundAddresses | null {
    if (this.#fixed !== null) return this.#fixed;
    return this.#found.length > 0 && this.#options.clock.now() < this.#freshUntilMs ? this.#found : null;
  }

  /** Looks the name up. Never rejects. */
  find(): Promise<FoundAddresses> {
    this.#lookup ??= this.#lookUp().finally(() => {
      this.#lookup = null;
    });
    return this.#lookup;
  }

  /** This address refuses or is slow: until the next lookup it is tried last. */
  demote(address: string): void {
    const others = this.#found.filter((known) => known !== address);
    if (others.length < this.#found.length) this.#found = [...others, address];
  }

  /** No address could be connected to: the name may have moved. */
  forget(): void {
    this.#found = [];
  }

  async #lookUp(): Promise<FoundAddresses> {
    const { hostname, resolve, clock } = this.#options;
    let addresses: readonly string[];
    try {
      addresses = await resolve(hostname);
    } catch (error) {
      return { fault: `the host's address was not found: ${lookupCode(error)}` };
    }
    const found = this.#judge(addresses);
    if ("fault" in found) return found;
    this.#found = found;
    this.#freshUntilMs = clock.now() + ADDRESSES_KEPT_MS;
    return found;
  }

  #judge(addresses: readonly string[]): FoundAddresses {
    const { allowed, hostname } = this.#options;
    let refusal: string | null = null;
    const passed = addresses.filter((address) => {
      const fault = allowed?.addressFault(hostname, address) ?? null;
      if (fault !== null) refusal ??= `refused: the host's address ${address} ${fault}`;
      return fault === null;
    });
    return passed.length > 0 ? passed : { fault: refusal ?? "the host has no address" };
  }
}

function lookupCode(error: unknown): string {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : null;
  return typeof code === "string" ? code : "lookup failed";
}
