import type { DueDisconnect } from "../core/ports.ts";
import { type KeepableWrite, type Operation, toFactsRow } from "./operation.ts";

type Recover = Extract<KeepableWrite, readonly ["recover", ...unknown[]]>;
type OneWrite = Exclude<KeepableWrite, Recover>;
type Due = Extract<OneWrite, readonly ["due", ...unknown[]]>;

/**
 * What the disk did not take: for each connection the writes that make up its latest state, one or two.
 *
 * Bound: one entry for each connection that changed meanwhile, so no more than those alive and those that wait.
 */
export class KeptWrites {
  /** Of what an earlier process left, so it goes before all else. */
  #recover: Recover | null = null;
  readonly #ofConnection = new Map<string, readonly OneWrite[]>();

  get isEmpty(): boolean {
    return this.#recover === null && this.#ofConnection.size === 0;
  }

  /** Whatever is not here by its id is in the file as it should be. */
  get isOfSingles(): boolean {
    return this.#recover === null;
  }

  keep(write: KeepableWrite): void {
    switch (write[0]) {
      case "recover":
        this.#recover = write;
        break;
      case "due":
        this.#ofConnection.set(write[2][0], [write]);
        break;
      case "settled":
        this.#ofConnection.set(write[1], [write]);
        break;
      case "died":
        this.#keepDied(write);
    }
  }

  /** All that is kept, in an order in which it may be written. */
  operations(): Operation[] {
    return [...(this.#recover === null ? [] : [this.#recover]), ...[...this.#ofConnection.values()].flat()];
  }

  /** What a read of one waiting disconnect finds here; undefined where only the file can tell. */
  find(connectionId: string): DueDisconnect | null | undefined {
    const writes = this.#ofConnection.get(connectionId);
    if (writes === undefined) return undefined;
    const last = writes.at(-1);
    return last?.[0] === "due" ? toDue(last) : null;
  }

  clear(): void {
    this.#recover = null;
    this.#ofConnection.clear();
  }

  #keepDied(died: Extract<OneWrite, readonly ["died", ...unknown[]]>): void {
    const [first] = this.#ofConnection.get(died[2]) ?? [];
    // Whatever was settled waits no more, so it cannot be given up.
    if (first?.[0] === "settled") return;
    this.#ofConnection.set(died[2], first?.[0] === "due" ? [first, died] : [died]);
  }
}

/** A due disconnect as the write that journals it. */
export function dueWrite(place: number, { facts, end, connectOutcomeUnknown, dueSinceMs }: DueDisconnect): Due {
  return ["due", place, toFactsRow(facts), end.code, end.reason, connectOutcomeUnknown, dueSinceMs];
}

function toDue([, , facts, code, reason, connectOutcomeUnknown, dueSinceMs]: Due): DueDisconnect {
  const [connectionId, hub, userId, claims, clientQuery, forwardedFor] = facts;
  return {
    facts: { connectionId, hub, userId, claims, clientQuery, forwardedFor },
    end: { code, reason },
    connectOutcomeUnknown,
    dueSinceMs,
  };
}
