import type {
  DeadLetter,
  Death,
  DueDisconnect,
  JournalEntry,
  RetryAges,
  WaitingDisconnect,
} from "../core/ports/journal.ts";
import type { CloseCause } from "../protocol/close-causes.ts";
import { dialectOf } from "../protocol/dialect-names.ts";
import { type ConnectionFacts, copyFacts } from "../protocol/facts.ts";

/**
 * What the replica between nodes has of a connection: surely nothing, perhaps something, or surely an entry. Kept here, since a
 * separate set would cost more than the entries do.
 */
export type Trace = "none" | "perhaps" | "copied";

/** One connection, in one of the states of the port's drawing. */
export interface HeldEntry {
  entry: JournalEntry;
  /** Its place among the waiting or the dead; 0 where it is neither. */
  place: number;
  trace: Trace;
  /** Of a dead letter: what `JournalEntries.keptMs` was when it died. */
  keptFromMs: number;
}

/** Hears of every change; `now` is undefined where the entry was removed. */
export type EntryListener = (connectionId: string, before: HeldEntry | undefined, now: HeldEntry | undefined) => void;

/** Of an event that has not been tried yet. */
const NEW_AGES: RetryAges = { triedForMs: 0, refusedForMs: 0 };

/**
 * The journal's entries in memory: what each call of the port does to them, without any promise.
 *
 * Order:  iterated in the order of connecting, and those that are waiting or dead in that of their places, behind.
 * Cost:   about 200 bytes for each, besides its strings, which are the caller's.
 */
export class JournalEntries {
  readonly #held = new Map<string, HeldEntry>();
  readonly #changed: EntryListener;
  #lastPlace = 0;
  #keptMs = 0;

  constructor(changed: EntryListener = () => {}) {
    this.#changed = changed;
  }

  get size(): number {
    return this.#held.size;
  }

  find(connectionId: string): HeldEntry | undefined {
    return this.#held.get(connectionId);
  }

  /** An entry that changes while this is walked through is met once more where it moved to the end. */
  all(): MapIterator<[string, HeldEntry]> {
    return this.#held.entries();
  }

