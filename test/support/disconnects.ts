import type { DueDisconnect } from "../../src/core/ports/journal.ts";
import { type CoreStage, STAGE_BEGINS_MS, someFacts } from "./core-stage.ts";

/** How connections end in tests of their disconnect events. */
export const END = { code: 1000, reason: "bye" };

/** A disconnect that waits in the journal and was never tried. */
export function due(connectionId: string, over: Partial<DueDisconnect> = {}): DueDisconnect {
  const facts = someFacts({ connectionId, userId: "alice" });
  const ages = { triedForMs: 0, refusedForMs: 0 };
  return { facts, end: END, connectOutcomeUnknown: false, dueSinceMs: STAGE_BEGINS_MS, ...ages, ...over };
}

/** Ends connections whose disconnects are found undelivered, one after the other. */
export async function depart(stage: CoreStage, ...ids: readonly string[]): Promise<void> {
  for (const id of ids) {
    stage.outstanding.begin();
    await stage.departure.send(someFacts({ connectionId: id, userId: "alice" }), END);
  }
}
