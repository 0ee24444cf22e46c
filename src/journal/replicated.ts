import type { DeadLetter, Death, DueDisconnect, Journal, RetryAges, WaitingDisconnect } from "../core/ports/journal.ts";
import type { CloseCause } from "../protocol/close-causes.ts";
import { type ConnectionFacts, copyFacts } from "../protocol/facts.ts";
import { copyDue, type JournalEntries } from "./entries.ts";
import type { JetstreamJournal } from "./jetstream.ts";
import type { ReplicaWait } from "./replica-wait.ts";

/** How many entries the replica is told of at once when it starts. */
const PAGE_LENGTH = 1000;

/** A call of which the replica has not heard yet. */
interface Step {
  /** Null where the local journal refused it. */
  apply: ((entries: JournalEntries) => unknown) | null;
  isOpen: boolean;
  next: Step | null;
}

/**
 * A node's own journal, with a copy of it for the node that takes over.
 *
 *     call ─▶ local ─▶ [ steps, in the order of the calls ] ─▶ the replica's entries ─▶ the replica in NATS, when NATS is there
 *       ◀──────┘ resolves                                           with a `ReplicaWait`, connecting and connected resolve here ──┘
 *
 * Promise: the local journal's. Reads, places and `isWritable` are its too. With a `ReplicaWait`, what `connecting` and `connected` have
 *          resolved is in NATS as well while NATS is there.
 * Order:   the replica is told what the local journal has done, in the order of the calls.
 * Source:  decision 0039.
 */
export class ReplicatedJournal implements Journal {
  readonly #local: Journal;
  readonly #copy: JetstreamJournal;
  readonly #wait: ReplicaWait | null;
  #firstStep: Step | null = null;
  #lastStep: Step | null = null;

  /** `wait`: connects wait for their copy; null: they do not. */
  constructor(local: Journal, copy: JetstreamJournal, wait: ReplicaWait | null = null) {
    this.#local = local;
    this.#copy = copy;
    this.#wait = wait;
  }

  get isWritable(): boolean {
    return this.#local.isWritable;
  }

  connecting(facts: ConnectionFacts): Promise<void> {
    const kept = copyFacts(facts);
    return this.#copied(this.#local.connecting(facts), (entries) => entries.connecting(kept));
  }

  connected(connectionId: string, userId: string | null): Promise<void> {
    const done = this.#local.connected(connectionId, userId);
    return this.#copied(done, (entries) => entries.connected(connectionId, userId));
  }

  due(disconnect: DueDisconnect): Promise<number> {
    const kept = copyDue(disconnect);
    return this.#follow(this.#local.due(disconnect), (entries) => entries.due(kept));
  }

  settled(connectionId: string): Promise<void> {
    return this.#follow(this.#local.settled(connectionId), (entries) => entries.settled(connectionId));
  }

  tried(connectionId: string, ages: RetryAges): Promise<void> {
    const done = this.#local.tried(connectionId, ages);
    return this.#follow(done, (entries) => entries.tried(connectionId, ages));
  }

  died(connectionId: string, death: Death): Promise<void> {
    const done = this.#local.died(connectionId, death);
    return this.#follow(done, (entries) => entries.died(connectionId, death));
  }

  /** Also tells the copy of all that waits or is dead in the local journal. */
  async recover(end: CloseCause, nowMs: number): Promise<number> {
    const count = await this.#local.recover(end, nowMs);
    // A file that cannot be read now has been reported, and what turns up in it later is this node's alone.
    await this.#seed().catch(() => null);
    return count;
  }

  waiting(afterPlace: number, limit: number): Promise<WaitingDisconnect[]> {
    return this.#local.waiting(afterPlace, limit);
  }

  read(connectionId: string): Promise<DueDisconnect | null> {
    return this.#local.read(connectionId);
  }

  deadLetters(afterPlace: number, limit: number): Promise<DeadLetter[]> {
    return this.#local.deadLetters(afterPlace, limit);
  }

  revive(connectionIds: readonly string[] | null, nowMs: number): Promise<number> {
    const done = this.#local.revive(connectionIds, nowMs);
    return this.#follow(done, (entries) => entries.revive(connectionIds, nowMs));
  }

  drop(connectionIds: readonly string[] | null): Promise<number> {
    return this.#follow(this.#local.drop(connectionIds), (entries) => entries.drop(connectionIds));
  }

  ageDeadLetters(elapsedMs: number, maxMs: number): Promise<number> {
    return this.#follow(this.#local.ageDeadLetters(elapsedMs, maxMs), (entries) =>
      entries.ageDeadLetters(elapsedMs, maxMs),
    );
  }

  /** These, which `JetstreamJournal.moveTo` has returned, are another node's business: nothing is owed for them here. */
  async disown(connectionIds: readonly string[]): Promise<void> {
    // Through the steps as well: a change that was on its way to the replica would bring back what was dropped there.
    await Promise.all(connectionIds.map((connectionId) => this.settled(connectionId)));
  }

  /** Resolves when the replica has been told of all that was called before. Never rejects. */
  async whenFollowed(): Promise<void> {
    // The local journal works in order: behind the answer to a read are those to all writes before it.
    await this.#follow(this.#local.waiting(0, 1), () => {}).catch(() => {});
  }

  /** The local one first, so that the replica hears of all it did; each gives up after some seconds. */
  async close(): Promise<void> {
    this.#wait?.stop();
    await this.#local.close();
    await this.#copy.close();
  }

  async #seed(): Promise<void> {
    const { entries } = this.#copy;
    for (let place = 0; ; ) {
      const page = await this.#local.waiting(place, PAGE_LENGTH);
      const found = await Promise.all(page.map(({ connectionId }) => this.#local.read(connectionId)));
      for (const due of found) if (due !== null) entries.due(due);
      if (page.length < PAGE_LENGTH) break;
      place = page.at(-1)?.place ?? place;
    }
    for (let place = 0; ; ) {
      const page = await this.#local.deadLetters(place, PAGE_LENGTH);
      for (const { place: _place, ...letter } of page) entries.buried(letter);
      if (page.length < PAGE_LENGTH) break;
      place = page.at(-1)?.place ?? place;
    }
  }

  /** As `#follow`; where connects wait for their copy, it has been acknowledged as well. */
  async #copied(done: Promise<void>, apply: (entries: JournalEntries) => unknown): Promise<void> {
    const wait = this.#wait;
    if (wait === null) return await this.#follow(done, apply);
    const copied = Promise.withResolvers<void>();
    // An earlier call may still be at the disk: only when the replica has been told of this one can its message be waited for.
    await this.#follow(done, (entries) => {
      apply(entries);
      copied.resolve(wait.wait());
    });
    await copied.promise;
  }

  /** Has the replica do the same once the local journal has, and all that was called before is through. */
  async #follow<T>(done: Promise<T>, apply: (entries: JournalEntries) => unknown): Promise<T> {
    const step: Step = { apply, isOpen: true, next: null };
    if (this.#lastStep === null) this.#firstStep = step;
    else this.#lastStep.next = step;
    this.#lastStep = step;
    try {
      return await done;
    } catch (error) {
      step.apply = null;
      throw error;
    } finally {
      step.isOpen = false;
      this.#drain();
    }
  }

  #drain(): void {
    for (; this.#firstStep?.isOpen === false; this.#firstStep = this.#firstStep.next) {
      this.#firstStep.apply?.(this.#copy.entries);
    }
    if (this.#firstStep === null) this.#lastStep = null;
  }
}
