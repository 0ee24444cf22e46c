import { clientPathOf } from "../protocol/client-paths.ts";
import { CLOSE, type ConnectionEnd } from "../protocol/close-causes.ts";
import type { Connection } from "./connection.ts";
import type { Clock } from "./ports/clock.ts";
import type { Registry } from "./registry.ts";

/** The memory of the process. */
export interface ProcessMemory {
  /** Its bytes in RAM. Cost: some 10 µs. */
  residentBytes(): number;
  /** Collects garbage and gives free memory back to the system. Cost: up to some 100 ms. */
  collect(): void;
}

export interface MemoryOptions {
  /** The bytes that may wait in the whole process. */
  readonly maxBufferedBytes: number;
  readonly maxMessageBytes: number;
}

/** The process may grow by so many times `maxBufferedBytes`: what waits takes more memory than it has bytes. */
const GROWTH_FACTOR = 1.5;

/** Growth that is always allowed: garbage of a busy process that is not collected yet. */
const MIN_GROWTH_BYTES = 134_217_728;

/** The memory that an idle open connection may take, garbage of its handshake included. Measured: 3 kB at rest. */
const CONNECTION_BYTES = 8192;

/** A fast client sends some 100 MB in this time. */
const CHECK_INTERVAL_MS = 100;

/** A look is due too when so large a part of `maxBufferedBytes` has come in. */
const LOOKS_PER_BOUND = 16;

/** Garbage is collected from this part of the growth on, so that clients are not refused for garbage. */
const COLLECT_FROM = 0.75;

/** Collections take no more than this part of all time, unless the bound is passed and much has come in since the last. */
const COLLECT_SHARE = 1 / 5;

/** The same after one that has not brought the process back below `COLLECT_FROM`: the memory is in use. */
const FRUITLESS_SHARE = 1 / 100;

/** Memory that was let go is not given back to the system at once: no more clients are closed for it meanwhile. */
const RELEASE_MS = 1000;

/** Bytes beyond whole frames that are fewer than this may be the handshakes, whose size is not kept: Bun takes 16 KiB. */
const MIN_PARTIAL_BYTES = 16_384;

/**
 * A client whose query, claims and path are shorter is not closed for them: half of what each connection may take. Escaped, a query may have
 * 48 KB, which are kept for as long as the connection is open.
 */
const MIN_KEPT_BYTES = CONNECTION_BYTES / 2;

/** A connection, and what is let go when it is closed. */
interface Holder {
  readonly connection: Connection;
  readonly bytes: number;
}

/**
 * Bounds what nothing in this process can count: the parts of messages that are not whole yet, which wait inside Bun, up to
 * `maxMessageBytes` for each connection.
 *
 *     the process has grown by more than 3/4 of what it may ─▶ garbage is collected
 *     by more than it may: 1.5 × maxBufferedBytes           ─▶ no new clients, no messages through the REST API; clients are closed
 *                    (1013): first those in the middle of a message, those without a whole one for the longest time before others;
 *                    then those whose queries, claims and paths are kept, the longest first
 *
 * Growth is measured from the start, at least 128 MiB are allowed, and 8 KiB for each open connection.
 * Cost:   one reading of the process's memory in 100 ms, 11 µs; a system call for each connection while memory is short.
 * Source: decision 0024.
 */
export class MemoryWatch {
  readonly #options: MemoryOptions;
  readonly #registry: Registry;
  readonly #memory: ProcessMemory;
  readonly #clock: Clock;
  readonly #close: (connection: Connection, cause: ConnectionEnd) => void;
  readonly #startBytes: number;
  readonly #cancel: () => void;
  #nextCollectionAt = Number.NEGATIVE_INFINITY;
  #isOver = false;
  /** The bytes that closed clients have let go, and until when they may still be seen. */
  #releasedBytes = 0;
  #releasedUntil = 0;
  /** The bytes that have come in since the last look. */
  #arrivedBytes = 0;

