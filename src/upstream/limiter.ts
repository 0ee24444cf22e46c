import { type AddressShare, type PlaceSeeker, type Turn, WaitingLine } from "./waiting-line.ts";

export interface LimiterOptions {
  readonly places: number;
  /** The places that calls of one address may have or wait for in the common line. */
  readonly placesPerAddress: number;
}

/** Shares without a claim are dropped once there are so many more than at the last time. */
const SPARE_SHARES = 64;

/** How many of an entry's places one client address may have. */
export function placesPerAddress(entry: { maxConcurrency: number; maxConcurrencyPerAddress: number | null }): number {
  return entry.maxConcurrencyPerAddress ?? Math.ceil((entry.maxConcurrency * 3) / 4);
}

/**
 * The places of one upstream entry: how many of its calls may be under way at once, in all and for each client address.
 *
 *   enter ──> place ──> release ──> the first in the common line, or free
 *     ├─────> common line ──> leave (waited too long)                 ▲ one for each that
 *     └─────> its address's line, while the address has its share ────┘ the address gives back
 *
 * Order: first come, first served; no call overtakes the common line, and calls of one address keep their order. An address has at
 *        most its share in places and the common line together, so that it cannot fill the line either. The lines have no bound of
 *        their own: messages and disconnects are bounded by the connections they belong to, connects by `maxPendingUpgrades`, and
 *        all leave after `maxWaitMs`.
 * Cost:  the same for each step, however many wait. Addresses are only counted while so many calls are under way that one address
 *        could have its share: until then a call costs no look at its address. Calls under way are gone through when counting
 *        begins, and it ends at half as many; so each of them pays for few others.
 * Source: decision 0036.
 */
export class Limiter {
  readonly #places: number;
  readonly #placesPerAddress: number;
  readonly #holders: PlaceSeeker[] = [];
  readonly #line = new WaitingLine();
  readonly #turns = new Map<PlaceSeeker, Turn>();
  /** By address; null while they are not counted. */
  #shares: Map<string, AddressShare> | null = null;
  /** Shares without a claim are dropped when there are so many in all. */
  #dropSharesAt = SPARE_SHARES;
  #isHandingOut = false;

  constructor(options: LimiterOptions) {
    this.#places = options.places;
    this.#placesPerAddress = options.placesPerAddress;
  }

  /** Takes a place if the call may have one now. Otherwise false, and the call may `queue`. */
  tryEnter(seeker: PlaceSeeker): boolean {
    if (this.#holders.length >= this.#places || this.#line.first !== null) return false;
    if (this.#holders.length >= this.#placesPerAddress) this.#beginCounting();
    const share = this.#shareOf(seeker);
    if (share !== null && share.claims >= this.#placesPerAddress) return false;
    if (share !== null) share.claims++;
    this.#hold(seeker, share);
    return true;
  }

  queue(seeker: PlaceSeeker): void {
    const share = this.#shareOf(seeker);
    const turn: Turn = { seeker, share, line: null, before: null, behind: null };
    this.#turns.set(seeker, turn);
    if (share === null) {
      this.#line.push(turn);
    } else if (share.claims < this.#placesPerAddress) {
      share.claims++;
      this.#line.push(turn);
    } else {
      share.waiting.push(turn);
    }
  }

  /** Whether it is the address's share that keeps a call from a place, rather than the places of all. */
  isAtShare(seeker: PlaceSeeker): boolean {
    const turn = this.#turns.get(seeker);
    if (turn !== undefined) return turn.line !== this.#line;
    return (this.#shareOf(seeker)?.claims ?? 0) >= this.#placesPerAddress;
  }

  /** Gives up waiting. */
  leave(seeker: PlaceSeeker): void {
    const turn = this.#turns.get(seeker);
    if (turn === undefined) return;
    const { line, share } = turn;
    this.#turns.delete(seeker);
    line?.remove(turn);
    if (line === this.#line) this.#giveBack(share);
  }

  /** Gives a place back; the first that waits has it at once. */
  release(seeker: PlaceSeeker): void {
    this.#removeHolder(seeker);
    this.#giveBack(seeker.share);
    seeker.share = null;
    // One that is refused its place's use gives it back at once: a loop, since ten thousand of them would be too deep.
    if (this.#isHandingOut) return;
    if (this.#line.first !== null) this.#handOut();
    if (this.#shares !== null && this.#holders.length * 2 <= this.#placesPerAddress) this.#endCounting();
  }

  #handOut(): void {
    this.#isHandingOut = true;
    try {
      for (let turn = this.#line.first; turn !== null; turn = this.#line.first) {
        if (this.#holders.length >= this.#places) return;
        const { seeker, share } = turn;
        this.#line.remove(turn);
        this.#turns.delete(seeker);
        this.#hold(seeker, share);
        seeker.onPlace();
      }
    } finally {
      this.#isHandingOut = false;
    }
  }

  #hold(seeker: PlaceSeeker, share: AddressShare | null): void {
    seeker.share = share;
    seeker.placeIndex = this.#holders.length;
    this.#holders.push(seeker);
  }

  #removeHolder(seeker: PlaceSeeker): void {
    const index = seeker.placeIndex;
    const last = this.#holders.pop();
    seeker.placeIndex = -1;
    if (last === undefined || last === seeker) return;
    last.placeIndex = index;
    this.#holders[index] = last;
  }

  /** A call of the address no longer has a place or waits in the common line: the next of its own line may. */
  #giveBack(share: AddressShare | null): void {
    if (share === null) return;
    const next = share.waiting.first;
    if (next === null) {
      share.claims--;
      return;
    }
    share.waiting.remove(next);
    this.#line.push(next);
  }

  #beginCounting(): void {
    if (this.#shares !== null) return;
    this.#shares = new Map();
    for (const holder of this.#holders) {
      holder.share = this.#shareOf(holder);
      if (holder.share !== null) holder.share.claims++;
    }
  }

  /** No call waits then: the line is empty while a place is free, and an address whose calls wait has its share of places. */
  #endCounting(): void {
    this.#shares = null;
    this.#dropSharesAt = SPARE_SHARES;
    for (const holder of this.#holders) holder.share = null;
  }

  /** Null while addresses are not counted. */
  #shareOf(seeker: PlaceSeeker): AddressShare | null {
    if (this.#shares === null) return null;
    const { clientBlock } = seeker;
    const known = this.#shares.get(clientBlock);
    if (known !== undefined) return known;
    if (this.#shares.size >= this.#dropSharesAt) this.#dropShares(this.#shares);
    const share = { claims: 0, waiting: new WaitingLine() };
    this.#shares.set(clientBlock, share);
    return share;
  }

  /** Not when its last claim goes: an address that sends one message after the other would have a new one for each. */
  #dropShares(shares: Map<string, AddressShare>): void {
    for (const [block, { claims }] of shares) if (claims === 0) shares.delete(block);
    this.#dropSharesAt = 2 * shares.size + SPARE_SHARES;
  }
}
