import type { ConnectionFacts } from "../protocol/facts.ts";
import { watchFiles } from "../storage/database-file.ts";
import type { FileWatch } from "../storage/file-watch.ts";
import { Checkpointer } from "./checkpointer.ts";
import { FileMirror } from "./file-mirror.ts";
import { JournalThread } from "./journal-thread.ts";
import { KeptWrites } from "./kept-writes.ts";
import {
  type BatchOutcome,
  isDemanding,
  isKeepable,
  isRead,
  journalPath,
  type Operation,
  type Result,
  refusedBy,
} from "./operation.ts";
import type { SqliteJournalOptions } from "./sqlite-options.ts";

/** How often a disk that did not take a write is tried again. */
const RETRY_MS = 1000;

/** How often it is looked whether the path still leads to the open file. */
const LOOK_MS = 1000;

/** Pauses before a thread that died is started again: the first, doubled each time, up to the last. */
const FIRST_RESTART_MS = 50;
const MAX_RESTART_MS = 5000;

/** How many writes from memory are tried at once: about five milliseconds of the thread's, and one of the event loop's. */
const WRITES_PER_TRY = 1000;

/** How long `close` waits for the disk. */
const CLOSE_LIMIT_MS = 5000;

/** An operation whose caller waits. */
interface Pending {
  readonly operation: Operation;
  resolve(result: Result): void;
  reject(error: Error): void;
}

/**
 * Keeps the journal in `journal.sqlite`, with all work for the disk in a thread of its own.
 *
 *     calls of one turn ─▶ [ queue ] ─▶ one batch in flight ─▶ the thread: one transaction
 *                             ▲              │ not taken
 *     the next ones gather ───┘              ▼
 *                                        [ kept ] ─▶ tried once a second, the first thousand first, until all is written
 *
 *     the file removed or emptied ─▶ not writable ─▶ a new file ─▶ [ mirror ] written into it ─▶ [ kept ] ─▶ writable
 *
 * Errors: what is kept counts as done: `due`, `tried`, `settled`, `died` and `recover` resolve, and reads see them. While the disk takes
 *         nothing `connecting`, `connected`, `revive`, `drop` and `ageDeadLetters` reject at once, with the last reason.
 *         `connected` also rejects where the journal has no such connection: its file was damaged meanwhile.
 *         A read that the file cannot answer rejects.
 */
export class JournalQueue {
  readonly #options: SqliteJournalOptions;
  /** The writes that the disk did not take. */
  readonly kept = new KeptWrites();
  readonly #mirror = new FileMirror();
  readonly #files: FileWatch;
  readonly #lookTimer: ReturnType<typeof setInterval>;
  /** The open file is not the one that the path leads to. */
  #isFileLost = false;
  #recheck: Promise<void> | null = null;
  readonly #checkpointer: Checkpointer;
  #queue: Pending[] = [];
  #thread: JournalThread | null = null;
  #isFileOpen = false;
  #isWritable = true;
  #lastFailure = "its file is not open";
  #nextPlace = 1;
  /** A flush that is to come, and one that is under way. */
  #immediate: NodeJS.Immediate | null = null;
  #flight: Promise<unknown> | null = null;
  #retryTimer: ReturnType<typeof setTimeout> | null = null;
  #restartMs = FIRST_RESTART_MS;
  #closing: Promise<void> | null = null;

  private constructor(options: SqliteJournalOptions) {
    this.#options = options;
    this.#checkpointer = new Checkpointer(journalPath(options.dataDir));
    this.#files = watchFiles(journalPath(options.dataDir));
    this.#lookTimer = setInterval(() => this.checkFile(), LOOK_MS);
  }

  /**
   * Opens the journal, or makes a new one.
   *
   * Errors: rejects where no later try will do better: a newer version wrote the file, or the path cannot be one. Where the
   *         disk is full, fails or is read-only it resolves with a journal that is not writable and tries once a second;
   *         until the file is there it reads nothing, and `recover` resolves with 0 although some may turn up later.
   */
  static async open(options: SqliteJournalOptions): Promise<JournalQueue> {
    const journal = new JournalQueue(options);
    const failure = await journal.#openFile();
    if (failure === null) return journal;
    if (failure.hopeless) {
      await journal.close();
      throw new Error(`the journal cannot be opened: ${failure.reason}`);
    }
    journal.#failed(failure.reason);
    return journal;
  }

  get isWritable(): boolean {
    return this.#isWritable;
  }

  /** How many calls wait for their batch. */
  get length(): number {
    return this.#queue.length;
  }

