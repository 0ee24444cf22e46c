import type { GroupRule, RuleChange, RuleKey, RuleStore, RuleWrite } from "../../src/core/rule-store.ts";
import { hubKey } from "../../src/protocol/names.ts";

/** Keeps group rules as long as the process lives: what the contract says, with nothing else to it. */
export class MemoryRuleStore implements RuleStore {
  readonly isCurrent: boolean = true;
  time: () => number = Date.now;
  readonly #rules = new Map<string, GroupRule>();
  #revision = 0;
  #listener: (change: RuleChange) => void = () => {};

  timeMs(): number {
    return this.time();
  }

  /** What it holds now. */
  all(): GroupRule[] {
    return [...this.#rules.values()];
  }

  async watch(listener: (change: RuleChange) => void): Promise<void> {
    for (const rule of this.#rules.values()) listener({ ...rule, revision: ++this.#revision });
    this.#listener = listener;
  }

  async put(rule: GroupRule): Promise<RuleWrite> {
    this.#rules.set(keyOf(rule), { ...rule });
    return this.#changed(rule);
  }

  async remove(keys: readonly RuleKey[]): Promise<RuleWrite> {
    let written: RuleWrite = { kind: "written", revision: this.#revision };
    for (const key of keys) {
      this.#rules.delete(keyOf(key));
      written = this.#changed({ ...key, expiresAtMs: null });
    }
    return written;
  }

  async forget(ended: readonly RuleChange[]): Promise<void> {
    for (const key of ended) this.#rules.delete(keyOf(key));
  }

  async close(): Promise<void> {
    this.#rules.clear();
  }

  #changed(change: Omit<RuleChange, "revision">): RuleWrite {
    const revision = ++this.#revision;
    this.#listener({ ...change, revision });
    return { kind: "written", revision };
  }
}

function keyOf({ hub, userId, group }: RuleKey): string {
  return JSON.stringify([hubKey(hub), userId, group]);
}
