import type { DeadLetter, Death, DueDisconnect, Journal, RetryAges, WaitingDisconnect } from "../core/ports/journal.ts";
import type { CloseCause } from "../protocol/close-causes.ts";
import { type ConnectionFacts, copyFacts } from "../protocol/facts.ts";
import { copyDue, type JournalEntries } from "./entries.ts";
import { ReplicaWriter, type ReplicaWriterOptions } from "./replica-writer.ts";

/**
 * A journal whose disk is NATS: a replica in JetStream, from which another node can take over. The state is in memory too.
 *
 * Promise: what was resolved is in the replica.
 * Errors:  while NATS is away, or another node has taken over the replica, `connecting` and `connected` reject; the other writes
 *          resolve and are kept in memory. All that is in memory is in the replica again soon after NATS is back.
 * Source:  decision 0012.
 */
export class JetstreamJournal implements Journal {
  readonly #writer: ReplicaWriter;

  /** Begins to copy as soon as NATS can be reached. */
  constructor(options: ReplicaWriterOptions) {
    this.#writer = new ReplicaWriter(options);
  }

  /** For callers that do not wait: changes made here are copied as soon as possible. */
  get entries(): JournalEntries {
    return this.#writer.changes.entries;
  }

  /** Another form is to be written from now on, since nodes have come or gone. */
  formChanged(): void {
    this.#writer.formChanged();
  }

  /** Whose replica it writes. */
  get nodeId(): string {
    return this.#writer.nodeId;
  }

  /** Whether NATS takes the replica, or has not failed to since it can be reached. */
  get isExpected(): boolean {
    return this.#writer.isExpected;
  }

  /** How many entries the replica is not known to have. Cost: looks at each entry. */
  countUncopied(): number {
    return this.#writer.changes.countUncopied();
  }

  /** True where all but the last changes is in the replica. */
  get isCopying(): boolean {
    return this.#writer.isCopying;
  }

  get isWritable(): boolean {
    return this.#writer.isCopying;
  }

  /**
   * Resolves when all that was called so far is in the replica.
   *
   * Errors: rejects where NATS is away or goes away, and where the replica was taken over. Need not be listened to.
   */
  whenReplicated(): Promise<void> {
    return this.#writer.whenReplicated();
  }

  /**
   * Gives up the replica, which another node takes over or may have taken over, and goes on in a new one under another id.
   *
   * Returns the connections whose entry was in the old replica when last heard of: they are the other node's business, and are
   * forgotten here. Entries that were written but not acknowledged count as not copied, so both may send a connection's disconnect,
   * and never neither.
   */
  moveTo(nodeId: string): string[] {
    return this.#writer.moveTo(nodeId);
  }

  async connecting(facts: ConnectionFacts): Promise<void> {
    this.entries.connecting(copyFacts(facts));
    const held = this.entries.find(facts.connectionId);
    try {
      await this.whenReplicated();
    } catch (error) {
      if (this.entries.find(facts.connectionId) === held) this.entries.settled(facts.connectionId);
      throw error;
    }
  }

  async connected(connectionId: string, userId: string | null): Promise<void> {
    if (!this.entries.connected(connectionId, userId)) throw new Error(`the journal has no connection ${connectionId}`);
    await this.whenReplicated();
  }

  async due(disconnect: DueDisconnect): Promise<number> {
    return this.#keep(this.entries.due(copyDue(disconnect)));
  }

  settled(connectionId: string): Promise<void> {
    return this.#keep(this.entries.settled(connectionId));
  }

  tried(connectionId: string, ages: RetryAges): Promise<void> {
    return this.#keep(this.entries.tried(connectionId, ages));
  }

  died(connectionId: string, death: Death): Promise<void> {
    return this.#keep(this.entries.died(connectionId, death));
  }

  recover(end: CloseCause, nowMs: number): Promise<number> {
    return this.#keep(this.entries.recover(end, nowMs));
  }

  async waiting(afterPlace: number, limit: number): Promise<WaitingDisconnect[]> {
    return this.entries.waiting(afterPlace, limit);
  }

  async read(connectionId: string): Promise<DueDisconnect | null> {
    return this.entries.read(connectionId);
  }

  async deadLetters(afterPlace: number, limit: number): Promise<DeadLetter[]> {
    return this.entries.deadLetters(afterPlace, limit);
  }

  revive(connectionIds: readonly string[] | null, nowMs: number): Promise<number> {
    return this.#keep(this.entries.revive(connectionIds, nowMs));
  }

  drop(connectionIds: readonly string[] | null): Promise<number> {
    return this.#keep(this.entries.drop(connectionIds));
  }

  ageDeadLetters(elapsedMs: number, maxMs: number): Promise<number> {
    return this.#keep(this.entries.ageDeadLetters(elapsedMs, maxMs));
  }

  /** Waits at most two seconds for NATS. A replica in which nothing is owed is removed. */
  close(): Promise<void> {
    return this.#writer.close();
  }

  async #keep<T>(result: T): Promise<T> {
    await this.whenReplicated().catch(() => null);
    return result;
  }
}
