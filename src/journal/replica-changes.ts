import type { Report } from "../protocol/notices.ts";
import { factsOf, type HeldEntry, JournalEntries } from "./entries.ts";
import { formatEntry, formatNamed, formatSettled } from "./replica-message.ts";

/** How large the records of a message may be. */
export interface RecordBounds {
  /** A message is full past this, unless it has one record only. */
  readonly fullBytes: number;
  /** A larger record fits into no message. */
  readonly maxBytes: number;
}

/** Records of one message, joined. */
export interface Records {
  /** The form of nodes' messages in which they are written. */
  readonly form: number;
  readonly text: string;
  readonly bytes: number;
}

/**
 * The entries of this node, and of which of them the replica has not heard yet.
 *
 *     change ─▶ changed, gone ─▶ takeBatch ─▶ [ in flight ] ─▶ acked: the replica has them
 *     all    ───────────────▶ startSnapshot ─▶ parts ────────────┘
 *
 * Shape:  not a queue: what changes twice before it is taken is taken once, and what comes and goes meanwhile never.
 * Bound:  one id for each entry, and for each that the replica has; none while nothing is copied: see `stop`.
 */
export class ReplicaChanges {
  readonly entries: JournalEntries;
  readonly #bounds: RecordBounds;
  readonly #form: () => number;
  readonly #report: Report;
  /** In the order of the last change. */
  readonly #changed = new Set<string>();
  /** Settled, while the replica may have them. */
  readonly #gone = new Set<string>();
  /** Of the message or the snapshot that is under way. */
  #taken: HeldEntry[] = [];
  #isCounting = false;

  constructor(options: {
    readonly bounds: RecordBounds;
    /** The form to write now. */
    readonly form: () => number;
    /** Called after every change, also of what is not counted. */
    readonly changed: () => void;
    readonly report: Report;
  }) {
    this.#bounds = options.bounds;
    this.#form = options.form;
    this.#report = options.report;
    this.entries = new JournalEntries((connectionId, before, now) => {
      this.#note(connectionId, before, now);
      options.changed();
    });
  }

  /** Whether there is something that was not taken yet. */
  get hasChanges(): boolean {
    return this.#changed.size > 0 || this.#gone.size > 0;
  }

  /** How many entries the replica is not known to have. */
  countUncopied(): number {
    let count = 0;
    for (const [, held] of this.entries.all()) if (held.trace !== "copied") count++;
    return count;
  }

  /** Changes that are not known to be in the replica are left to the next snapshot. */
  stop(): void {
    this.#isCounting = false;
    this.#changed.clear();
    this.#gone.clear();
    this.#taken = [];
  }

  /** The replica is not the one that it was: it has nothing. */
  forgetCopied(): void {
    for (const [, held] of this.entries.all()) held.trace = "none";
  }

  /** Drops the entries that the replica surely has, and returns their ids; of the others a new replica has nothing. */
  dropCopied(): string[] {
    const copied: string[] = [];
    for (const [connectionId, held] of this.entries.all()) {
      if (held.trace === "copied") copied.push(connectionId);
      held.trace = "none";
    }
    for (const connectionId of copied) this.entries.forget(connectionId);
    return copied;
  }

  /** The changes that the replica does not have, as many as fit into one message. */
  takeBatch(): Records {
    const records = new RecordList(this.#bounds, this.#form());
    for (const connectionId of this.#gone) {
      const record = formatSettled(connectionId);
      if (!records.add(record, Buffer.byteLength(record))) return records.join();
      this.#gone.delete(connectionId);
    }
    for (const connectionId of this.#changed) {
      const held = this.entries.find(connectionId);
      if (held !== undefined && !this.#take(connectionId, held, records, { isChange: true })) return records.join();
      this.#changed.delete(connectionId);
    }
    return records.join();
  }

  /** All entries, as they are when their part is asked for. Changes behind their part are left to the next batch. */
  startSnapshot(): { readonly size: number; next(): Records & { readonly isLast: boolean } } {
    this.stop();
    this.#isCounting = true;
    const { size } = this.entries;
    const iterator = this.entries.all();
    let refused: [string, HeldEntry] | null = null;
    const next = () => {
      const records = new RecordList(this.#bounds, this.#form());
      // To the very end: what moved there meanwhile may be in no other part, and what is older is removed then.
      for (;;) {
        const step = refused === null ? iterator.next() : { done: false as const, value: refused };
        refused = null;
        if (step.done) return { ...records.join(), isLast: true };
        const [connectionId, held] = step.value;
        // An entry that the part before refused may have ended since, or been begun again.
        if (this.entries.find(connectionId) !== held) continue;
        if (!this.#take(connectionId, held, records, { isChange: false })) {
          refused = step.value;
          return { ...records.join(), isLast: false };
        }
        this.#changed.delete(connectionId);
      }
    };
    return { size, next };
  }

  /** The batch or whole snapshot that was taken last is in the replica. */
  acked(): void {
    for (const held of this.#taken) held.trace = "copied";
    this.#taken = [];
  }

  #take(
    connectionId: string,
    held: HeldEntry,
    records: RecordList,
    { isChange }: { readonly isChange: boolean },
  ): boolean {
    const { entry, trace } = held;
    // Of an entry that is in the replica, and can only have been named since, the name is enough.
    const isNamed = isChange && entry.state === "connected" && trace === "copied";
    const { form } = records;
    const record = isNamed
      ? formatNamed(connectionId, entry.facts.userId)
      : formatEntry(entry, { form, keptForMs: this.entries.keptForMs(held) });
    const bytes = Buffer.byteLength(record);
    if (bytes > this.#bounds.maxBytes) {
      this.#report({ kind: "replica-too-large", facts: factsOf(held.entry) });
      // Its entry in the replica is gone with the next snapshot.
      if (held.trace === "copied") held.trace = "perhaps";
      return true;
    }
    if (!records.add(record, bytes)) return false;
    if (held.trace === "none") held.trace = "perhaps";
    this.#taken.push(held);
    return true;
  }

  #note(connectionId: string, before: HeldEntry | undefined, now: HeldEntry | undefined): void {
    if (now !== undefined && now !== before && before !== undefined && before.trace !== "none") now.trace = "perhaps";
    if (!this.#isCounting) return;
    this.#changed.delete(connectionId);
    if (now === undefined) {
      if (before?.trace !== "none") this.#gone.add(connectionId);
      return;
    }
    if (this.#gone.delete(connectionId)) now.trace = "perhaps";
    this.#changed.add(connectionId);
  }
}

/** Records of a message that is being filled. */
class RecordList {
  readonly form: number;
  readonly #bounds: RecordBounds;
  readonly #records: string[] = [];
  #bytes = 0;

  constructor(bounds: RecordBounds, form: number) {
    this.#bounds = bounds;
    this.form = form;
  }

  /** False where it has no room. */
  add(record: string, bytes: number): boolean {
    if (this.#bytes > 0 && this.#bytes + bytes >= this.#bounds.fullBytes) return false;
    this.#records.push(record);
    this.#bytes += bytes + 1;
    return true;
  }

  join(): Records {
    return { form: this.form, text: this.#records.join(","), bytes: this.#bytes };
  }
}
