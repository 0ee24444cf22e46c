import {
  AckPolicy,
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  StorageType,
} from "@nats-io/jetstream";
import { type KV, Kvm, type KvWatchEntry } from "@nats-io/kv";
import { headers, type NatsConnection } from "@nats-io/transport-node";
import { findStream, isMissing } from "./find-stream.ts";
import type { NatsLink } from "./link.ts";
import type { Passenger } from "./move.ts";

/** A key's value; null where it was deleted. Revisions grow with every change of any key. */
export interface BucketEntry {
  readonly key: string;
  readonly revision: number;
  readonly value: string | null;
}

/** The listener of a bucket. */
export interface BucketListener {
  /** The time of the servers now, Unix time in milliseconds: before each `begin`, and when `tellTime` asks. Left out: it is not asked for. */
  serverTime?(unixMs: number): void;
  /** The watch begins, at first and after every outage. `isRemade`: the bucket was lost since, and this is another one. */
  begin(isRemade: boolean): void;
  /** The current values come first, then every change, each in the order of its revision. After an outage a change may come again. */
  entry(entry: BucketEntry): void;
  /** All that was there has been told: at first, and after every outage. */
  caughtUp(): void;
}

/** What the bucket needs. */
export interface BucketOptions {
  readonly link: NatsLink;
  /** Letters, digits, `-`, `_`. */
  readonly name: string;
  readonly replicas: number;
  /** How long a value is kept that is not written again; 0: without end. */
  readonly maxAgeMs: number;
  readonly listener: BucketListener;
  /** Why it cannot be read, once for each outage. */
  readonly onFailure: (reason: string) => void;
}

/** The revision of a write; or the key has another revision; or it is not known whether it was written. */
export type BucketWrite = number | "conflict" | "unavailable";

/** How long a request to the servers may take. */
const REQUEST_TIMEOUT_MS = 2000;

/** How soon a bucket that could not be read is tried again. */
const RETRY_MS = 500;

/** A watch that has told nothing for this long, and not all that was there, begins anew. */
const STALL_MS = 2000;

/** How often it is looked whether the bucket is still there: a watch of one that was deleted tells nothing. */
const LOOK_MS = 5000;

/** How long an unused consumer lives, in nanoseconds. */
const CONSUMER_LIFE_NS = 5_000_000_000;

/** JetStream's code for a write that expected another last revision. */
const WRONG_LAST_SEQUENCE = 10_071;

/** A watch, and the clients of its connection. */
interface Watch {
  readonly session: Session;
  readonly created: string;
  /** How many keys there were. */
  readonly values: number;
  readonly entries: Awaited<ReturnType<KV["watch"]>>;
}

/** The clients of one connection. */
interface Session {
  readonly js: JetStreamClient;
  readonly manager: JetStreamManager;
  /** `purgeDeletes` is missing in the client's types only. */
  readonly kv: KV & { purgeDeletes(olderThanMs: number): Promise<unknown> };
}

/**
 * A JetStream key-value bucket that is watched as long as the process lives, through every outage.
 *
 * Order:  the watch begins anew whenever the link comes up, so nothing that happened meanwhile is missed. When the link moves to another
 *         connection, a watch there takes over at the revision up to which the one before has told.
 * Errors: none are thrown for a remote fault. The bucket is made where it is missing; one that is deleted while it is watched is noticed
 *         by the next write, or within five seconds.
 */
export class Bucket implements Passenger {
  readonly #options: BucketOptions;
  #session: Session | null = null;
  #stopWatch: () => void = () => {};
  /** On the connection that the link moves to. */
  #next: Watch | null = null;
  #isMoving = false;
  /** The highest that was told. */
  #lastRevision = 0;
  #look: () => void = () => {};
  /** The time by which the bucket that was watched last differs from a later one of its name. */
  #created: string | null = null;
  #round = 0;
  #caughtUp = false;
  #stopped = false;

  constructor(options: BucketOptions) {
    this.#options = options;
  }