  /** Takes the facts as they are: see `copyFacts`. */
  connecting(facts: ConnectionFacts): void {
    const before = this.#held.get(facts.connectionId);
    this.#held.delete(facts.connectionId);
    this.#put(facts.connectionId, before, {
      entry: { state: "connecting", facts },
      place: 0,
      trace: "none",
      keptFromMs: 0,
    });
  }

  /** False where there is no such connection. */
  connected(connectionId: string, userId: string | null): boolean {
    const held = this.#held.get(connectionId);
    if (held?.entry.state !== "connecting" && held?.entry.state !== "connected") return false;
    const { facts } = held.entry;
    held.entry = { state: "connected", facts: facts.userId === userId ? facts : { ...facts, userId } };
    this.#changed(connectionId, held, held);
    return true;
  }

  due(due: DueDisconnect): number {
    return this.#move(due.facts.connectionId, { state: "due", due });
  }

  tried(connectionId: string, { triedForMs, refusedForMs }: RetryAges): void {
    const held = this.#held.get(connectionId);
    if (held?.entry.state !== "due") return;
    held.entry = { state: "due", due: { ...held.entry.due, triedForMs, refusedForMs } };
    this.#changed(connectionId, held, held);
  }

  settled(connectionId: string): void {
    const held = this.#held.get(connectionId);
    if (held === undefined) return;
    this.#held.delete(connectionId);
    this.#changed(connectionId, held, undefined);
  }

  /** Drops an entry without telling of it. */
  forget(connectionId: string): void {
    this.#held.delete(connectionId);
  }

  died(connectionId: string, death: Death): void {
    const entry = this.#held.get(connectionId)?.entry;
    if (entry?.state === "due") this.buried({ ...entry.due, ...death });
  }

  /** A dead letter as it is, in the place of an earlier state. */
  buried(letter: Omit<DeadLetter, "place">): void {
    this.#move(letter.facts.connectionId, { state: "dead", letter }, this.#keptMs - letter.keptForMs);
  }

  recover(end: CloseCause, nowMs: number): number {
    let count = 0;
    for (const { entry } of [...this.#held.values()]) {
      if (entry.state !== "connecting" && entry.state !== "connected") continue;
      const connectOutcomeUnknown = entry.state === "connecting";
      this.due({ facts: entry.facts, end, connectOutcomeUnknown, dueSinceMs: nowMs, ...NEW_AGES });
      count++;
    }
    return count;
  }

  waiting(afterPlace: number, limit: number): WaitingDisconnect[] {
    const waiting: WaitingDisconnect[] = [];
    for (const { entry, place } of this.#held.values()) {
      if (waiting.length >= limit) break;
      if (entry.state !== "due" || place <= afterPlace) continue;
      const { facts, triedForMs, refusedForMs } = entry.due;
      const { connectionId, hub } = facts;
      waiting.push({ connectionId, hub, dialect: dialectOf(facts), place, triedForMs, refusedForMs });
    }
    return waiting;
  }

  read(connectionId: string): DueDisconnect | null {
    const entry = this.#held.get(connectionId)?.entry;
    return entry?.state === "due" ? entry.due : null;
  }

  deadLetters(afterPlace: number, limit: number): DeadLetter[] {
    return this.#dead()
      .filter(({ place }) => place > afterPlace)
      .slice(0, limit);
  }

  revive(connectionIds: readonly string[] | null, nowMs: number): number {
    const letters = this.#chosen(connectionIds);
    for (const { facts, end, connectOutcomeUnknown, nth } of letters) {
      const owed = { facts, end, connectOutcomeUnknown, ...(nth === undefined ? {} : { nth }) };
      this.due({ ...owed, dueSinceMs: nowMs, ...NEW_AGES });
    }
    return letters.length;
  }

  drop(connectionIds: readonly string[] | null): number {
    return this.#settleAll(this.#chosen(connectionIds));
  }

  ageDeadLetters(elapsedMs: number, maxMs: number): number {
    this.#keptMs += elapsedMs;
    return this.#settleAll(this.#dead().filter(({ keptForMs }) => keptForMs >= maxMs));
  }

  /** How long a dead letter has been kept. */
  keptForMs({ keptFromMs }: HeldEntry): number {
    return this.#keptMs - keptFromMs;
  }

  /** To the end, under a new place: so those with a place are in the order of their places. */
  #move(connectionId: string, entry: JournalEntry, keptFromMs = 0): number {
    const place = ++this.#lastPlace;
    const held = this.#held.get(connectionId);
    if (held === undefined) {
      this.#put(connectionId, undefined, { entry, place, trace: "none", keptFromMs });
      return place;
    }
    held.entry = entry;
    held.place = place;
    held.keptFromMs = keptFromMs;
    this.#held.delete(connectionId);
    this.#put(connectionId, held, held);
    return place;
  }

  #put(connectionId: string, before: HeldEntry | undefined, now: HeldEntry): void {
    this.#held.set(connectionId, now);
    this.#changed(connectionId, before, now);
  }

  #dead(): DeadLetter[] {
    const dead: DeadLetter[] = [];
    for (const held of this.#held.values()) {
      const { entry, place } = held;
      if (entry.state === "dead") dead.push({ ...entry.letter, keptForMs: this.keptForMs(held), place });
    }
    return dead;
  }

  #chosen(connectionIds: readonly string[] | null): DeadLetter[] {
    if (connectionIds === null) return this.#dead();
    return [...new Set(connectionIds)].flatMap((id) => {
      const held = this.#held.get(id);
      return held?.entry.state === "dead" ? [{ ...held.entry.letter, place: held.place }] : [];
    });
  }

  #settleAll(letters: readonly DeadLetter[]): number {
    for (const { facts } of letters) this.settled(facts.connectionId);
    return letters.length;
  }
}

/** A due disconnect that later changes of its connection leave as it is. */
export function copyDue({ facts, ...due }: DueDisconnect): DueDisconnect {
  return { ...due, facts: copyFacts(facts) };
}

/** The facts of an entry's connection, in any state. */
export function factsOf(entry: JournalEntry): ConnectionFacts {
  switch (entry.state) {
    case "due":
      return entry.due.facts;
    case "dead":
      return entry.letter.facts;
    default:
      return entry.facts;
  }
}