  constructor(parts: {
    options: MemoryOptions;
    registry: Registry;
    memory: ProcessMemory;
    clock: Clock;
    close: (connection: Connection, cause: ConnectionEnd) => void;
  }) {
    this.#options = parts.options;
    this.#registry = parts.registry;
    this.#memory = parts.memory;
    this.#clock = parts.clock;
    this.#close = parts.close;
    this.#startBytes = parts.memory.residentBytes();
    this.#cancel = parts.clock.every(CHECK_INTERVAL_MS, () => this.#check());
  }

  /** Whether the process has grown past its bound. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** To be called for bytes that come into the process and wait in it. */
  arrived(byteCount: number): void {
    this.#arrivedBytes += byteCount;
    if (this.#arrivedBytes * LOOKS_PER_BOUND < this.#options.maxBufferedBytes) return;
    this.#arrivedBytes = 0;
    if (this.#grownBytes() > this.#growthBytes) this.#nextCollectionAt = 0;
    this.#check();
  }

  stop(): void {
    this.#cancel();
  }

  #check(): void {
    const now = this.#clock.now();
    if (this.#isFull() && now >= this.#nextCollectionAt) {
      this.#memory.collect();
      const share = this.#isFull() ? FRUITLESS_SHARE : COLLECT_SHARE;
      this.#nextCollectionAt = now + (this.#clock.now() - now) / share;
    }
    const excess = this.#grownBytes() - this.#growthBytes;
    this.#isOver = excess > 0;
    if (now >= this.#releasedUntil) this.#releasedBytes = 0;
    if (excess > this.#releasedBytes) this.#closeLongest(excess - this.#releasedBytes);
  }

  /** By how much the process may grow. */
  get #growthBytes(): number {
    const forWaiting = Math.max(MIN_GROWTH_BYTES, this.#options.maxBufferedBytes * GROWTH_FACTOR);
    return forWaiting + this.#registry.size * CONNECTION_BYTES;
  }

  /** Whether the process has grown so much that garbage is worth collecting. */
  #isFull(): boolean {
    return this.#grownBytes() > this.#growthBytes * COLLECT_FROM;
  }

  #grownBytes(): number {
    return this.#memory.residentBytes() - this.#startBytes;
  }

  /** Closes clients in the middle of a message, then those with the longest queries, until what they hold makes up for the excess. */
  #closeLongest(excess: number): void {
    const partial: Holder[] = [];
    const kept: Holder[] = [];
    for (const connection of this.#registry.values()) {
      const bytes = this.#partialBytes(connection);
      const pathBytes = clientPathOf(connection)?.length ?? 0;
      const keptBytes = connection.clientQuery.length + connection.claims.length + pathBytes;
      if (bytes >= MIN_PARTIAL_BYTES) partial.push({ connection, bytes });
      else if (keptBytes >= MIN_KEPT_BYTES) kept.push({ connection, bytes: keptBytes });
    }
    partial.sort((one, other) => one.connection.messageAtTick - other.connection.messageAtTick);
    kept.sort((one, other) => other.bytes - one.bytes);
    let left = excess;
    for (const { connection, bytes } of [...partial, ...kept]) {
      if (left <= 0) return;
      left -= bytes;
      this.#releasedBytes += bytes;
      this.#releasedUntil = this.#clock.now() + RELEASE_MS;
      this.#close(connection, CLOSE.bufferLimit);
    }
  }

  /**
   * The bytes that have arrived beyond whole messages, at most the size of one. Where the system does not tell, or messages come
   * compressed, it may be anything: it counts as all.
   */
  #partialBytes({ socket, frameBytes }: Connection): number {
    if (socket === null) return 0;
    const { maxMessageBytes } = this.#options;
    const traffic = socket.isCompressed ? null : socket.readTraffic();
    if (traffic === null) return maxMessageBytes;
    return Math.min(maxMessageBytes, traffic.received - frameBytes);
  }
}
