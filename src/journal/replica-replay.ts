import type { JournalEntry } from "../core/ports/journal.ts";
import type { ReplicaMessage, ReplicaRecord } from "./replica-message.ts";

/** A snapshot of which some parts have been read. */
interface OpenSnapshot {
  readonly author: string;
  /** The number and part that the next part must have. */
  nextNumber: number;
  nextPart: number;
  readonly entries: Map<string, JournalEntry>;
}

/**
 * The state that a node's replica adds up to, message by message.
 *
 *     batch ─▶ entries ◀─ all at once, by its last part ─ snapshot
 *
 * Order: entries come out in the order in which they got into their state, as far as the replica has it.
 */
export class ReplicaReplay {
  #entries = new Map<string, JournalEntry>();
  #snapshot: OpenSnapshot | null = null;

  get entries(): JournalEntry[] {
    return [...this.#entries.values()];
  }

  read(message: ReplicaMessage): void {
    switch (message.kind) {
      case "batch":
        this.#snapshot = null;
        for (const record of message.records) apply(record, this.#entries);
        break;
      case "snapshot":
        this.#readPart(message);
        break;
      case "fence":
        break;
    }
  }

  /** One of which a part is missing counts as never begun: what is older than it is still there. */
  #readPart({ author, number, part, isLast, records }: ReplicaMessage): void {
    if (part === 0) this.#snapshot = { author, nextNumber: number, nextPart: 0, entries: new Map() };
    const snapshot = this.#snapshot;
    const isNext = snapshot?.author === author && snapshot.nextNumber === number && snapshot.nextPart === part;
    if (snapshot === null || !isNext) {
      this.#snapshot = null;
      return;
    }
    snapshot.nextNumber++;
    snapshot.nextPart++;
    for (const record of records) apply(record, snapshot.entries);
    if (!isLast) return;
    this.#entries = snapshot.entries;
    this.#snapshot = null;
  }
}

function apply({ connectionId, change }: ReplicaRecord, entries: Map<string, JournalEntry>): void {
  if (change?.state !== "named") {
    if (change?.state !== "connected") entries.delete(connectionId);
    if (change !== null) entries.set(connectionId, change);
    return;
  }
  const entry = entries.get(connectionId);
  if (entry?.state !== "connecting" && entry?.state !== "connected") return;
  entries.set(connectionId, { state: "connected", facts: { ...entry.facts, userId: change.userId } });
}
