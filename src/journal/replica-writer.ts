import { randomBytes } from "node:crypto";
import type { Report } from "../protocol/notices.ts";
import { GatherPause } from "./gather-pause.ts";
import { type Records, ReplicaChanges } from "./replica-changes.ts";
import { formatMessage, parseMessage, type ReplicaMessageHead } from "./replica-message.ts";
import type { ReplicaStream } from "./replica-stream.ts";
import { ReplicaWaiters, refusedWait } from "./replica-waiters.ts";

/** A message is full past this; see `ReplicaStream.maxMessageBytes` for the server's own bound. */
const FULL_BYTES = 256 * 1024;

/** What a message costs in the stream besides its records: subject, headers, the server's own. */
const MESSAGE_BYTES = 256;

/** A snapshot is due when what was written since the last is larger than this, and than twice that one. */
const MIN_BYTES_BETWEEN_SNAPSHOTS = 1024 * 1024;

/** Pauses after a failure while NATS is reachable: the first, doubled each time, up to the last. */
const FIRST_RETRY_MS = 250;
const MAX_RETRY_MS = 5000;

/** How often a replica is checked while nothing is written to it: it may have been deleted. */
const LOOK_MS = 5000;

/** How long the end waits for what is not copied yet. */
const CLOSE_LIMIT_MS = 2000;

/** What the writer needs. */
export interface ReplicaWriterOptions {
  readonly nodeId: string;
  readonly stream: ReplicaStream;
  /** The form that every node reads: see `formChanged`. */
  readonly form: () => number;
  readonly report: Report;
  /** Nothing more is written until `moveTo`. */
  readonly onFenced: () => void;
}

/** The replica goes to another node, or ends, while a message was under way. */
class Superseded extends Error {}
class Fenced extends Error {}

/**
 * Writes this node's replica: one message at a time, each behind the one that it knows to be last.
 *
 *     away ─▶ catching up: set-up, snapshot ─▶ copying: one message behind the other, now and then a snapshot
 *      ▲                  │ failed                  │ failed           │
 *      └── pause or link ─┴─────────────────────────┘                  └─▶ fenced ─ moveTo ─▶ catching up
 *
 * Order:  changes that a caller waits for are written as soon as the message before them is in the replica; other changes gather for 20 ms.
 * Errors: none: every failure ends in a new snapshot, so the replica is whole again by its last part.
 * Cost:   a snapshot is due when the replica has grown to three times the last one, so it costs each change a constant share.
 */
export class ReplicaWriter {
  readonly changes: ReplicaChanges;
  readonly #stream: ReplicaStream;
  readonly #options: ReplicaWriterOptions;
  readonly #author = randomBytes(6).toString("base64url");
  #nodeId: string;
  #phase: "away" | "catching-up" | "copying" | "fenced" | "closed" = "away";
  /** Raised when the message under way is not waited for any more. */
  #life = 0;
  #isWorking = false;
  #isStopSaid = false;
  #number = 0;
  /** The stream that was written to, the replica's last message there as far as it is known, and the last one acked. */
  #streamId = "";
  #lastSequence = 0;
  #ackedSequence = 0;
  #snapshotBytes = 0;
  #bytesSinceSnapshot = 0;
  readonly #waiters = new ReplicaWaiters();
  readonly #pause = new GatherPause();
  /** The last message was full, and there is more. */
  #isBehind = false;
  /** The newest form that the replica has, and whether that is one that a node does not read. */
  #newestWritten = 0;
  #mustRewrite = false;
  #retryMs = FIRST_RETRY_MS;
  #retryTimer: ReturnType<typeof setTimeout> | null = null;
  #closing: Promise<void> | null = null;
  readonly #lookTimer: ReturnType<typeof setInterval>;

