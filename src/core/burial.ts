import { disconnectEventId } from "../protocol/events.ts";
import type { Clock } from "./ports/clock.ts";
import type { Journal, OwedDisconnect } from "./ports/journal.ts";
import type { Report, Undelivered } from "./ports/report.ts";

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
    // For the log alone, so a disk that fails must not keep the event from its end.
    const due = await journal.read(connectionId).catch(() => null);
    report.deadLetter(describeUndelivered(one, cause, due));
    await journal.died(connectionId, { diedAtMs: timeOfDayMs(), cause, keptForMs: 0 });
  }

  /** Tells the journal of the time since the last call. */
  ageLetters(): void {
    const { journal, clock, report } = this.#parts;
    const now = clock.now();
    const elapsedMs = now - this.#lettersAgedAtMs;
    this.#lettersAgedAtMs = now;
    journal.ageDeadLetters(elapsedMs, DEAD_LETTER_MS).catch((error) => {
      report.fault("dead letters in the journal", error);
      // The next tick tells of this time too.
      this.#lettersAgedAtMs -= elapsedMs;
    });
  }

  /** May be called twice. */
  stop(): void {
    this.#cancelTick();
  }
}

/** A disconnect event that the upstream does not get, for the log; `owed` is null where the journal cannot be read. */
export function describeUndelivered(
  { connectionId, hub }: { readonly connectionId: string; readonly hub: string },
  cause: string,
  owed: OwedDisconnect | null,
): Undelivered {
  const eventId = disconnectEventId(connectionId, owed?.nth === "second");
  const forwardedFor = owed?.facts.forwardedFor ?? null;
  return { connectionId, hub, forwardedFor, event: "disconnect", eventId, cause, count: 1 };
}