  /**
   * Looks whether the path still leads to the open file; false where it does not. `isWritable` is false then until a new file has
   * all that is known. Called once a second, and to be called where somebody asks for the health.
   */
  checkFile(): boolean {
    if (!this.#isFileOpen || this.#closing !== null) return true;
    const loss = this.#files.findLoss();
    const again = (): void => {
      this.#recheck = null;
      this.checkFile();
    };
    // The thread may be just putting a new file in the place of a damaged one.
    if (loss !== null && this.#flight === null) this.#fileLost(loss);
    else if (loss !== null) this.#recheck ??= this.#flight?.then(again) ?? null;
    return loss === null;
  }

  /**
   * Later calls write nothing: a crash could not lose more. Writes that the disk still does not take are lost, and so
   * is what it has not taken within 5 s: a disk that hangs must not keep the process from ending.
   */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  get #hasUnwritten(): boolean {
    return !this.#mirror.isWritten || !this.kept.isEmpty;
  }

  /** Places that no other call gets; returns the first. */
  takePlaces(count: number): number {
    const first = this.#nextPlace;
    this.#nextPlace += count;
    return first;
  }

  /**
   * Carries an operation out behind those that were asked before, or keeps it. `connecting`: the facts of that operation, which are
   * kept until the connection is settled. Errors: see above.
   */
  ask(operation: Operation, connecting: ConnectionFacts | null = null): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    if (this.#closing !== null) {
      if (isKeepable(operation)) resolve(0);
      else reject(new Error("the journal is closed"));
    } else if (!this.#isWritable && isDemanding(operation)) {
      reject(refusedBy(this.#lastFailure));
    } else {
      if (connecting === null) this.#mirror.note(operation);
      else this.#mirror.begin(connecting);
      this.#queue.push({ operation, resolve, reject });
      this.#scheduleFlush();
    }
    return promise;
  }

  /** An immediate, not a microtask: all that sockets bring in this turn goes with it. */
  #scheduleFlush(): void {
    if (this.#flight !== null) return;
    this.#immediate ??= setImmediate(() => {
      this.#immediate = null;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#flight !== null || this.#queue.length === 0) return;
    const batch = this.#queue;
    this.#queue = [];
    if (this.#isFileOpen && this.#isWritable) {
      void this.#send([], batch);
      return;
    }
    const unwritten = { failure: this.#lastFailure, results: null };
    const reads = batch.filter(({ operation }) => isRead(operation));
    const writes = batch.filter(({ operation }) => !isRead(operation));
    this.#settle(writes, unwritten);
    if (!this.#isFileOpen) this.#settle(reads, unwritten);
    else if (reads.length > 0) void this.#send(this.kept.neededBy(reads.map(({ operation }) => operation)), reads);
  }

  /** Sends what is kept and `first`, then the batch, as one transaction. Resolves with whether it was written. */
  #send(first: readonly Operation[], batch: readonly Pending[]): Promise<boolean> {
    const operations = [...first, ...batch.map(({ operation }) => operation)];
    const asked =
      this.#thread?.ask<"batch">(["batch", operations, this.#checkpointer.takeFinish()]) ??
      Promise.reject(new Error(this.#lastFailure));
    const sent = asked.then(
      ([, outcome]) => this.#landed(first.length, batch, outcome),
      (error: Error) => this.#lost(batch, error),
    );
    const flight = sent
      .catch((error) => {
        // A bug in hubwire after a batch was written: it is thrown in the process, and the batch stays written.
        setImmediate(() => {
          throw error;
        });
        return false;
      })
      .finally(() => {
        this.#flight = null;
        if (this.#queue.length > 0) this.#scheduleFlush();
      });
    this.#flight = flight;
    return flight;
  }

  #landed(firstLength: number, batch: readonly Pending[], { failure, results }: BatchOutcome): boolean {
    this.#restartMs = FIRST_RESTART_MS;
    this.#settle(batch, { failure, results: results?.slice(firstLength) ?? null });
    const hasWrite = firstLength > 0 || batch.some(({ operation }) => !isRead(operation));
    if (failure !== null && hasWrite) this.#failed(failure);
    this.#checkpointer.wrote(firstLength + batch.length);
    return failure === null;
  }

  /** The thread died with the batch: nobody knows whether it was written. */
  #lost(batch: readonly Pending[], error: Error): false {
    for (const { operation } of batch) {
      // If it was, it would never be settled: its connect event is not posted now.
      if (operation[0] === "connecting") this.kept.keep(["settled", operation[1][0]]);
    }
    this.#settle(batch, { failure: error.message, results: null });
    return false;
  }

  #settle(batch: readonly Pending[], { failure, results }: BatchOutcome): void {
    for (const [index, { operation, resolve, reject }] of batch.entries()) {
      const result = results?.[index];
      if (failure !== null && isKeepable(operation)) {
        this.kept.keep(operation);
        resolve(result ?? 0);
      } else if (result !== undefined && (failure === null || isRead(operation))) resolve(result);
      else {
        if (operation[0] === "connecting") this.#mirror.note(["settled", operation[1][0]]);
        reject(refusedBy(failure ?? "no result"));
      }
    }
  }

  #failed(reason: string): void {
    this.#lastFailure = reason;
    if (this.#isWritable) {
      this.#isWritable = false;
      this.#options.report({ kind: "journal-unwritable", reason });
    }
    this.#scheduleRetry(RETRY_MS);
  }

  #recovered(): void {
    if (this.#isWritable) return;
    this.#isWritable = true;
    this.#options.report({ kind: "journal-writable" });
  }

  #scheduleRetry(delayMs: number): void {
    if (this.#closing !== null) return;
    this.#retryTimer ??= setTimeout(() => {
      this.#retryTimer = null;
      void this.#retry();
    }, delayMs);
  }

