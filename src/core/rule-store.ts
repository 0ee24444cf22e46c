/** "This user is in this group until then", also for connections that the user opens later. PROTOCOL.md, "`ttl`". */
export interface GroupRule {
  /** In the form of `hubKey`, but for what an earlier version stored; rules compare hubs by `hubKey`. */
  readonly hub: string;
  readonly userId: string;
  readonly group: string;
  /** In milliseconds, by the store's `timeMs`. */
  readonly expiresAtMs: number;
}

/** Which rule is meant. */
export type RuleKey = Omit<GroupRule, "expiresAtMs">;

/** A rule that was put, or, where `expiresAtMs` is null, removed. Revisions grow with every change of any rule. */
export interface RuleChange extends RuleKey {
  readonly expiresAtMs: number | null;
  readonly revision: number;
}

/** The outcome of a change: written under this revision, or the store is out of reach and it is not known. */
export type RuleWrite = { readonly kind: "written"; readonly revision: number } | { readonly kind: "unavailable" };

/**
 * Keeps group rules over a restart, for all nodes. It only stores: the core knows the meaning of a rule.
 *
 * Order:  when `put` and `remove` resolve with `written`, the change survives a crash of the process. Every node hears all
 *         changes, its own too, in the order of their revisions; a node's own may come before or after the write resolves.
 * Errors: rejects where the disk does not take it; nothing is changed then.
 */
export interface RuleStore {
  /** Whether every change so far has been told, and changes can be written. */
  readonly isCurrent: boolean;
  /** The time by which rules end, in milliseconds: Unix time where the clocks are right. It never jumps while rules are in force. */
  timeMs(): number;
  /**
   * To be called once. Tells every rule that is kept, expired ones too, then every change; resolves after the former. A rule is told once
   * more where the time was corrected. `anew`: what kept them was lost, and revisions begin at one again.
   */
  watch(listener: (change: RuleChange) => void, anew?: () => void): Promise<void>;
  /** Adds a rule or replaces the one of the same key. */
  put(rule: GroupRule): Promise<RuleWrite>;
  /** Removes rules of any revision; the answer's revision is that of the last. */
  remove(keys: readonly RuleKey[]): Promise<RuleWrite>;
  /** Forgets what has ended, unless it was put again since that revision. Only tidying: it may fail, or be done by another node. */
  forget(ended: readonly RuleChange[]): Promise<void>;
  /** May be called twice. */
  close(): Promise<void>;
}