  constructor(options: ReplicaWriterOptions) {
    this.#options = options;
    this.#stream = options.stream;
    this.#nodeId = options.nodeId;
    const maxBytes = () => options.stream.maxMessageBytes - MESSAGE_BYTES;
    this.changes = new ReplicaChanges({
      bounds: {
        get fullBytes() {
          return Math.min(FULL_BYTES, maxBytes());
        },
        get maxBytes() {
          return maxBytes();
        },
      },
      form: () => options.form(),
      changed: () => this.#wake(),
      report: options.report,
    });
    this.#lookTimer = setInterval(() => void this.#look(), LOOK_MS);
    options.stream.onChange((isUp) => (isUp ? this.#begin() : this.#failed("the connection to NATS was lost")));
  }

  get nodeId(): string {
    return this.#nodeId;
  }

  get isCopying(): boolean {
    return this.#phase === "copying";
  }

  /** Whether NATS takes the replica, or has not failed to since it can be reached. */
  get isExpected(): boolean {
    return this.#phase === "copying" || (this.#phase === "catching-up" && !this.#isStopSaid);
  }

  /** Resolves when all that has changed so far is in the replica; rejects where NATS goes away or the node was fenced. */
  whenReplicated(): Promise<void> {
    if (this.#phase !== "copying" && this.#phase !== "catching-up") return refusedWait(this.#refusalReason());
    const { isInFlight } = this.#waiters;
    if (this.changes.hasChanges || (this.#phase === "catching-up" && !isInFlight)) {
      this.#pause.endSoon();
      return this.#waiters.forNext();
    }
    return isInFlight ? this.#waiters.forCurrent() : Promise.resolve();
  }

  /** There may be a node that reads older forms only: where the replica has a newer one, all of it is written anew. */
  formChanged(): void {
    if (this.#newestWritten <= this.#options.form()) return;
    this.#mustRewrite = true;
    this.#wake();
  }

  /** Goes on under another id, in a new replica; see `JetstreamJournal.moveTo`. */
  moveTo(nodeId: string): string[] {
    this.#abandon("the node goes on under another id");
    const copied = this.changes.dropCopied();
    this.#nodeId = nodeId;
    this.#ackedSequence = 0;
    if (this.#phase !== "closed") {
      this.#phase = "away";
      if (this.#stream.isUp) this.#begin();
    }
    return copied;
  }

  /** Waits a while for what is not copied yet. Removes the replica where nothing is owed. May be called twice. */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    clearInterval(this.#lookTimer);
    const copied = this.whenReplicated();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_LIMIT_MS);
    });
    const end = copied.then(() => {
      const isOver = this.isCopying && this.changes.entries.size === 0;
      return isOver ? this.#stream.remove(this.#nodeId) : undefined;
    });
    await Promise.race([end.catch(() => null), limit]);
    clearTimeout(timer);
    this.#abandon("the journal is closed");
    this.#phase = "closed";
  }

  #refusalReason(): string {
    if (this.#phase === "fenced") return `another node has taken over the replica of ${this.#nodeId}`;
    return this.#phase === "closed" ? "the journal is closed" : "the journal is not being copied to NATS";
  }

  #begin(): void {
    if (this.#phase !== "away") return;
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    this.#phase = "catching-up";
    this.#wake();
  }

  #wake(): void {
    if (this.#isWorking || (this.#phase !== "catching-up" && this.#phase !== "copying")) return;
    this.#isWorking = true;
    void this.#work(this.#life);
  }

  /** Whether the replica is as it was left: a stream that was deleted tells nobody, and a crash would then lose all that is owed. */
  async #look(): Promise<void> {
    if (this.#phase !== "copying" || this.#isWorking) return;
    const [life, sequence] = [this.#life, this.#lastSequence];
    const cause = await this.#stream.last(this.#nodeId).then(
      (last) =>
        (last?.sequence ?? 0) === sequence ? null : `the replica in ${this.#stream.name} is not as it was left`,
      (error: Error) => `${this.#stream.name}: ${error.message}`,
    );
    const isQuiet = this.#phase === "copying" && !this.#isWorking;
    if (cause !== null && isQuiet && life === this.#life && sequence === this.#lastSequence) this.#failed(cause);
  }

  async #work(life: number): Promise<void> {
    try {
      for (;;) {
        if (this.#phase === "catching-up") await this.#catchUp(life);
        else if (this.#mustRewrite) await this.#writeSnapshot(life, false);
        else if (this.changes.hasChanges || this.#waiters.areWaiting) await this.#copyChanges(life);
        else break;
      }
      this.#isWorking = false;
    } catch (error) {
      if (life !== this.#life || error instanceof Superseded) return;
      if (error instanceof Fenced) this.#fenced();
      else this.#failed(error instanceof Error ? error.message : String(error));
    }
  }

  async #catchUp(life: number): Promise<void> {
    const streamId = await this.#stream.setUp();
    const last = await this.#stream.last(this.#nodeId);
    this.#check(life);
    const message = last === null ? null : parseMessage(last.bytes);
    if (message?.kind === "fence") throw new Fenced();
    const isOurs = message?.author === this.#author && (last?.sequence ?? 0) >= this.#ackedSequence;
    if (this.#ackedSequence > 0 && !(isOurs && streamId === this.#streamId)) this.changes.forgetCopied();
    this.#streamId = streamId;
    this.#lastSequence = last?.sequence ?? 0;
    const { size } = this.changes.entries;
    await this.#writeSnapshot(life, last === null);
    this.#phase = "copying";
    this.#retryMs = FIRST_RETRY_MS;
    this.#isStopSaid = false;
    this.#options.report({ kind: "replica-complete", count: size });
  }

  async #writeSnapshot(life: number, isLogEmpty: boolean): Promise<void> {
    const snapshot = this.changes.startSnapshot();
    this.#newestWritten = 0;
    this.#mustRewrite = false;
    this.#waiters.takeOff({ withAll: true });
    this.#snapshotBytes = 0;
    this.#bytesSinceSnapshot = 0;
    if (snapshot.size > 0 || !isLogEmpty) {
      let firstSequence = 0;
      for (let part = 0, isLast = false; !isLast; part++) {
        const records = snapshot.next();
        isLast = records.isLast;
        await this.#publish(life, { kind: "snapshot", part, isLast }, records);
        if (part === 0) firstSequence = this.#lastSequence;
        this.#snapshotBytes += records.bytes + MESSAGE_BYTES;
      }
      this.changes.acked();
      this.#waiters.land();
      // The rest is removed behind the next snapshot.
      if (!isLogEmpty) await this.#stream.purge(this.#nodeId, firstSequence).catch(() => null);
      this.#check(life);
    } else this.#waiters.land();
  }

  async #copyChanges(life: number): Promise<void> {
    if (!this.#isBehind && !this.#waiters.areWaiting) await this.#pause.start();
    this.#check(life);
    const batch = this.changes.takeBatch();
    this.#isBehind = this.changes.hasChanges;
    this.#waiters.takeOff({ withAll: !this.#isBehind });
    if (batch.bytes > 0) {
      await this.#publish(life, { kind: "batch", part: 0, isLast: true }, batch);
      this.#bytesSinceSnapshot += batch.bytes + MESSAGE_BYTES;
    }
    this.changes.acked();
    this.#waiters.land();
    const bound = Math.max(MIN_BYTES_BETWEEN_SNAPSHOTS, 2 * this.#snapshotBytes);
    if (this.#bytesSinceSnapshot > bound) await this.#writeSnapshot(life, false);
  }

  /** Where it was refused, or nobody answered, the replica's last message tells whether it is this one. */
  async #publish(
    life: number,
    kind: Pick<ReplicaMessageHead, "kind" | "part" | "isLast">,
    records: Records,
  ): Promise<void> {
    const head = { ...kind, author: this.#author, number: ++this.#number };
    const nodeId = this.#nodeId;
    this.#newestWritten = Math.max(this.#newestWritten, records.form);
    let sequence: number;
    try {
      sequence = await this.#stream.append(nodeId, formatMessage(head, records), this.#lastSequence);
    } catch (error) {
      this.#check(life);
      const last = await this.#stream.last(nodeId);
      const message = last === null ? null : parseMessage(last.bytes);
      if (message?.kind === "fence") throw new Fenced();
      if (last === null || message?.author !== head.author || message.number !== head.number) throw error;
      sequence = last.sequence;
    }
    this.#check(life);
    this.#lastSequence = sequence;
    this.#ackedSequence = sequence;
  }

  #check(life: number): void {
    if (life !== this.#life) throw new Superseded();
  }

  #fenced(): void {
    this.#abandon(`another node has taken over the replica of ${this.#nodeId}`);
    this.#phase = "fenced";
    this.#options.report({ kind: "replica-fenced", nodeId: this.#nodeId });
    this.#options.onFenced();
  }

  #failed(cause: string): void {
    if (this.#phase === "fenced" || this.#phase === "closed") return;
    this.#abandon(`the journal's replica has stopped: ${cause}`);
    this.#phase = "away";
    if (!this.#isStopSaid) this.#options.report({ kind: "replica-stopped", cause });
    this.#isStopSaid = true;
    if (!this.#stream.isUp) return;
    this.#retryTimer = setTimeout(() => this.#begin(), this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, MAX_RETRY_MS);
  }

  /** The message that is under way is not waited for any more. */
  #abandon(reason: string): void {
    this.#life++;
    this.#isWorking = false;
    this.#isBehind = false;
    this.#pause.end();
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    this.changes.stop();
    this.#waiters.fail(reason);
  }
}
