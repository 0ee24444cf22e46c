import type { GroupRule, RuleChange, RuleKey, RuleStore, RuleWrite } from "../core/rule-store.ts";
import { Bucket, type BucketEntry, type BucketWrite } from "../nats/bucket.ts";
import type { NatsLink } from "../nats/link.ts";
import { encodeToken } from "../nats/subjects.ts";
import { OLDEST_FORM } from "../protocol/forms.ts";
import { hubKey, isHubName, isName } from "../protocol/names.ts";
import type { Report } from "../protocol/notices.ts";

/** How often, and after how long, the traces of rules that were ended are taken out of the bucket. */
const TIDY_MS = 3_600_000;

/** How many rules are written at once into a bucket that was deleted. */
const FILLED_AT_ONCE = 100;

/** What the store needs. */
export interface KvRuleStoreOptions {
  readonly link: NatsLink;
  /** The bucket is `<prefix>_rules`. */
  readonly prefix: string;
  readonly replicas: number;
  /** The form that every node reads. */
  readonly form: () => number;
  readonly report: Report;
}

/** A rule and what it was last heard of. */
interface Known {
  readonly key: RuleKey;
  readonly expiresAtMs: number;
  readonly revision: number;
}

/**
 * Keeps group rules in a JetStream key-value bucket, for all nodes.
 *
 * Shape:  key: hub key, user and group, each as `encodeToken` writes it; value: the rule as JSON, its end inside, since the
 *         server of Debian ignores the time to live of a single key.
 * Order:  a change is told once, by its revision, however often the bucket tells of it.
 * Time:   dates are by the servers' clock, so no node's own clock has a say.
 * Errors: `unavailable` while NATS is away or does not answer. Never rejects.
 */
export class KvRuleStore implements RuleStore {
  readonly #bucket: Bucket;
  readonly #form: () => number;
  readonly #report: Report;
  /** By bucket key: what must be told as removed when it is gone. */
  readonly #known = new Map<string, Known>();
  /** The keys told since the watch began; null once it has caught up. */
  #seen: Set<string> | null = new Set();
  #revision = 0;
  /** Keys of rules that were in a bucket that was deleted, and are not heard from the new one yet. */
  readonly #unfilled = new Set<string>();
  #isRemade = false;
  #anew: () => void = () => {};
  #listener: (change: RuleChange) => void = () => {};
  #loaded: () => void = () => {};
  #tidy: ReturnType<typeof setInterval> | null = null;
  /** What the servers' time is ahead of the monotonic clock. */
  #serverAheadMs = Date.now() - performance.now();

