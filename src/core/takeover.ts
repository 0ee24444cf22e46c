import { CLOSE } from "../protocol/close-causes.ts";
import { NewerForm } from "../protocol/forms.ts";
import type { Report } from "../protocol/notices.ts";
import type { Journal, JournalEntry } from "./ports/journal.ts";
import type { Leases, NodeJournals } from "./ports/takeover.ts";
import type { Redelivery } from "./redelivery.ts";

/** Entries of another node that are written to this one's journal at once. */
const CHUNK = 1000;

export interface TakeoverParts {
  readonly leases: Leases;
  readonly nodeJournals: NodeJournals;
  readonly journal: Journal;
  readonly redelivery: Redelivery;
  /** Unix time in milliseconds. */
  readonly timeOfDayMs: () => number;
  readonly report: Report;
}

/**
 * Does what a node that is gone has left undone: the disconnect events of its connections.
 *
 *     its lease is over ─▶ claim it ─▶ seize its journal ─▶ this node's journal has it ─▶ redelivery
 *                                                                      └─▶ forget its journal ─▶ end its lease
 *
 * Order:  one node at a time, by the claim. A node that dies during a takeover leaves its claim behind, which ends like a lease: another
 *         node begins from the start, so an event may be sent twice, with one id.
 * Errors: a failure on the way is reported and ends this try.
 * Source: PROTOCOL.md, "A node that crashes".
 */
export class Takeover {
  readonly #parts: TakeoverParts;
  readonly #underWay = new Set<string>();
  /** Nodes whose journal only a newer version can read. Their leases run out again, and a node of that version takes them over. */
  readonly #leftToNewer = new Set<string>();

  constructor(parts: TakeoverParts) {
    this.#parts = parts;
  }

  /** Another node's lease is over. Never rejects. */
  async takeOver(nodeId: string): Promise<void> {
    await this.#once(nodeId, async () => {
      const { leases, nodeJournals, redelivery, report } = this.#parts;
      if (!(await leases.claim(nodeId))) return;
      const entries = await nodeJournals.seize(nodeId);
      for (let from = 0; from < entries.length; from += CHUNK) await this.#adopt(entries.slice(from, from + CHUNK));
      report({ kind: "node-taken-over", nodeId, count: entries.length });
      redelivery.start();
      await nodeJournals.forget(nodeId);
      await leases.end(nodeId);
    });
  }

  /**
   * This node was that one before it was started again. Entries that its own journal had at the start go their own way, and may have
   * gone by now; the rest, where its file was damaged, out of reach or behind after a power cut, comes from the replica.
   * `known` is what `listKnown` said then. Never rejects.
   */
  async reclaim(nodeId: string, known: ReadonlySet<string>): Promise<void> {
    await this.#once(nodeId, async () => {
      const { leases, nodeJournals, redelivery } = this.#parts;
      if (!(await leases.claim(nodeId))) return;
      const entries = (await nodeJournals.seize(nodeId)).filter((entry) => !known.has(idOf(entry)));
      for (let from = 0; from < entries.length; from += CHUNK) await this.#adopt(entries.slice(from, from + CHUNK));
      if (entries.length > 0) redelivery.start();
      await nodeJournals.forget(nodeId);
      await leases.end(nodeId);
    });
  }

  async #once(nodeId: string, work: () => Promise<void>): Promise<void> {
    if (this.#underWay.has(nodeId) || this.#leftToNewer.has(nodeId)) return;
    this.#underWay.add(nodeId);
    try {
      await work();
    } catch (error) {
      if (error instanceof NewerForm) this.#leftToNewer.add(nodeId);
      const cause = error instanceof Error ? error.message : String(error);
      this.#parts.report({ kind: "takeover-failed", nodeId, cause });
    } finally {
      this.#underWay.delete(nodeId);
    }
  }

  async #adopt(entries: readonly JournalEntry[]): Promise<void> {
    const { journal, timeOfDayMs } = this.#parts;
    const end = CLOSE.gatewayNodeLost;
    const dueSinceMs = timeOfDayMs();
    await Promise.all(
      entries.map(async (entry) => {
        switch (entry.state) {
          case "due":
            return void (await journal.due(entry.due));
          case "dead": {
            await journal.due(entry.letter);
            return await journal.died(entry.letter.facts.connectionId, entry.letter);
          }
          default: {
            const connectOutcomeUnknown = entry.state === "connecting";
            return void (await journal.due({
              facts: entry.facts,
              end,
              connectOutcomeUnknown,
              dueSinceMs,
              triedForMs: 0,
              refusedForMs: 0,
            }));
          }
        }
      }),
    );
  }
}

/** The connections that a journal has waiting or dead; of a journal that cannot be read: none. */
export async function listKnown(journal: Journal): Promise<Set<string>> {
  const known = new Set<string>();
  try {
    for (let place = 0, isMore = true; isMore; ) {
      const page = await journal.waiting(place, CHUNK);
      for (const { connectionId } of page) known.add(connectionId);
      place = page.at(-1)?.place ?? place;
      isMore = page.length === CHUNK;
    }
    for (let place = 0, isMore = true; isMore; ) {
      const page = await journal.deadLetters(place, CHUNK);
      for (const { facts } of page) known.add(facts.connectionId);
      place = page.at(-1)?.place ?? place;
      isMore = page.length === CHUNK;
    }
    return known;
  } catch {
    return new Set();
  }
}

function idOf(entry: JournalEntry): string {
  switch (entry.state) {
    case "due":
      return entry.due.facts.connectionId;
    case "dead":
      return entry.letter.facts.connectionId;
    default:
      return entry.facts.connectionId;
  }
}
