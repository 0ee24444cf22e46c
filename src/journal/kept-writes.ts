import type { DeadLetter, DueDisconnect, WaitingDisconnect } from "../core/ports/journal.ts";
import { dialectOf } from "../protocol/dialect-names.ts";
import { fromFactsRow, toFactsRow } from "../protocol/facts.ts";
import { fromNthCode, type KeepableWrite, type Operation, toAgesRow, toNthCode, withAges } from "./operation.ts";

type Recover = Extract<KeepableWrite, readonly ["recover", ...unknown[]]>;
type Tried = Extract<KeepableWrite, readonly ["tried", ...unknown[]]>;
type OneWrite = Exclude<KeepableWrite, Recover | Tried>;
type Due = Extract<OneWrite, readonly ["due", ...unknown[]]>;

/** The places that a page of a read is about: above the first, up to the second. */
export interface PlaceRange {
  readonly above: number;
  readonly upTo: number;
}

/**
 * Writes that the disk did not take: for each connection the writes that make up its latest state, one or two.
 *
 * Bound: one entry for each connection that was there when the disk stopped taking writes, alive or waiting in the file, since
 *        no other is let in until all is written; and one for each that was on its way to the disk when the thread died.
 */
export class KeptWrites {
  /** Of what an earlier process left, so it goes before all else. */
  #recover: Recover | null = null;
  /** In the order of the last write of each, which is that of their places too. */
  readonly #ofConnection = new Map<string, readonly OneWrite[]>();

  get isEmpty(): boolean {
    return this.#recover === null && this.#ofConnection.size === 0;
  }

  keep(write: KeepableWrite): void {
    switch (write[0]) {
      case "recover":
        this.#recover = write;
        break;
      case "due":
        this.#put(write[2][0], [write]);
        break;
      case "settled":
        this.#put(write[1], [write]);
        break;
      case "tried":
        this.#keepTried(write);
        break;
      case "died":
        this.#keepDied(write);
    }
  }

  /** The writes to be written first: `count` of them, or one more, so that no connection's are torn apart. */
  first(count: number): KeepableWrite[] {
    const some: KeepableWrite[] = this.#recover === null ? [] : [this.#recover];
    for (const writes of this.#ofConnection.values()) {
      if (some.length >= count) break;
      some.push(...writes);
    }
    return some;
  }

