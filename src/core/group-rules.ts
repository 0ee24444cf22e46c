import { hubKey } from "../protocol/names.ts";
import type { Report } from "../protocol/notices.ts";
import type { Clock } from "./ports/clock.ts";
import type { RuleChange, RuleStore, RuleWrite } from "./rule-store.ts";

/** Rules that are in force at the same time, over all hubs; one more is refused. Source: PROTOCOL.md, "REST API". */
export const MAX_GROUP_RULES = 100_000;

/** Half of the second within which a rule must have ended: the loop may be late too. */
const TICK_MS = 500;

/** Rows of expired rules that are removed from the store in one tick. It is only tidying: more would hold the loop up. */
const PURGED_PER_TICK = 500;

/** How long a question may wait for rules. */
const REACHED_LIMIT_MS = 5000;

const NO_GROUPS: readonly string[] = [];

/** What group rules need. The maker of the store closes it. */
export interface GroupRulesParts {
  readonly store: RuleStore;
  readonly clock: Clock;
  readonly report: Report;
  /** Called once at each rule's own end, not for `end`, on every node. `hub` as it was written. The rule no longer holds by then. */
  readonly onExpired: (hub: string, userId: string, group: string) => void;
  /**
   * Called for each rule that is put, on every node, once it is in force: adds the user's connections that were opened before.
   * `hub` as it was written.
   */
  readonly onBegun: (hub: string, userId: string, group: string) => void;
}

/** A rule in force. */
interface Rule extends RuleChange {
  /** In milliseconds of the clock, which never jumps. */
  readonly endsAt: number;
}

/** A caller that waits for a revision. */
interface Waiter {
  readonly revision: number;
  readonly sinceMs: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/**
 * The rules "this user is in this group until then", which also hold for connections that the user opens later.
 *
 *   put ──▶ store ──▶ told to every node: in force ──▶ ends: onExpired ──▶ its row waits for the purge
 *                                            └──▶ end, or replaced by put
 *
 * Order:  a change is in the store before it is in force; where the store rejects, nothing has changed. A node has all
 *         changes up to the revision that it `reached`: a caller that changes a rule waits until every node has reached it.
 * Cost:   one tick, twice a second, for all rules, which looks only at those that end in it.
 * Errors: `load`, `put` and `end` reject where the store does.
 * Source: PROTOCOL.md, "REST API".
 */
export class GroupRules {
  readonly #parts: GroupRulesParts;
  /** By hub key and user, then by group. */
  readonly #byUser = new Map<string, Map<string, Rule>>();
  /** By the clock's second in which they end. No second before `#nextSecond` has any. */
  readonly #byEnd = new Map<number, Set<Rule>>();
  #nextSecond: number;
  #count = 0;
  #purge: RuleChange[] = [];
  #revision = 0;
  #waiters: Waiter[] = [];
  readonly #cancel: () => void;

  constructor(parts: GroupRulesParts) {
    this.#parts = parts;
    this.#nextSecond = secondOf(parts.clock.now());
    this.#cancel = parts.clock.every(TICK_MS, () => this.#tick());
  }

  /**
   * Takes over what the store holds, and from then on every change. Rules that ended before are only removed: their
   * members have left the group already.
   */
  async load(): Promise<void> {
    const anew = () => {
      this.#revision = 0;
    };
    await this.#parts.store.watch((change) => this.#apply(change), anew);
  }

  /** How many rules are in force; one that has just ended may still count. */
  get size(): number {
    return this.#count;
  }

