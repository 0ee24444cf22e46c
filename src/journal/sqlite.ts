import type { DeadLetter, Death, DueDisconnect, Journal, RetryAges, WaitingDisconnect } from "../core/ports/journal.ts";
import type { CloseCause } from "../protocol/close-causes.ts";
import { type ConnectionFacts, formatUserId, toFactsRow } from "../protocol/facts.ts";
import { JournalQueue } from "./journal-queue.ts";
import { dueWrite, readPages } from "./kept-writes.ts";
import { PLACES_AT_ONCE, toAgesRow } from "./operation.ts";
import type { SqliteJournalOptions } from "./sqlite-options.ts";

/** The journal in `journal.sqlite`: each call of the port as an operation on the file, corrected by what the disk did not take. */
export class SqliteJournal implements Journal {
  readonly #queue: JournalQueue;

  private constructor(queue: JournalQueue) {
    this.#queue = queue;
  }

  /** Opens the journal, or makes a new one. Errors: as `JournalQueue.open`. */
  static async open(options: SqliteJournalOptions): Promise<SqliteJournal> {
    return new SqliteJournal(await JournalQueue.open(options));
  }

  get isWritable(): boolean {
    return this.#queue.isWritable;
  }

  /** How many calls wait for the disk. */
  get queueLength(): number {
    return this.#queue.length;
  }

  /** See `JournalQueue.checkFile`. */
  checkFile(): boolean {
    return this.#queue.checkFile();
  }

  async connecting(facts: ConnectionFacts): Promise<void> {
    await this.#queue.ask(["connecting", toFactsRow(facts)], facts);
  }

  async connected(connectionId: string, userId: string | null): Promise<void> {
    if ((await this.#queue.ask(["connected", connectionId, formatUserId(userId)])) === 0) {
      throw new Error(`the journal has no connection ${connectionId}`);
    }
  }

  async due(disconnect: DueDisconnect): Promise<number> {
    const place = this.#queue.takePlaces(1);
    await this.#queue.ask(dueWrite(place, disconnect));
    return place;
  }

  async settled(connectionId: string): Promise<void> {
    await this.#queue.ask(["settled", connectionId]);
  }

  async tried(connectionId: string, ages: RetryAges): Promise<void> {
    await this.#queue.ask(["tried", connectionId, toAgesRow(ages)]);
  }

  async died(connectionId: string, death: Death): Promise<void> {
    await this.#queue.ask(["died", this.#queue.takePlaces(1), connectionId, death]);
  }

  recover(end: CloseCause, nowMs: number): Promise<number> {
    return this.#queue.ask([
      "recover",
      this.#queue.takePlaces(PLACES_AT_ONCE),
      end.code,
      end.reason,
      nowMs,
    ]) as Promise<number>;
  }

  waiting(afterPlace: number, limit: number): Promise<WaitingDisconnect[]> {
    const ask = (from: number) => this.#queue.ask(["waiting", from, limit]) as Promise<WaitingDisconnect[]>;
    return readPages({
      afterPlace,
      limit,
      ask,
      correct: (page, range) => this.#queue.kept.correctWaiting(page, range),
    });
  }

  async read(connectionId: string): Promise<DueDisconnect | null> {
    const found = (await this.#queue.ask(["read", connectionId])) as DueDisconnect | null;
    const kept = this.#queue.kept.find(connectionId);
    return kept === undefined ? found : kept;
  }

  deadLetters(afterPlace: number, limit: number): Promise<DeadLetter[]> {
    const ask = (from: number) => this.#queue.ask(["deadLetters", from, limit]) as Promise<DeadLetter[]>;
    return readPages({ afterPlace, limit, ask, correct: (page) => this.#queue.kept.correctDead(page) });
  }

  revive(connectionIds: readonly string[] | null, nowMs: number): Promise<number> {
    const firstPlace = this.#queue.takePlaces(connectionIds?.length ?? PLACES_AT_ONCE);
    return this.#queue.ask(["revive", firstPlace, nowMs, connectionIds]) as Promise<number>;
  }

  drop(connectionIds: readonly string[] | null): Promise<number> {
    return this.#queue.ask(["drop", connectionIds]) as Promise<number>;
  }

  ageDeadLetters(elapsedMs: number, maxMs: number): Promise<number> {
    return this.#queue.ask(["ageDeadLetters", elapsedMs, maxMs]) as Promise<number>;
  }

  /** See `JournalQueue.close`. */
  close(): Promise<void> {
    return this.#queue.close();
  }
}