  constructor({ link, prefix, replicas, form, report }: KvRuleStoreOptions) {
    this.#form = form;
    this.#report = report;
    this.#bucket = new Bucket({
      link,
      name: `${prefix}_rules`,
      replicas,
      maxAgeMs: 0,
      listener: {
        serverTime: (unixMs) => {
          this.#serverAheadMs = unixMs - performance.now();
        },
        begin: (isRemade) => this.#begin(isRemade),
        entry: (entry) => this.#heard(entry),
        caughtUp: () => this.#caughtUp(),
      },
      onFailure: (reason) => report({ kind: "rules-unavailable", reason }),
    });
  }

  timeMs(): number {
    return performance.now() + this.#serverAheadMs;
  }

  get isCurrent(): boolean {
    return this.#bucket.isCaughtUp;
  }

  /** Resolves with the first time that NATS is up, however late that is. */
  watch(listener: (change: RuleChange) => void, anew: () => void = () => {}): Promise<void> {
    this.#listener = listener;
    this.#anew = anew;
    const loaded = new Promise<void>((resolve) => {
      this.#loaded = resolve;
    });
    this.#bucket.start();
    this.#tidy = setInterval(() => {
      this.#bucket.purgeDeleted(TIDY_MS).catch(() => {
        // Only tidying: the next hour does it, or another node.
      });
      this.#bucket.tellTime().catch(() => {
        // Clocks go apart by seconds in a day: the next hour does it.
      });
    }, TIDY_MS);
    return loaded;
  }

  async put(rule: GroupRule): Promise<RuleWrite> {
    const { hub, userId, group, expiresAtMs } = rule;
    return toRuleWrite(await this.#bucket.put(keyOf(rule), this.#format({ hub, userId, group, expiresAtMs })));
  }

  /** In form 1 nothing says which it is. */
  #format(rule: GroupRule): string {
    const form = this.#form();
    return JSON.stringify(form === OLDEST_FORM ? rule : { form, ...rule });
  }

  async remove(keys: readonly RuleKey[]): Promise<RuleWrite> {
    let last: RuleWrite = { kind: "written", revision: this.#revision };
    for (const written of await Promise.all(keys.map((key) => this.#bucket.delete(keyOf(key))))) {
      const one = toRuleWrite(written);
      if (one.kind === "unavailable") return one;
      if (last.kind === "written" && one.revision > last.revision) last = one;
    }
    return last;
  }

  /** Every node hears of a rule's end by its own clock, so it goes without a trace. The second node finds nothing. */
  async forget(ended: readonly RuleChange[]): Promise<void> {
    for (const rule of ended) {
      const key = keyOf(rule);
      if (this.#known.get(key)?.revision !== rule.revision) continue;
      this.#known.delete(key);
      // In the new bucket its revision is another change's.
      if (this.#unfilled.delete(key)) continue;
      // A node that is away takes it out when it is back.
      await this.#bucket.erase(rule.revision).catch(() => {});
    }
  }

  async close(): Promise<void> {
    if (this.#tidy !== null) clearInterval(this.#tidy);
    this.#bucket.stop();
  }

  #begin(isRemade: boolean): void {
    this.#seen = new Set();
    if (!isRemade) return;
    // The new bucket counts from one again, and a rule that it lacks has not been ended.
    this.#revision = 0;
    this.#isRemade = true;
    for (const key of this.#known.keys()) this.#unfilled.add(key);
    this.#anew();
  }

  #heard({ key, revision, value }: BucketEntry): void {
    this.#seen?.add(key);
    this.#unfilled.delete(key);
    if (revision <= this.#revision) return;
    this.#revision = revision;
    if (value === null) {
      this.#removed(key, revision);
      return;
    }
    const rule = parseRule(value);
    if (rule === null || keyOf(rule) !== key) {
      const reason = `the bucket of group rules has something else under ${key}`;
      this.#report({ kind: "rules-unavailable", reason });
      return;
    }
    const { hub, userId, group, expiresAtMs } = rule;
    this.#known.set(key, { key: { hub, userId, group }, expiresAtMs, revision });
    this.#listener({ ...rule, revision });
  }

  /** Tells the revision even where the rule was never heard of: a caller may wait for it. */
  #removed(key: string, revision: number): void {
    const known = this.#known.get(key)?.key ?? { hub: "", userId: "", group: "" };
    this.#known.delete(key);
    this.#listener({ ...known, expiresAtMs: null, revision });
  }

  #caughtUp(): void {
    const seen = this.#seen;
    this.#seen = null;
    // Ended while NATS was away, and its trace is gone too.
    if (seen !== null)
      for (const key of [...this.#known.keys()])
        if (!seen.has(key) && !this.#unfilled.has(key)) this.#removed(key, this.#revision);
    this.#loaded();
    void this.#fill();
  }

  /** Writes the rules that the new bucket lacks, only where no other node has. Failed ones are written when the watch begins again. */
  async #fill(): Promise<void> {
    const lacking = [...this.#unfilled];
    let count = 0;
    for (let from = 0; from < lacking.length; from += FILLED_AT_ONCE) {
      const written = await Promise.all(lacking.slice(from, from + FILLED_AT_ONCE).map((key) => this.#fillOne(key)));
      count += written.filter(Boolean).length;
    }
    if (!this.#isRemade || this.#unfilled.size > lacking.length) return;
    this.#isRemade = false;
    this.#report({ kind: "rules-remade", count });
  }

  async #fillOne(key: string): Promise<boolean> {
    const known = this.#known.get(key);
    if (known === undefined) return false;
    const { hub, userId, group } = known.key;
    const value = this.#format({ hub, userId, group, expiresAtMs: known.expiresAtMs });
    return typeof (await this.#bucket.put(key, value, 0)) === "number";
  }
}

function keyOf({ hub, userId, group }: RuleKey): string {
  return [hubKey(hub), userId, group].map(encodeToken).join(".");
}

/** Null for what no hubwire wrote. */
function parseRule(text: string): GroupRule | null {
  try {
    const { hub, userId, group, expiresAtMs } = JSON.parse(text) as Record<string, unknown>;
    if (typeof hub !== "string" || typeof userId !== "string" || typeof group !== "string") return null;
    if (!isHubName(hub) || !isName(userId) || !isName(group)) return null;
    // JSON has numbers that are endless here, and no rule is.
    return typeof expiresAtMs === "number" && Number.isFinite(expiresAtMs) ? { hub, userId, group, expiresAtMs } : null;
  } catch {
    return null;
  }
}

function toRuleWrite(written: BucketWrite): RuleWrite {
  return typeof written === "number" ? { kind: "written", revision: written } : { kind: "unavailable" };
}
