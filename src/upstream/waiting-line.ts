/** A call that needs a place of its entry. */
export interface PlaceSeeker {
  /** The addresses that count as its client (`addressBlock`). Only asked for while places are counted for each address. */
  readonly clientBlock: string;
  /** Its index among the calls that have a place; -1 while it has none. Set by the limiter. */
  placeIndex: number;
  /** The share that its place counts for; null while none is counted. Set by the limiter. */
  share: AddressShare | null;
  /** The place is the call's from here on; it gives it back with `release`. */
  onPlace(): void;
}

/** The calls of one address that have a place or wait in the common line, and those that wait until one of these has ended. */
export interface AddressShare {
  claims: number;
  readonly waiting: WaitingLine;
}

/** A call that waits for a place. */
export interface Turn {
  readonly seeker: PlaceSeeker;
  /** Null while places are not counted for each address. */
  readonly share: AddressShare | null;
  line: WaitingLine | null;
  before: Turn | null;
  behind: Turn | null;
}

/**
 * Calls that wait, first in, first out.
 *
 * Cost: the same for each step, however many wait: a list. A Set finds its first slowly once many in front of it were taken out
 *       (28 µs with 10,000).
 */
export class WaitingLine {
  #first: Turn | null = null;
  #last: Turn | null = null;

  get first(): Turn | null {
    return this.#first;
  }

  /** The turn must be in no line. */
  push(turn: Turn): void {
    turn.line = this;
    turn.before = this.#last;
    if (this.#last === null) this.#first = turn;
    else this.#last.behind = turn;
    this.#last = turn;
  }

  /** The turn must be in this line. */
  remove(turn: Turn): void {
    if (turn.before === null) this.#first = turn.behind;
    else turn.before.behind = turn.behind;
    if (turn.behind === null) this.#last = turn.before;
    else turn.behind.before = turn.before;
    turn.line = null;
    turn.before = null;
    turn.behind = null;
  }
}
