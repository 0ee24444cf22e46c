import type { DeadLetter, DueDisconnect, Journal, WaitingDisconnect } from "../core/ports.ts";
import type { CloseCause } from "../protocol/close-causes.ts";
import type { ConnectionFacts } from "../protocol/events.ts";
import { Checkpointer } from "./checkpointer.ts";
import { JournalThread } from "./journal-thread.ts";
import { dueWrite, KeptWrites, readPages } from "./kept-writes.ts";
import {
  type BatchOutcome,
  isDemanding,
  isKeepable,
  isRead,
  journalPath,
  type Operation,
  PLACES_AT_ONCE,
  type Result,
  type Synchronous,
  toFactsRow,
} from "./operation.ts";

/** How often a disk that did not take a write is tried again. */
const RETRY_MS = 1000;

/** Pauses before a thread that died is started again: the first, doubled each time, up to the last. */
const FIRST_RESTART_MS = 50;
const MAX_RESTART_MS = 5000;

/** How many kept writes are tried at once: about five milliseconds of the thread's, and one of the event loop's. */
const WRITES_PER_TRY = 1000;

/** How long `close` waits for the disk. */
const CLOSE_LIMIT_MS = 5000;

/** What the operator should hear of the journal. */
export interface JournalReport {
  /** The file was damaged: it stands under `movedTo` now. `reason` also says how much the new one has of it. */
  damaged(movedTo: string, reason: string): void;
  /** Called when `isWritable` turns false. */
  unwritable(reason: string): void;
  /** Called when `isWritable` turns true again. */
  writable(): void;
}

/** What the journal needs of the gateway. */
export interface SqliteJournalOptions {
  /** Its folder, made with mode 0700 where it is missing. */
  readonly dataDir: string;
  /** `normal`: what was resolved survives a crash of the process. `full`: a power cut too; every batch waits for the disk. */
  readonly synchronous: Synchronous;
  readonly report: JournalReport;
}

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
 * Errors: what is kept counts as done: `due`, `settled`, `died` and `recover` resolve, and reads see them. While the disk takes
 *         nothing `connecting`, `connected`, `revive`, `drop` and `dropDiedBefore` reject at once, with the last reason.
 *         `connected` also rejects where the journal has no such connection: its file was damaged meanwhile.
 *         A read that the file cannot answer rejects.
 */
