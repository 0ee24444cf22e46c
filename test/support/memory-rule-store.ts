import type { GroupRule, RuleStore } from "../../src/core/ports.ts";
import { hubKey } from "../../src/protocol/names.ts";

/** Keeps group rules as long as the process lives: what the contract says, with nothing else to it. */
export class MemoryRuleStore implements RuleStore {
  readonly #rules = new Map<string, GroupRule>();

  all(): GroupRule[] {
    return [...this.#rules.values()];
  }

  put(rule: GroupRule): void {
    this.#rules.set(keyOf(rule), { ...rule });
  }

  remove(hub: string, userId: string, group: string | null): void {
    if (group !== null) {
      this.#rules.delete(keyOf({ hub, userId, group }));
      return;
    }
    for (const [key, rule] of this.#rules) {
      if (hubKey(rule.hub) === hubKey(hub) && rule.userId === userId) this.#rules.delete(key);
    }
  }

  close(): void {
    this.#rules.clear();
  }
}

function keyOf({ hub, userId, group }: Omit<GroupRule, "expiresAtMs">): string {
  return JSON.stringify([hubKey(hub), userId, group]);
}
