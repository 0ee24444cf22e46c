import { TurnList } from "../core/turn-list.ts";
import type { Frame } from "../protocol/client-protocol.ts";

/** Frames that are kept back are not counted as waiting for a client: at most so many bytes, however much one client's outbox holds. */
const MAX_BYTES = 65_536;

/** What a frame counts besides its payload. */
const FRAME_BYTES = 16;

/** No character of a string takes more in UTF-8. */
const MAX_BYTES_PER_CHAR = 3;

/** The target of a kept frame. */
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
 * Order: first in, first out. Code that writes to a socket in another way flushes first, so that no message overtakes another.
 */
export class TurnWrites {
  readonly #kept = new TurnList<Kept>();
  readonly #onTurnEnd = () => this.#endTurn();
  /** Never less than what is kept. */
  #bytes = 0;
  #isTurnEndDue = false;

  /** Keeps a frame, unless more than `maxBytes` would be kept then: false, and it is to be written by another way. */
  add(sink: FrameSink, frame: Frame, maxBytes: number): boolean {
    const bytes = FRAME_BYTES + (typeof frame === "string" ? frame.length * MAX_BYTES_PER_CHAR : frame.length);
    if (this.#bytes + bytes > Math.min(MAX_BYTES, maxBytes)) return false;
    this.#bytes += bytes;
    this.#kept.add({ sink, frame });
    this.#endTurnSoon();
    return true;
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
      // A failure in one must not affect the others.
      if (this.#kept.count > 0) this.#endTurnSoon();
    }
  }
}

function write({ sink, frame }: Kept): void {
  sink.write(frame);
}