  /** Begins with the link's first time up. */
  start(): void {
    this.#options.link.onChange((isUp) => {
      this.#end();
      if (isUp && !this.#stopped) void this.#run(this.#round);
    });
    this.#options.link.onMove(this);
  }

  /** Tried again while the servers choose another leader. */
  async open(next: NatsConnection): Promise<void> {
    this.#isMoving = true;
    const round = this.#round;
    while (this.#isMoving && this.#caughtUp && round === this.#round) {
      const watch = await this.#openWatch(next).catch(() => null);
      if (watch !== null && this.#isMoving && round === this.#round) {
        this.#next = watch;
        return;
      }
      watch?.entries.stop();
      if (watch === null) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  leave(): void {}

  moved(): void {
    this.#isMoving = false;
    if (this.#stopped) return;
    if (this.#next !== null && this.#next.created === this.#created) this.#stopWatch();
    else {
      this.#end();
      void this.#run(this.#round);
    }
  }

  abandoned(): void {
    this.#isMoving = false;
    this.#next?.entries.stop();
    this.#next = null;
  }

  /** Whether all that is there has been heard, and changes are being heard. */
  get isCaughtUp(): boolean {
    return this.#caughtUp;
  }

  /** Writes a value. With `lastRevision` only where that is the key's; 0: where the key was never written. */
  put(key: string, value: string, lastRevision?: number): Promise<BucketWrite> {
    return this.#write(key, value, lastRevision);
  }

  delete(key: string): Promise<BucketWrite> {
    return this.#write(key, null, undefined);
  }

  /** The newest value of a key, a deletion too; null where the key was never written. Errors: rejects where the servers do not say. */
  async get(key: string): Promise<BucketEntry | null> {
    const entry = await this.#open().kv.get(key);
    if (entry === null) return null;
    return { key, revision: entry.revision, value: entry.operation === "PUT" ? entry.string() : null };
  }

  /** Takes one revision out as if it had never been written. Errors: rejects where the servers do not do it. */
  async erase(revision: number): Promise<void> {
    await this.#open().manager.streams.deleteMessage(`KV_${this.#options.name}`, revision, true);
  }

  /** Takes out the traces of keys that were deleted longer ago than this. Errors: as `erase`. */
  async purgeDeleted(olderThanMs: number): Promise<void> {
    await this.#open().kv.purgeDeletes(olderThanMs);
  }

  /** Asks the servers for their time. Errors: rejects where they do not say. */
  async tellTime(): Promise<void> {
    await this.#tellTime(this.#open());
  }

  /** May be called twice. */
  stop(): void {
    this.#stopped = true;
    this.#end();
  }

  #open(): Session {
    if (this.#session === null) throw new Error(`the bucket ${this.#options.name} is out of reach`);
    return this.#session;
  }

  #end(): void {
    this.#round++;
    this.#caughtUp = false;
    this.#session = null;
    this.#next?.entries.stop();
    this.#next = null;
    this.#stopWatch();
    this.#stopWatch = () => {};
    this.#look = () => {};
  }

  async #run(round: number): Promise<void> {
    let isSaid = false;
    while (round === this.#round) {
      try {
        await this.#watch(round);
        if (round !== this.#round) return;
        throw new Error("its watch has ended");
      } catch (error) {
        if (!isSaid && round === this.#round)
          this.#options.onFailure(error instanceof Error ? error.message : String(error));
        isSaid = true;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  /** Resolves when the watch has ended. */
  async #watch(round: number): Promise<void> {
    const { connection } = this.#options.link;
    if (connection === null) throw new Error("there is no connection");
    const first = await this.#openWatch(connection);
    if (round !== this.#round) {
      first.entries.stop();
      return;
    }
    const isRemade = this.#created !== null && this.#created !== first.created;
    this.#created = first.created;
    this.#lastRevision = 0;
    // The listener may write at once.
    this.#session = first.session;
    this.#options.listener.begin(isRemade);
    if (first.values === 0) this.#sayCaughtUp();
    let isGone = false;
    for (let watch: Watch | null = first; watch !== null && !isGone; watch = this.#takeNext()) {
      isGone = await this.#tell(watch, { round, isFirst: watch === first });
      if (round !== this.#round) return;
    }
    this.#session = null;
    this.#caughtUp = false;
    if (isGone) throw new Error(`the bucket ${this.#options.name} was deleted`);
  }

  /** The watch on the connection that the link has moved to, if there is one. */
  #takeNext(): Watch | null {
    const next = this.#next;
    this.#next = null;
    if (!this.#isMoving) return next;
    next?.entries.stop();
    return null;
  }

  /** Tells what a watch says until it ends. Resolves with whether the bucket is gone. */
  async #tell(
    { session, created, values, entries }: Watch,
    { round, isFirst }: { readonly round: number; readonly isFirst: boolean },
  ): Promise<boolean> {
    // A watch that takes over begins with all keys. Not for longer: servers that lost their last writes number the next ones alike.
    let toldBefore = isFirst || values === 0 ? 0 : this.#lastRevision;
    this.#session = session;
    this.#stopWatch = () => entries.stop();
    let isGone = false;
    this.#look = onlyOneAtATime(async () => {
      if (isGone || (await this.#isThere(session, created))) return;
      isGone = true;
      entries.stop();
    });
    // The last of what was there may be erased before it is told: then nothing says that it was the last.
    const stall = setInterval(() => {
      if (!this.#caughtUp && !isTold) entries.stop();
      isTold = false;
    }, STALL_MS);
    const look = setInterval(() => this.#look(), LOOK_MS);
    let isTold = true;
    try {
      for await (const entry of entries) {
        if (round !== this.#round) return isGone;
        isTold = true;
        if (entry.revision > toldBefore) this.#options.listener.entry(toEntry(entry));
        this.#lastRevision = Math.max(toldBefore, entry.revision);
        if (entry.delta !== 0) continue;
        toldBefore = 0;
        this.#sayCaughtUp();
      }
    } finally {
      clearInterval(stall);
      clearInterval(look);
    }
    return isGone;
  }

  async #openWatch(connection: NatsConnection): Promise<Watch> {
    const session = await this.#openSession(connection);
    await this.#tellTime(session);
    const { values, streamInfo } = await session.kv.status();
    return { session, values, created: streamInfo.created, entries: await session.kv.watch() };
  }

  /** A consumer is made for it: the date of its making is the one time that servers before 2.10 tell. */
  async #tellTime({ manager }: Session): Promise<void> {
    const { listener, name } = this.#options;
    if (listener.serverTime === undefined) return;
    const stream = `KV_${name}`;
    const askedAtMs = performance.now();
    const { created, name: consumer } = await manager.consumers.add(stream, {
      ack_policy: AckPolicy.None,
      inactive_threshold: CONSUMER_LIFE_NS,
      mem_storage: true,
    });
    listener.serverTime(Date.parse(created) + (performance.now() - askedAtMs) / 2);
    manager.consumers.delete(stream, consumer).catch(() => {
      // The server removes an unused consumer after CONSUMER_LIFE_NS.
    });
  }

  /** True also where the servers do not say. */
  async #isThere({ manager }: Session, created: string): Promise<boolean> {
    try {
      return (await manager.streams.info(`KV_${this.#options.name}`)).created === created;
    } catch (error) {
      return !isMissing(error);
    }
  }

  async #openSession(connection: NatsConnection): Promise<Session> {
    const { name, replicas, maxAgeMs } = this.#options;
    const options = { timeout: REQUEST_TIMEOUT_MS };
    const js = jetstream(connection, options);
    const manager = await jetstreamManager(connection, options);
    // The client's `create` makes what is missing at once.
    await findStream(manager, `KV_${name}`);
    const kv = await new Kvm(js).create(name, {
      history: 1,
      replicas,
      ttl: maxAgeMs,
      storage: StorageType.File,
      // A replica that lags would say that a lease was not renewed.
      allow_direct: false,
      timeout: REQUEST_TIMEOUT_MS,
    });
    return { js, manager, kv: kv as Session["kv"] };
  }

  #sayCaughtUp(): void {
    if (this.#caughtUp) return;
    this.#caughtUp = true;
    this.#options.listener.caughtUp();
  }

  /** Published by hand, since the client's own `delete` does not tell its revision. */
  async #write(key: string, value: string | null, lastRevision: number | undefined): Promise<BucketWrite> {
    if (this.#session === null) return "unavailable";
    const marked = headers();
    if (value === null) marked.set("KV-Operation", "DEL");
    try {
      const ack = await this.#session.js.publish(`$KV.${this.#options.name}.${key}`, value ?? "", {
        headers: marked,
        timeout: REQUEST_TIMEOUT_MS,
        ...(lastRevision === undefined ? {} : { expect: { lastSubjectSequence: lastRevision } }),
      });
      return ack.seq;
    } catch (error) {
      if (isConflict(error)) return "conflict";
      this.#look();
      return "unavailable";
    }
  }
}

/** Calls while one is under way are left out. */
function onlyOneAtATime(action: () => Promise<void>): () => void {
  let isUnderWay = false;
  return () => {
    if (isUnderWay) return;
    isUnderWay = true;
    void action().finally(() => {
      isUnderWay = false;
    });
  };
}

function toEntry(entry: KvWatchEntry): BucketEntry {
  return { key: entry.key, revision: entry.revision, value: entry.operation === "PUT" ? entry.string() : null };
}

function isConflict(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === WRONG_LAST_SEQUENCE;
}
