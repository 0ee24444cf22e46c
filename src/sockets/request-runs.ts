/** So many requests of one connection are answered in one turn of the event loop. */
export const MAX_RUN = 1000;

/** The other end of a request's TCP connection, as `Server.requestIP` gives it. */
interface OtherEnd {
  readonly address: string;
  readonly port: number;
}

/**
 * Notices a connection that sends requests faster than they can be answered.
 *
 * Why:   Bun answers all requests that have arrived on a connection before it turns to another one, and reads on meanwhile. A client
 *        that goes on sending would have the event loop to itself.
 * Cost:  a number counted up for each request; its sender is looked at in busy turns only.
 */
export class RequestRuns {
  readonly #onTurnEnd = () => {
    this.#count = 0;
    this.#length = 0;
    this.#isTurnEndDue = false;
  };
  /** The requests of this turn. */
  #count = 0;
  /** How many of the last of them came from one connection, and its other end. */
  #length = 0;
  #port = 0;
  #address = "";
  #isTurnEndDue = false;

  /** To be called for each request that is answered; true: its connection is to be closed behind the answer. */
  isPastEnd(otherEnd: () => OtherEnd | null): boolean {
    if (!this.#isTurnEndDue) {
      this.#isTurnEndDue = true;
      setImmediate(this.#onTurnEnd);
    }
    this.#count++;
    // Half of a run may pass before its sender is looked at.
    if (this.#count <= MAX_RUN / 2) return false;
    const { port, address } = otherEnd() ?? { port: 0, address: "" };
    this.#length = port === this.#port && address === this.#address ? this.#length + 1 : 1;
    this.#port = port;
    this.#address = address;
    return this.#length >= MAX_RUN / 2;
  }
}
