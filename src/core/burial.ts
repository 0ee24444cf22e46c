import { disconnectEventId } from "../protocol/events.ts";
import type { Report, Undelivered } from "../protocol/notices.ts";
import type { Clock } from "./ports/clock.ts";
import type { Journal, OwedDisconnect } from "./ports/journal.ts";

/** How long dead letters are kept while a process runs, and how often they grow older. Source: PROTOCOL.md, "Dead letters". */
const DEAD_LETTER_MS = 30 * 86_400_000;
const DEAD_LETTER_TICK_MS = 600_000;

export interface BurialParts {
  readonly journal: Journal;
  readonly clock: Clock;
  /** Unix time in milliseconds. */
  readonly timeOfDayMs: () => number;
  readonly report: Report;
}

/** Gives disconnect events up: makes them dead letters, and forgets these when they have been kept for long enough. */
export class Burial {
  readonly #parts: BurialParts;
  readonly #cancelTick: () => void;
  #lettersAgedAtMs: number;

  constructor(parts: BurialParts) {
    this.#parts = parts;
    this.#lettersAgedAtMs = parts.clock.now();
    this.#cancelTick = parts.clock.every(DEAD_LETTER_TICK_MS, () => this.ageLetters());
  }

  /** The waiting event of a connection is given up. */
  async bury(one: { readonly connectionId: string; readonly hub: string }, cause: string): Promise<void> {
    const { connectionId } = one;
    const { journal, report, timeOfDayMs } = this.#parts;
    // Only for the log, so a failing disk must not stop this.
    const due = await journal.read(connectionId).catch(() => null);
    report(describeUndelivered("dead-letter", one, { cause, owed: due }));
    await journal.died(connectionId, { diedAtMs: timeOfDayMs(), cause, keptForMs: 0 });
  }

  /** Tells the journal of the time since the last call. */
  ageLetters(): void {
    const { journal, clock, report } = this.#parts;
    const now = clock.now();
    const elapsedMs = now - this.#lettersAgedAtMs;
    this.#lettersAgedAtMs = now;
    journal.ageDeadLetters(elapsedMs, DEAD_LETTER_MS).catch((error) => {
      report({ kind: "fault", where: "dead letters in the journal", error });
      // The next tick tells of this time too.
      this.#lettersAgedAtMs -= elapsedMs;
    });
  }

  /** May be called twice. */
  stop(): void {
    this.#cancelTick();
  }
}

/** The notice of a disconnect event that the upstream does not get; `owed` is null where the journal cannot be read. */
export function describeUndelivered<Kind extends Undelivered["kind"]>(
  kind: Kind,
  { connectionId, hub }: { readonly connectionId: string; readonly hub: string },
  { cause, owed }: { readonly cause: string; readonly owed: OwedDisconnect | null },
): Undelivered<Kind> {
  const eventId = disconnectEventId(connectionId, owed?.nth === "second");
  const forwardedFor = owed?.facts.forwardedFor ?? null;
  return { kind, connectionId, hub, forwardedFor, event: "disconnect", eventId, cause, count: 1, tookMs: null };
}
