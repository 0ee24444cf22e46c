import { type FactsRow, type Operation, withAges } from "./operation.ts";

/** How many bytes of waiting disconnects are mirrored; those beyond are in the file alone. */
const MAX_DUE_BYTES = 16 * 1024 * 1024;

/** What a waiting disconnect costs beside its strings. */
const DUE_BYTES = 200;

type Due = Extract<Operation, readonly ["due", ...unknown[]]>;

/** A connection's row; `isConnected` once its connect event was answered. */
interface Live {
  row: FactsRow;
  isConnected: boolean;
}

/**
 * What the journal's file should hold, in memory: a file that is removed or emptied is written anew from it.
 *
 * Bound: an entry for each connection, which shares its strings, and 16 MiB of waiting disconnects that this process was told
 *        of. What an earlier process left, and dead letters, are in the file alone.
 * Cost:  about 150 bytes for each connection.
 */
export class FileMirror {
  readonly #live = new Map<string, Live>();
  readonly #due = new Map<string, Due>();
  #dueBytes = 0;
  /** What is still to be written into a new file; null where nothing is. */
  #rest: Iterator<readonly Operation[]> | null = null;
  /** What was taken and is not written yet. */
  #taken: Operation[] = [];

  /** To be called with each write, in the order in which the file is asked for them. */
  note(operation: Operation): void {
    switch (operation[0]) {
      case "connecting":
        this.#live.set(operation[1][0], { row: operation[1], isConnected: false });
        break;
      case "connected":
        this.#connected(operation[1], operation[2]);
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

  /** What `next` returned is in the file. */
  wrote(): void {
    if (this.#taken.length === 0) this.#rest = null;
    this.#taken = [];
  }

  /** Maps are walked through as they change: what was removed meanwhile is not met, what came is. */
  *#writes(): Generator<readonly Operation[]> {
    for (const [id, { row, isConnected }] of this.#live) {
      const begun: Operation = ["connecting", row];
      yield isConnected ? [begun, ["connected", id, row[2]]] : [begun];
    }
    for (const due of this.#due.values()) yield [due];
  }

  #connected(id: string, userId: string): void {
    const live = this.#live.get(id);
    if (live === undefined) return;
    const [, hub, before, ...rest] = live.row;
    if (userId !== before) live.row = [id, hub, userId, ...rest];
    live.isConnected = true;
  }

  #addDue(due: Due): void {
    const bytes = bytesOf(due);
    if (this.#dueBytes + bytes > MAX_DUE_BYTES) return;
    this.#dueBytes += bytes;
    this.#due.set(due[2][0], due);
  }

  #remove(id: string): void {
    if (this.#live.delete(id)) return;
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
