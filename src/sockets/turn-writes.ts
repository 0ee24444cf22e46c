import type { Frame } from "../core/ports.ts";
import { TurnList } from "../core/turn-list.ts";

/** At most so much is kept back: it is not counted as waiting for a client. Text counts by its length. */
const MAX_BYTES = 65_536;

/** Where a frame is written in the end. */
export interface FrameSink {
  write(frame: Frame): void;
}

interface Kept {
  readonly sink: FrameSink;
  readonly frame: Frame;
}

/**
 * Frames for single sockets that are written at the end of the turn of the event loop, in a row.
 *
 * The kernel has to wake a peer that sleeps, which costs the writer more than the write; of several writes in a row only the
 * first finds it asleep. Calls to the REST API come many in a turn.
 *
 * Order: first in, first out. Whoever writes to a socket by another way flushes before, so that nothing overtakes.
 */
export class TurnWrites {
  readonly #kept = new TurnList<Kept>();
  readonly #onTurnEnd = () => this.#endTurn();
  #bytes = 0;
  #isTurnEndDue = false;

  add(sink: FrameSink, frame: Frame): void {
    this.#kept.add({ sink, frame });
    this.#bytes += frame.length;
    if (this.#bytes > MAX_BYTES) this.flush();
    else this.#endTurnSoon();
  }

  /** Writes all that is kept. */
  flush(): void {
    if (this.#kept.count === 0) return;
    this.#bytes = 0;
    this.#kept.drain(write);
  }

  #endTurnSoon(): void {
    if (this.#isTurnEndDue) return;
    this.#isTurnEndDue = true;
    setImmediate(this.#onTurnEnd);
  }

  #endTurn(): void {
    this.#isTurnEndDue = false;
    try {
      this.flush();
    } finally {
      // A bug of ours with one of them is none with the others.
      if (this.#kept.count > 0) this.#endTurnSoon();
    }
  }
}

function write({ sink, frame }: Kept): void {
  sink.write(frame);
}
