import type { DeadLetter, Death, DueDisconnect, Journal, RetryAges, WaitingDisconnect } from "../core/ports/journal.ts";
import type { CloseCause } from "../protocol/close-causes.ts";
import { type ConnectionFacts, copyFacts } from "../protocol/facts.ts";
import { copyDue, JournalEntries } from "./entries.ts";

/** The journal in memory: the contract without its promise. Its entries end with the process. */
export class MemoryJournal implements Journal {
  readonly isWritable = true;
  readonly #entries = new JournalEntries();

  async connecting(facts: ConnectionFacts): Promise<void> {
    this.#entries.connecting(copyFacts(facts));
  }

  async connected(connectionId: string, userId: string | null): Promise<void> {
    if (!this.#entries.connected(connectionId, userId))
      throw new Error(`the journal has no connection ${connectionId}`);
  }

  async due(disconnect: DueDisconnect): Promise<number> {
    return this.#entries.due(copyDue(disconnect));
  }

  async settled(connectionId: string): Promise<void> {
    this.#entries.settled(connectionId);
  }

  async tried(connectionId: string, ages: RetryAges): Promise<void> {
    this.#entries.tried(connectionId, ages);
  }

  async died(connectionId: string, death: Death): Promise<void> {
    this.#entries.died(connectionId, death);
  }

  async recover(end: CloseCause, nowMs: number): Promise<number> {
    return this.#entries.recover(end, nowMs);
  }

  async waiting(afterPlace: number, limit: number): Promise<WaitingDisconnect[]> {
    return this.#entries.waiting(afterPlace, limit);
  }

  async read(connectionId: string): Promise<DueDisconnect | null> {
    return this.#entries.read(connectionId);
  }

  async deadLetters(afterPlace: number, limit: number): Promise<DeadLetter[]> {
    return this.#entries.deadLetters(afterPlace, limit);
  }

  async revive(connectionIds: readonly string[] | null, nowMs: number): Promise<number> {
    return this.#entries.revive(connectionIds, nowMs);
  }

  async drop(connectionIds: readonly string[] | null): Promise<number> {
    return this.#entries.drop(connectionIds);
  }

  async ageDeadLetters(elapsedMs: number, maxMs: number): Promise<number> {
    return this.#entries.ageDeadLetters(elapsedMs, maxMs);
  }

  async close(): Promise<void> {}
}
