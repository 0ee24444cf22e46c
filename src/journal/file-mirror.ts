import { type ConnectionFacts, formatUserId, parseUserId, toFactsRow } from "../protocol/facts.ts";
import { type Operation, withAges } from "./operation.ts";

/** How many bytes of waiting disconnects are mirrored; those beyond are in the file alone. */
const MAX_DUE_BYTES = 16 * 1024 * 1024;

/** What a waiting disconnect costs besides its strings. */
const DUE_BYTES = 200;

type Due = Extract<Operation, readonly ["due", ...unknown[]]>;

/**
 * The contents that the journal's file should have, in memory: a file that is removed or emptied is written anew from it.
 *
 * Bound: a reference to each connection, and 16 MiB of waiting disconnects that this process was told
 *        of. Entries that an earlier process left, and dead letters, are in the file only.
 * Cost:  about 40 bytes for each connection.
 */
export class FileMirror {
  /** Those whose connect event has no answer yet, and those whose has: by id. */
  readonly #connecting = new Map<string, ConnectionFacts>();
  readonly #connected = new Map<string, ConnectionFacts>();
  readonly #due = new Map<string, Due>();
  #dueBytes = 0;
  /** The entries that are still to be written into a new file; null where there are no more. */
  #rest: Iterator<readonly Operation[]> | null = null;
  /** The entries that were taken and are not written yet. */
  #taken: Operation[] = [];

  /** A connection's first write. Its facts are kept as they are, and read when a new file is written. */
  begin(facts: ConnectionFacts): void {
    this.#connecting.set(facts.connectionId, facts);
  }

  /** To be called with each later write, in the order in which the file is asked for them. */
  note(operation: Operation): void {
    switch (operation[0]) {
      case "connected":
        this.#accept(operation[1], operation[2]);
        break;
      case "due":
        this.#remove(operation[2][0]);
        this.#addDue(operation);
        break;
      case "tried": {
        const due = this.#due.get(operation[1]);
        if (due !== undefined) this.#due.set(operation[1], withAges(due, operation[2]));
        break;
      }
      case "settled":
        this.#remove(operation[1]);
        break;
      case "died":
        this.#remove(operation[2]);
        break;
      default:
    }
  }

  /** Whether the file holds what is here, as far as is known. */
  get isWritten(): boolean {
    return this.#rest === null;
  }

  /** The file is a new one: all that is here is to be written into it. */
  startAnew(): void {
    this.#taken = [];
    this.#rest = this.#writes();
  }

  /** The writes to be written next, about so many; the same ones until `wrote` is called. */
  next(count: number): readonly Operation[] {
    while (this.#taken.length < count) {
      const step = this.#rest?.next();
      if (step === undefined || step.done === true) break;
      this.#taken.push(...step.value);
    }
    return this.#taken;
  }

  /** The entries that `next` returned are in the file. */
  wrote(): void {
    if (this.#taken.length === 0) this.#rest = null;
    this.#taken = [];
  }

  /** Maps are walked through as they change: what was removed meanwhile is not met, what came is. */
  *#writes(): Generator<readonly Operation[]> {
    // A connection may go from one to the other meanwhile, and never back: in this order it is met.
    for (const facts of this.#connecting.values()) yield [["connecting", toFactsRow(facts)]];
    for (const facts of this.#connected.values()) {
      yield [
        ["connecting", toFactsRow(facts)],
        ["connected", facts.connectionId, formatUserId(facts.userId)],
      ];
    }
    for (const due of this.#due.values()) yield [due];
  }

  #accept(id: string, userIdText: string): void {
    const facts = this.#connecting.get(id);
    if (facts === undefined) return;
    this.#connecting.delete(id);
    const userId = parseUserId(userIdText);
    this.#connected.set(id, facts.userId === userId ? facts : { ...facts, userId });
  }

  #addDue(due: Due): void {
    const bytes = bytesOf(due);
    if (this.#dueBytes + bytes > MAX_DUE_BYTES) return;
    this.#dueBytes += bytes;
    this.#due.set(due[2][0], due);
  }

  #remove(id: string): void {
    if (this.#connecting.delete(id) || this.#connected.delete(id)) return;
    const due = this.#due.get(id);
    if (due === undefined) return;
    this.#dueBytes -= bytesOf(due);
    this.#due.delete(id);
  }
}

/** A string takes one byte a character or two. */
function bytesOf([, , facts]: Due): number {
  return facts.reduce((sum, text) => sum + 2 * text.length, DUE_BYTES);
}