export class SqliteJournal implements Journal {
  readonly #options: SqliteJournalOptions;
  readonly #kept = new KeptWrites();
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
  }

  /**
   * Opens the journal, or makes a new one.
   *
   * Errors: rejects where no later try will do better: a newer version wrote the file, or the path cannot be one. Where the
   *         disk is full, fails or is read-only it resolves with a journal that is not writable and tries once a second;
   *         until the file is there it reads nothing, and `recover` resolves with 0 although some may turn up later.
   */
  static async open(options: SqliteJournalOptions): Promise<SqliteJournal> {
    const journal = new SqliteJournal(options);
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

  async connecting(facts: ConnectionFacts): Promise<void> {
    await this.#ask(["connecting", toFactsRow(facts)]);
  }

  async connected(connectionId: string, userId: string): Promise<void> {
    if ((await this.#ask(["connected", connectionId, userId])) === 0) {
      throw new Error(`the journal has no connection ${connectionId}`);
    }
  }

  async due(disconnect: DueDisconnect): Promise<number> {
    const place = this.#takePlaces(1);
    await this.#ask(dueWrite(place, disconnect));
    return place;
  }

  async settled(connectionId: string): Promise<void> {
    await this.#ask(["settled", connectionId]);
  }

  async died(connectionId: string, diedAtMs: number, cause: string): Promise<void> {
    await this.#ask(["died", this.#takePlaces(1), connectionId, diedAtMs, cause]);
  }

  recover(end: CloseCause, nowMs: number): Promise<number> {
    return this.#ask(["recover", this.#takePlaces(PLACES_AT_ONCE), end.code, end.reason, nowMs]) as Promise<number>;
  }

  waiting(afterPlace: number, limit: number): Promise<WaitingDisconnect[]> {
    const ask = (from: number) => this.#ask(["waiting", from, limit]) as Promise<WaitingDisconnect[]>;
    return readPages({ afterPlace, limit, ask, correct: (page, range) => this.#kept.correctWaiting(page, range) });
  }

  async read(connectionId: string): Promise<DueDisconnect | null> {
    const found = (await this.#ask(["read", connectionId])) as DueDisconnect | null;
    const kept = this.#kept.find(connectionId);
    return kept === undefined ? found : kept;
  }

  deadLetters(afterPlace: number, limit: number): Promise<DeadLetter[]> {
    const ask = (from: number) => this.#ask(["deadLetters", from, limit]) as Promise<DeadLetter[]>;
    return readPages({ afterPlace, limit, ask, correct: (page) => this.#kept.correctDead(page) });
  }

  revive(connectionIds: readonly string[] | null, nowMs: number): Promise<number> {
    const firstPlace = this.#takePlaces(connectionIds?.length ?? PLACES_AT_ONCE);
    return this.#ask(["revive", firstPlace, nowMs, connectionIds]) as Promise<number>;
  }

  drop(connectionIds: readonly string[] | null): Promise<number> {
    return this.#ask(["drop", connectionIds]) as Promise<number>;
  }

  dropDiedBefore(timeMs: number): Promise<number> {
    return this.#ask(["dropDiedBefore", timeMs]) as Promise<number>;
  }

  /**
   * What is called afterwards writes nothing: a crash could not lose more. What the disk still does not take is lost, and so
   * is what it has not taken within 5 s: a disk that hangs must not keep the process from ending.
   */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  #takePlaces(count: number): number {
    const first = this.#nextPlace;
    this.#nextPlace += count;
    return first;
  }

  #ask(operation: Operation): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    if (this.#closing !== null) {
      if (isKeepable(operation)) resolve(0);
      else reject(new Error("the journal is closed"));
    } else if (!this.#isWritable && isDemanding(operation)) {
      reject(refusal(this.#lastFailure));
    } else {
      this.#queue.push({ operation, resolve, reject });
      this.#scheduleFlush();
    }
    return promise;
  }

  /** An immediate, not a microtask: whatever sockets bring in this turn goes with it. */
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
    else if (reads.length > 0) void this.#send(this.#kept.neededBy(reads.map(({ operation }) => operation)), reads);
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
        // A fault of ours behind a batch that was written: the process hears of it, and the batch stays as it is.
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
      // If it was, nobody would ever settle it: its connect event is not posted now.
      if (operation[0] === "connecting") this.#kept.keep(["settled", operation[1][0]]);
    }
    this.#settle(batch, { failure: error.message, results: null });
    return false;
  }

  #settle(batch: readonly Pending[], { failure, results }: BatchOutcome): void {
    for (const [index, { operation, resolve, reject }] of batch.entries()) {
      const result = results?.[index];
      if (failure !== null && isKeepable(operation)) {
        this.#kept.keep(operation);
        resolve(result ?? 0);
      } else if (result !== undefined && (failure === null || isRead(operation))) resolve(result);
      else reject(refusal(failure ?? "no result"));
    }
  }

  #failed(reason: string): void {
    this.#lastFailure = reason;
    if (this.#isWritable) {
      this.#isWritable = false;
      this.#options.report.unwritable(reason);
    }
    this.#scheduleRetry(RETRY_MS);
  }

  #recovered(): void {
    if (this.#isWritable) return;
    this.#isWritable = true;
    this.#options.report.writable();
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

  /** What is asked meanwhile has its turn between two tries. */
  async #tryKept(): Promise<void> {
    for (;;) {
      while (this.#flight !== null) await this.#flight;
      if (!this.#isFileOpen || this.#isWritable || this.#closing !== null) return;
      if (!(await this.#writeSomeKept())) return;
      if (this.#kept.isEmpty) {
        this.#recovered();
        return;
      }
      this.#flush();
    }
  }

  /** With the probe, since a write that changes no row proves nothing. */
  async #writeSomeKept(): Promise<boolean> {
    const some = this.#kept.first(WRITES_PER_TRY);
    const isWritten = await this.#send([["probe"], ...some], []);
    if (isWritten) this.#kept.forget(some);
    return isWritten;
  }

  /** Null where it is open, else why not. */
  async #openFile(): Promise<{ reason: string; hopeless: boolean } | null> {
    const { dataDir, synchronous, report } = this.#options;
    this.#thread ??= new JournalThread({
      damaged: (movedTo, reason) => report.damaged(movedTo, reason),
      died: (reason) => this.#threadDied(reason),
    });
    try {
      const answer = await this.#thread.ask<"opened" | "unopened">(["open", dataDir, synchronous]);
      if (answer[0] === "unopened") return { reason: answer[1], hopeless: answer[2] };
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
    const delayMs = this.#restartMs;
    this.#restartMs = Math.min(2 * delayMs, MAX_RESTART_MS);
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    this.#scheduleRetry(delayMs);
    this.#failed(reason);
  }

  async #end(): Promise<void> {
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer);
    const limit = setTimeout(() => {
      this.#thread?.end();
      this.#checkpointer.giveUp();
    }, CLOSE_LIMIT_MS);
    while (this.#flight !== null) await this.#flight;
    if (this.#immediate !== null) clearImmediate(this.#immediate);
    this.#flush();
    while (this.#flight !== null) await this.#flight;
    while (this.#isFileOpen && !this.#kept.isEmpty && (await this.#writeSomeKept()));
    await this.#checkpointer.end();
    if (this.#isFileOpen) await this.#thread?.ask<"closed">(["close"]).catch(() => null);
    this.#isFileOpen = false;
    this.#thread?.end();
    this.#thread = null;
    clearTimeout(limit);
  }
}

function refusal(reason: string): Error {
  return new Error(`the journal of connections: ${reason}`);
}
