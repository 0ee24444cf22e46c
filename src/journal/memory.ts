import type { DeadLetter, DueDisconnect, Journal, WaitingDisconnect } from "../core/ports.ts";
import type { CloseCause } from "../protocol/close-causes.ts";
import type { ConnectionFacts } from "../protocol/events.ts";

/** One connection, in one of the states of the port's drawing. */
type Entry =
  | { readonly state: "connecting" | "connected"; readonly facts: ConnectionFacts }
  | { readonly state: "due"; readonly due: DueDisconnect; readonly place: number }
  | { readonly state: "dead"; readonly letter: DeadLetter };

/** The journal in memory: the contract without its promise. What is in it ends with the process. */
export class MemoryJournal implements Journal {
  readonly isWritable = true;
  readonly #entries = new Map<string, Entry>();
  #lastPlace = 0;

  async connecting(facts: ConnectionFacts): Promise<void> {
    this.#entries.set(facts.connectionId, { state: "connecting", facts: copyFacts(facts) });
  }

  async connected(connectionId: string, userId: string): Promise<void> {
    const entry = this.#entries.get(connectionId);
    if (entry?.state !== "connecting" && entry?.state !== "connected") {
      throw new Error(`the journal has no connection ${connectionId}`);
    }
    this.#entries.set(connectionId, { state: "connected", facts: { ...entry.facts, userId } });
  }

  async due({ facts, ...rest }: DueDisconnect): Promise<number> {
    const place = ++this.#lastPlace;
    this.#entries.set(facts.connectionId, { state: "due", due: { facts: copyFacts(facts), ...rest }, place });
    return place;
  }

  async settled(connectionId: string): Promise<void> {
    this.#entries.delete(connectionId);
  }

  async died(connectionId: string, diedAtMs: number, cause: string): Promise<void> {
    const entry = this.#entries.get(connectionId);
    if (entry?.state !== "due") return;
    const letter = { ...entry.due, diedAtMs, cause, place: ++this.#lastPlace };
    this.#entries.set(connectionId, { state: "dead", letter });
  }

  async recover(end: CloseCause, nowMs: number): Promise<number> {
    let count = 0;
    for (const entry of [...this.#entries.values()]) {
      if (entry.state !== "connecting" && entry.state !== "connected") continue;
      const connectOutcomeUnknown = entry.state === "connecting";
      await this.due({ facts: entry.facts, end, connectOutcomeUnknown, dueSinceMs: nowMs });
      count++;
    }
    return count;
  }

  async waiting(afterPlace: number, limit: number): Promise<WaitingDisconnect[]> {
    const waiting: WaitingDisconnect[] = [];
    for (const entry of this.#entries.values()) {
      if (entry.state !== "due" || entry.place <= afterPlace) continue;
      const { connectionId, hub } = entry.due.facts;
      waiting.push({ connectionId, hub, place: entry.place, dueSinceMs: entry.due.dueSinceMs });
    }
    return waiting.sort((one, other) => one.place - other.place).slice(0, limit);
  }

  async read(connectionId: string): Promise<DueDisconnect | null> {
    const entry = this.#entries.get(connectionId);
    return entry?.state === "due" ? entry.due : null;
  }

  async deadLetters(afterPlace: number, limit: number): Promise<DeadLetter[]> {
    return this.#dead()
      .filter(({ place }) => place > afterPlace)
      .slice(0, limit);
  }

  async revive(connectionIds: readonly string[] | null, nowMs: number): Promise<number> {
    const letters = this.#chosen(connectionIds);
    for (const { facts, end, connectOutcomeUnknown } of letters) {
      await this.due({ facts, end, connectOutcomeUnknown, dueSinceMs: nowMs });
    }
    return letters.length;
  }

  async drop(connectionIds: readonly string[] | null): Promise<number> {
    return this.#forget(this.#chosen(connectionIds));
  }

  async dropDiedBefore(timeMs: number): Promise<number> {
    return this.#forget(this.#dead().filter(({ diedAtMs }) => diedAtMs < timeMs));
  }

  async close(): Promise<void> {}

  /** In the order of their places. */
  #dead(): DeadLetter[] {
    const dead = [...this.#entries.values()].flatMap((entry) => (entry.state === "dead" ? [entry.letter] : []));
    return dead.sort((one, other) => one.place - other.place);
  }

  #chosen(connectionIds: readonly string[] | null): DeadLetter[] {
    if (connectionIds === null) return this.#dead();
    const entries = [...new Set(connectionIds)].map((id) => this.#entries.get(id));
    return entries.flatMap((entry) => (entry?.state === "dead" ? [entry.letter] : []));
  }

  #forget(letters: readonly DeadLetter[]): number {
    for (const { facts } of letters) this.#entries.delete(facts.connectionId);
    return letters.length;
  }
}

/** A connection's facts change while it lives; what is kept must not. */
function copyFacts({ connectionId, hub, userId, claims, clientQuery, forwardedFor }: ConnectionFacts): ConnectionFacts {
  return { connectionId, hub, userId, claims, clientQuery, forwardedFor };
}
