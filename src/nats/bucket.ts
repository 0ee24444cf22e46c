import {
  AckPolicy,
  JetStreamApiError,
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  StorageType,
} from "@nats-io/jetstream";
import { type KV, Kvm, type KvWatchEntry } from "@nats-io/kv";
import { headers } from "@nats-io/transport-node";
import type { NatsLink } from "./link.ts";

/** A key's value; null where it was deleted. Revisions grow with every change of any key. */
export interface BucketEntry {
  readonly key: string;
  readonly revision: number;
  readonly value: string | null;
}

/** What a bucket is told of by. */
export interface BucketListener {
  /** The time of the servers now, Unix time in milliseconds: before each `begin`, and when `tellTime` asks. Left out: it is not asked for. */
  serverTime?(unixMs: number): void;
  /** The watch begins, at first and after every outage. `isRemade`: the bucket was lost since, and this is another one. */
  begin(isRemade: boolean): void;
  /** What is there comes first, then every change, each in the order of its revision. After an outage what was heard may come again. */
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
  /** How long a value is kept that nobody writes again; 0: for ever. */
  readonly maxAgeMs: number;
  readonly listener: BucketListener;
  /** Why it cannot be read, once for each outage. */
  readonly onFailure: (reason: string) => void;
}

/** The revision of a write; or a value of another revision stands there; or nobody knows whether it was written. */
export type BucketWrite = number | "conflict" | "unavailable";

/** How long a request to the servers may take. */
const REQUEST_TIMEOUT_MS = 2000;

/** How soon a bucket that could not be read is tried again. */
const RETRY_MS = 500;

/** A watch that has told nothing for this long, and not all that was there, begins anew. */
const STALL_MS = 2000;

/** How often it is looked whether the bucket is still there: a watch of one that was deleted tells nothing. */
const LOOK_MS = 5000;

/** How long a consumer lives that nobody uses, in nanoseconds. */
const CONSUMER_LIFE_NS = 5_000_000_000;

/** JetStream's code for a write that expected another last revision. */
const WRONG_LAST_SEQUENCE = 10_071;

/** The clients of one time up. */
interface Session {
  readonly js: JetStreamClient;
  readonly manager: JetStreamManager;
  /** `purgeDeletes` is missing in the client's types only. */
  readonly kv: KV & { purgeDeletes(olderThanMs: number): Promise<unknown> };
}

/**
 * A JetStream key-value bucket that is watched as long as the process lives, through every outage.
 *
 * Order:  the watch begins anew whenever the link comes up, so nothing that happened meanwhile is missed.
 * Errors: none are thrown for a remote fault. The bucket is made where it is missing; one that is deleted while it is watched is noticed
 *         by the next write, or within five seconds.
 */
export class Bucket {
  readonly #options: BucketOptions;
  #session: Session | null = null;
  #stopWatch: () => void = () => {};
  #look: () => void = () => {};
  /** What tells the bucket that was watched last from a later one of its name. */
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

  /** What stands there now, a deletion too; null where the key was never written. Errors: rejects where the servers do not say. */
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
    const session = await this.#openSession();
    await this.#tellTime(session);
    const { values, streamInfo } = await session.kv.status();
    if (round !== this.#round) return;
    const watch = await session.kv.watch();
    if (round !== this.#round) {
      watch.stop();
      return;
    }
    this.#session = session;
    this.#stopWatch = () => watch.stop();
    let isGone = false;
    this.#look = onlyOneAtATime(async () => {
      if (isGone || (await this.#isThere(session, streamInfo.created))) return;
      isGone = true;
      watch.stop();
    });
    const isRemade = this.#created !== null && this.#created !== streamInfo.created;
    this.#created = streamInfo.created;
    this.#options.listener.begin(isRemade);
    if (values === 0) this.#sayCaughtUp();
    // The last of what was there may be erased before it is told: then nothing says that it was the last.
    const stall = setInterval(() => {
      if (!this.#caughtUp && !isTold) watch.stop();
      isTold = false;
    }, STALL_MS);
    const look = setInterval(() => this.#look(), LOOK_MS);
    let isTold = true;
    try {
      for await (const entry of watch) {
        if (round !== this.#round) return;
        isTold = true;
        this.#options.listener.entry(toEntry(entry));
        if (entry.delta === 0) this.#sayCaughtUp();
      }
    } finally {
      clearInterval(stall);
      clearInterval(look);
    }
    this.#session = null;
    this.#caughtUp = false;
    if (isGone) throw new Error(`the bucket ${this.#options.name} was deleted`);
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
      // It ends by itself.
    });
  }

  /** True also where the servers do not say. */
  async #isThere({ manager }: Session, created: string): Promise<boolean> {
    try {
      return (await manager.streams.info(`KV_${this.#options.name}`)).created === created;
    } catch (error) {
      return !(error instanceof JetStreamApiError && error.status === 404);
    }
  }

  async #openSession(): Promise<Session> {
    const { link, name, replicas, maxAgeMs } = this.#options;
    const { connection } = link;
    if (connection === null) throw new Error("there is no connection");
    const options = { timeout: REQUEST_TIMEOUT_MS };
    const js = jetstream(connection, options);
    const manager = await jetstreamManager(connection, options);
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