  /** These were written. Writes of the same connections that were kept meanwhile stay. */
  forget(written: readonly KeepableWrite[]): void {
    for (const write of written) {
      if (write[0] === "recover") {
        if (this.#recover === write) this.#recover = null;
        continue;
      }
      if (write[0] === "tried") continue;
      const connectionId = idOf(write);
      if (this.#ofConnection.get(connectionId)?.at(-1) === write) this.#ofConnection.delete(connectionId);
    }
  }

  /**
   * Writes that the file must have in front of reads, in the same transaction, although they are undone: those that only the file
   * can carry out. Bound: what the pages hold.
   */
  neededBy(reads: readonly Operation[]): KeepableWrite[] {
    const needed: KeepableWrite[] = this.#recover === null ? [] : [this.#recover];
    for (const read of reads) if (read[0] === "deadLetters") needed.push(...this.#deaths(read[1], read[2]));
    return needed;
  }

  /** A page of the file's as it would be, had the file taken what is kept. */
  correctWaiting(page: WaitingDisconnect[], { above, upTo }: PlaceRange): WaitingDisconnect[] {
    if (this.#ofConnection.size === 0) return page;
    const others = page.filter(({ connectionId }) => !this.#ofConnection.has(connectionId));
    for (const writes of this.#ofConnection.values()) {
      const last = writes.at(-1);
      if (last?.[0] === "due" && last[1] > above && last[1] <= upTo) others.push(toWaiting(last));
    }
    return others.sort((one, other) => one.place - other.place);
  }

  /** A page that was read behind what it needed: without those that are not dead any more. */
  correctDead(page: DeadLetter[]): DeadLetter[] {
    return page.filter(({ facts }) => (this.#ofConnection.get(facts.connectionId)?.at(-1)?.[0] ?? "died") === "died");
  }

  /** What a read of one waiting disconnect finds here; undefined where only the file can tell. */
  find(connectionId: string): DueDisconnect | null | undefined {
    const writes = this.#ofConnection.get(connectionId);
    if (writes === undefined) return undefined;
    const last = writes.at(-1);
    return last?.[0] === "due" ? toDue(last) : null;
  }

  /** Of what only the file has, the ages are not kept: the next try tells them again. */
  #keepTried([, connectionId, ages]: Tried): void {
    const writes = this.#ofConnection.get(connectionId);
    const last = writes?.at(-1);
    if (last?.[0] !== "due") return;
    // In its old position: it keeps its place.
    this.#ofConnection.set(connectionId, [withAges(last, ages)]);
  }

  #keepDied(died: Extract<OneWrite, readonly ["died", ...unknown[]]>): void {
    const [first] = this.#ofConnection.get(died[2]) ?? [];
    // A settled event waits no more, so it cannot be given up.
    if (first?.[0] === "settled") return;
    this.#put(died[2], first?.[0] === "due" ? [first, died] : [died]);
  }

  #put(connectionId: string, writes: readonly OneWrite[]): void {
    this.#ofConnection.delete(connectionId);
    this.#ofConnection.set(connectionId, writes);
  }

  /** Those that were given up behind a place, in order. */
  #deaths(afterPlace: number, limit: number): OneWrite[] {
    const found: OneWrite[] = [];
    let count = 0;
    for (const writes of this.#ofConnection.values()) {
      if (count >= limit) break;
      const last = writes.at(-1);
      if (last?.[0] !== "died" || last[1] <= afterPlace) continue;
      found.push(...writes);
      count++;
    }
    return found;
  }
}

/**
 * Reads pages of the file until `limit` rows are found or it has no more: of a page that is corrected, rows may fall away, and
 * a short answer would say that there are no more.
 */
export async function readPages<Row extends { readonly place: number }>(parts: {
  afterPlace: number;
  limit: number;
  ask: (afterPlace: number) => Promise<Row[]>;
  correct: (page: Row[], range: PlaceRange) => Row[];
}): Promise<Row[]> {
  const { afterPlace, limit, ask, correct } = parts;
  const found: Row[] = [];
  let above = afterPlace;
  for (;;) {
    const page = await ask(above);
    const last = page.at(-1);
    const upTo = page.length < limit || last === undefined ? Number.POSITIVE_INFINITY : last.place;
    found.push(...correct(page, { above, upTo }).slice(0, limit - found.length));
    if (found.length >= limit || upTo === Number.POSITIVE_INFINITY) return found;
    above = upTo;
  }
}

/** A due disconnect as the write that journals it. */
export function dueWrite(place: number, due: DueDisconnect): Due {
  const { facts, end, connectOutcomeUnknown, dueSinceMs } = due;
  const ages = toAgesRow(due);
  return [
    "due",
    place,
    toFactsRow(facts),
    [end.code, end.reason, connectOutcomeUnknown, dueSinceMs, ...ages, toNthCode(due)],
  ];
}

function idOf(write: OneWrite): string {
  switch (write[0]) {
    case "due":
      return write[2][0];
    case "settled":
      return write[1];
    case "died":
      return write[2];
  }
}

function toWaiting([, place, facts, [, , , , triedForMs, refusedForMs]]: Due): WaitingDisconnect {
  const [connectionId, hub] = facts;
  return { connectionId, hub, dialect: dialectOf(fromFactsRow(facts)), place, triedForMs, refusedForMs };
}

function toDue([, , facts, row]: Due): DueDisconnect {
  const [code, reason, connectOutcomeUnknown, dueSinceMs, triedForMs, refusedForMs, nthCode] = row;
  const end = { code, reason };
  const ages = { triedForMs, refusedForMs };
  return { facts: fromFactsRow(facts), end, connectOutcomeUnknown, dueSinceMs, ...ages, ...fromNthCode(nthCode) };
}