  /** Puts a rule in force or gives it a new end. `full`: nothing has changed; a rule that is there already never is. */
  async put(hub: string, userId: string, group: string, ttlSeconds: number): Promise<RuleWrite | { kind: "full" }> {
    const isNew = this.#byUser.get(userKey(hub, userId))?.has(group) !== true;
    if (isNew && this.#count >= MAX_GROUP_RULES) return { kind: "full" };
    const { store } = this.#parts;
    if (!store.isCurrent) return { kind: "unavailable" };
    return await store.put({ hub, userId, group, expiresAtMs: Math.round(store.timeMs() + ttlSeconds * 1000) });
  }

  /** Ends a user's rule for a group, or for all groups where it is null. Without a rule it is not an error, and the revision is 0. */
  async end(hub: string, userId: string, group: string | null): Promise<RuleWrite> {
    // An unknown rule cannot be ended.
    if (!this.#parts.store.isCurrent) return { kind: "unavailable" };
    const rules = this.#byUser.get(userKey(hub, userId));
    const ended = [...(rules?.values() ?? [])].filter((rule) => group === null || rule.group === group);
    if (ended.length === 0) return { kind: "written", revision: 0 };
    return await this.#parts.store.remove(ended);
  }

  /** Null where every change up to this revision is in force here; else it resolves once it is. Rejects after five seconds. */
  reached(revision: number): Promise<void> | null {
    if (revision <= this.#revision) return null;
    const sinceMs = this.#parts.clock.now();
    return new Promise((resolve, reject) => this.#waiters.push({ revision, sinceMs, resolve, reject }));
  }

  /** Whether a rule holds now. */
  has(hub: string, userId: string, group: string): boolean {
    const rule = this.#byUser.get(userKey(hub, userId))?.get(group);
    return rule !== undefined && this.#isInForce(rule);
  }

  /** The groups of a connection that the user opens now. */
  groupsOf(hub: string, userId: string): readonly string[] {
    const rules = this.#byUser.get(userKey(hub, userId));
    if (rules === undefined) return NO_GROUPS;
    return [...rules.values()].filter((rule) => this.#isInForce(rule)).map(({ group }) => group);
  }

  /** Ends no rule: they go on in the store. May be called twice. */
  stop(): void {
    this.#cancel();
  }

  #isInForce(rule: Rule): boolean {
    return rule.endsAt > this.#parts.clock.now();
  }

  #apply(change: RuleChange): void {
    const { clock, store } = this.#parts;
    const { hub, userId, group, expiresAtMs, revision } = change;
    const before = this.#byUser.get(userKey(hub, userId))?.get(group);
    if (before !== undefined) this.#drop(before);
    if (expiresAtMs !== null) {
      const rule: Rule = {
        hub,
        userId,
        group,
        expiresAtMs,
        revision,
        endsAt: clock.now() + expiresAtMs - store.timeMs(),
      };
      if (this.#isInForce(rule)) this.#begin(rule);
      else if (before === undefined) this.#purge.push(rule);
      else this.#ended(rule);
    }
    this.#revision = Math.max(this.#revision, revision);
    if (this.#waiters.length === 0) return;
    const waiters = this.#waiters;
    this.#waiters = waiters.filter((waiter) => waiter.revision > this.#revision);
    for (const waiter of waiters) if (waiter.revision <= this.#revision) waiter.resolve();
  }

  #begin(rule: Rule): void {
    const { onBegun, report } = this.#parts;
    this.#add(rule);
    try {
      onBegun(rule.hub, rule.userId, rule.group);
    } catch (error) {
      report({ kind: "fault", where: "the beginning of a group rule", error });
    }
  }

  #add(rule: Rule): void {
    const key = userKey(rule.hub, rule.userId);
    const rules = this.#byUser.get(key) ?? new Map<string, Rule>();
    this.#byUser.set(key, rules.set(rule.group, rule));
    const second = secondOf(rule.endsAt);
    const ending = this.#byEnd.get(second) ?? new Set<Rule>();
    this.#byEnd.set(second, ending.add(rule));
    this.#count++;
  }

  #drop(rule: Rule): void {
    const key = userKey(rule.hub, rule.userId);
    const rules = this.#byUser.get(key);
    rules?.delete(rule.group);
    if (rules?.size === 0) this.#byUser.delete(key);
    const second = secondOf(rule.endsAt);
    const ending = this.#byEnd.get(second);
    ending?.delete(rule);
    if (ending?.size === 0) this.#byEnd.delete(second);
    this.#count--;
  }

  #tick(): void {
    const thisSecond = secondOf(this.#parts.clock.now());
    for (let second = this.#nextSecond; second <= thisSecond; second++) {
      for (const rule of [...(this.#byEnd.get(second) ?? [])]) {
        // The callback of one rule may have ended or replaced another.
        if (!this.#isInForce(rule) && this.#byEnd.get(second)?.has(rule) === true) this.#expire(rule);
      }
    }
    // This second is not over: rules may still end in it.
    this.#nextSecond = thisSecond;
    this.#purgeSome();
    this.#forsake();
  }

  /** Drops waits whose callers have given up long ago. */
  #forsake(): void {
    const oldestMs = this.#parts.clock.now() - REACHED_LIMIT_MS;
    while (this.#waiters[0] !== undefined && this.#waiters[0].sinceMs < oldestMs) {
      const waiter = this.#waiters.shift();
      waiter?.reject(new Error(`revision ${waiter.revision} of the group rules has not come`));
    }
  }

  #expire(rule: Rule): void {
    this.#drop(rule);
    this.#ended(rule);
  }

  #ended(rule: Rule): void {
    const { onExpired, report } = this.#parts;
    this.#purge.push(rule);
    try {
      onExpired(rule.hub, rule.userId, rule.group);
    } catch (error) {
      report({ kind: "fault", where: "the end of a group rule", error });
    }
  }

  /** Where the store fails, the row stays for the next start, which sees that it has ended. */
  #purgeSome(): void {
    const ended = this.#purge
      .splice(0, PURGED_PER_TICK)
      // Put again since then: the row is the new rule's.
      .filter(({ hub, userId, group }) => this.#byUser.get(userKey(hub, userId))?.has(group) !== true);
    if (ended.length === 0) return;
    const { store, report } = this.#parts;
    store.forget(ended).catch((error) => report({ kind: "fault", where: "removing ended group rules", error }));
  }
}

/** No name has a NUL. */
function userKey(hub: string, userId: string): string {
  return `${hubKey(hub)}\0${userId}`;
}

function secondOf(ms: number): number {
  return Math.floor(ms / 1000);
}