  async #retry(): Promise<void> {
    while (this.#flight !== null) await this.#flight;
    if (this.#isWritable || this.#closing !== null) return;
    if (!this.#isFileOpen) {
      const failure = await this.#openFile();
      if (failure !== null) {
        this.#scheduleRetry(RETRY_MS);
        return;
      }
    }
    await this.#tryKept();
  }

  /** Calls that come meanwhile have their turn between two tries. */
  async #tryKept(): Promise<void> {
    for (;;) {
      while (this.#flight !== null) await this.#flight;
      if (!this.#isFileOpen || this.#isWritable || this.#closing !== null) return;
      if (!(await this.#writeSome())) return;
      if (!this.#hasUnwritten) {
        this.#recovered();
        return;
      }
      this.#flush();
    }
  }

  /** The rows that a new file lacks come first, then the kept writes. With the probe, since a write that changes no row proves nothing. */
  async #writeSome(): Promise<boolean> {
    if (!this.#mirror.isWritten) {
      const isMirrored = await this.#send([["probe"], ...this.#mirror.next(WRITES_PER_TRY)], []);
      if (isMirrored) this.#mirror.wrote();
      return isMirrored;
    }
    const some = this.kept.first(WRITES_PER_TRY);
    const isWritten = await this.#send([["probe"], ...some], []);
    if (isWritten) this.kept.forget(some);
    return isWritten;
  }

  /** Behind a damaged file that the thread has replaced: connections on pages that could not be read are known here. */
  async #writeMirror(): Promise<void> {
    while (this.#isFileOpen && this.#isWritable && this.#closing === null && !this.#mirror.isWritten) {
      while (this.#flight !== null) await this.#flight;
      await this.#writeSome();
    }
  }

  #fileLost(reason: string): void {
    this.#isFileOpen = false;
    this.#isFileLost = true;
    this.#mirror.startAnew();
    this.#options.report({ kind: "journal-lost", reason });
    // Before the pause that a failure would set.
    this.#scheduleRetry(0);
    this.#failed(reason);
  }

  #damaged(movedTo: string, reason: string): void {
    this.#options.report({ kind: "journal-damaged", movedTo, reason });
    this.#mirror.startAnew();
    this.#files.begin();
    void this.#writeMirror();
  }

  /** Null where it is open, else why not. */
  async #openFile(): Promise<{ reason: string; hopeless: boolean } | null> {
    const { dataDir, synchronous } = this.#options;
    this.#thread ??= new JournalThread({
      damaged: (movedTo, reason) => this.#damaged(movedTo, reason),
      died: (reason) => this.#threadDied(reason),
    });
    try {
      const open = this.#isFileLost
        ? (["replace", this.#lastFailure] as const)
        : (["open", dataDir, synchronous] as const);
      const answer = await this.#thread.ask<"opened" | "unopened">(open);
      if (answer[0] === "unopened") return { reason: answer[1], hopeless: answer[2] };
      this.#files.begin();
      this.#isFileLost = false;
      this.#isFileOpen = true;
      this.#nextPlace = Math.max(this.#nextPlace, answer[1]);
      return null;
    } catch (error) {
      return { reason: error instanceof Error ? error.message : String(error), hopeless: false };
    }
  }

  #threadDied(reason: string): void {
    this.#thread = null;
    this.#isFileOpen = false;
    this.#isFileLost = false;
    const delayMs = this.#restartMs;
    this.#restartMs = Math.min(2 * delayMs, MAX_RESTART_MS);
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    this.#scheduleRetry(delayMs);
    this.#failed(reason);
  }

  async #end(): Promise<void> {
    clearInterval(this.#lookTimer);
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer);
    const limit = setTimeout(() => {
      this.#thread?.end();
      this.#checkpointer.giveUp();
    }, CLOSE_LIMIT_MS);
    while (this.#flight !== null) await this.#flight;
    if (this.#immediate !== null) clearImmediate(this.#immediate);
    this.#flush();
    while (this.#flight !== null) await this.#flight;
    while (this.#isFileOpen && this.#hasUnwritten && (await this.#writeSome()));
    await this.#checkpointer.end();
    if (this.#isFileOpen) await this.#thread?.ask<"closed">(["close"]).catch(() => null);
    this.#isFileOpen = false;
    this.#thread?.end();
    this.#thread = null;
    clearTimeout(limit);
  }
}
