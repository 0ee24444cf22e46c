import type { Connection } from "./connection.ts";
import type { ClientSocket } from "./ports/client-socket.ts";
import { MIN_PROGRESS_BYTES_PER_SECOND, Progress, TrafficMeter } from "./traffic.ts";

/** How long a client must have had a backlog before its reading is measured, and how often: most backlogs are gone by then. */
const MEASURE_INTERVAL_MS = 500;

/** Over how long a client's reading is measured before it can be called too slow. */
const PACE_WINDOW_MS = 2000;

/** A client for whom bytes wait. */
export interface Outbox {
  readonly connection: Connection;
  /** The bytes that wait. */
  bytes: number;
  /** How long the client has taken less than `MIN_PROGRESS_BYTES_PER_SECOND`. */
  stalledMs: number;
  /**
   * Whether the client would need longer than `outboxStallTimeoutMs` for what waits, at the pace of its last two seconds. False
   * while it has not been watched for that long.
   */
  isTooSlow: boolean;
}

interface Watched extends Outbox {
  readonly meter: TrafficMeter;
  /** From its first measurement on. */
  progress: Progress | null;
  measuredAt: number;
  paceBytes: number;
  pacedAt: number;
  /** The look that saw it last. */
  look: number;
}

/**
 * The clients for whom bytes wait, and how they read.
 *
 * Shape:  `begin`, then `see` for each client with a backlog, then `end`: a client that was not seen has no backlog any more.
 * Cost:   a system call in half a second for each client whose backlog lasts longer than that; some 300 bytes while it has one.
 * Source: decision 0024.
 */
export class Outboxes {
  readonly #watched = new Map<Connection, Watched>();
  #look = 0;
  /** The sum of what waits, as last seen. */
  bytes = 0;

  begin(): void {
    this.#look++;
    this.bytes = 0;
  }

  see(
    connection: Connection,
    socket: ClientSocket,
    { bytes, now, stallTimeoutMs }: { bytes: number; now: number; stallTimeoutMs: number },
  ): Outbox {
    const watched = this.#watched.get(connection) ?? this.#watch(connection, now);
    watched.look = this.#look;
    watched.bytes = bytes;
    this.bytes += bytes;
    if (now - watched.measuredAt >= MEASURE_INTERVAL_MS) this.#measure(watched, socket, { now, stallTimeoutMs });
    return watched;
  }

  #measure(
    watched: Watched,
    socket: ClientSocket,
    { now, stallTimeoutMs }: { now: number; stallTimeoutMs: number },
  ): void {
    const { meter, bytes } = watched;
    watched.measuredAt = now;
    meter.look(socket);
    if (watched.progress === null) {
      watched.progress = new Progress(0, now);
      watched.pacedAt = now;
      return;
    }
    watched.stalledMs = watched.progress.stalledMs(meter.deliveredBytes, now);
    const windowMs = now - watched.pacedAt;
    if (windowMs >= PACE_WINDOW_MS) {
      const bytesPerSecond = ((meter.deliveredBytes - watched.paceBytes) * 1000) / windowMs;
      const needed = Math.max(MIN_PROGRESS_BYTES_PER_SECOND, (bytes * 1000) / stallTimeoutMs);
      watched.isTooSlow = bytesPerSecond < needed;
      watched.paceBytes = meter.deliveredBytes;
      watched.pacedAt = now;
    }
  }

  end(): void {
    for (const [connection, { look }] of this.#watched) if (look !== this.#look) this.#watched.delete(connection);
  }

  /** Those that read too slowly to be waited for when memory is short, the largest first. */
  tooSlow(): Outbox[] {
    const found = [...this.#watched.values()].filter(({ isTooSlow }) => isTooSlow);
    return found.sort((one, other) => other.bytes - one.bytes);
  }

  /** It has been closed: its bytes do not wait any more. */
  delete(connection: Connection): void {
    const watched = this.#watched.get(connection);
    if (watched === undefined) return;
    this.#watched.delete(connection);
    if (watched.look === this.#look) this.bytes -= watched.bytes;
  }

  #watch(connection: Connection, now: number): Watched {
    const watched: Watched = {
      connection,
      bytes: 0,
      stalledMs: 0,
      isTooSlow: false,
      meter: new TrafficMeter(),
      progress: null,
      measuredAt: now,
      paceBytes: 0,
      pacedAt: now,
      look: 0,
    };
    this.#watched.set(connection, watched);
    return watched;
  }
}
