import type { ClientSocket, Traffic } from "./ports/client-socket.ts";

/** Slower transfers do not count as progress: a client that reads one byte a second holds its outbox as one that reads nothing. */
export const MIN_PROGRESS_BYTES_PER_SECOND = 1000;

/**
 * Measures what moves on one client's socket, from the first look on.
 *
 * Where the system does not tell, each fall of the outbox between two looks counts as delivered and nothing as received. That is
 * never more than what was delivered, so pushes that refill an outbox do not look like progress.
 * Cost: a system call for each look.
 */
export class TrafficMeter {
  /** Since the first look. */
  receivedBytes = 0;
  deliveredBytes = 0;
  /** Whether something waited for the client at the last look. */
  isBacklogged = false;
  #outboxBytes = 0;
  #traffic: Traffic | null = null;

  look(socket: ClientSocket): void {
    const outboxBytes = socket.waitingBytes;
    const traffic = socket.readTraffic();
    if (traffic === null || this.#traffic === null) {
      this.deliveredBytes += Math.max(0, this.#outboxBytes - outboxBytes);
    } else {
      this.receivedBytes += traffic.received - this.#traffic.received;
      this.deliveredBytes += traffic.delivered - this.#traffic.delivered;
    }
    this.isBacklogged = outboxBytes > 0 || (traffic?.unsent ?? 0) > 0;
    this.#outboxBytes = outboxBytes;
    this.#traffic = traffic;
  }
}

/**
 * How long a count of bytes has not grown by `MIN_PROGRESS_BYTES_PER_SECOND`.
 *
 *     mark ─▶ growth since the mark at that rate or faster? ─yes─▶ a new mark
 *                                  │no
 *                                  ▼
 *                      stalled since the mark
 */
export class Progress {
  #bytes: number;
  #markedAt: number;

  constructor(bytes: number, now: number) {
    this.#bytes = bytes;
    this.#markedAt = now;
  }

  /** Returns for how many milliseconds there has been no progress. */
  stalledMs(bytes: number, now: number): number {
    if (isProgress(bytes - this.#bytes, now - this.#markedAt)) {
      this.#bytes = bytes;
      this.#markedAt = now;
    }
    return now - this.#markedAt;
  }
}

/** Whether so many bytes in so much time are progress. */
export function isProgress(byteCount: number, durationMs: number): boolean {
  return byteCount > 0 && byteCount * 1000 >= MIN_PROGRESS_BYTES_PER_SECOND * durationMs;
}
