import type { Clock } from "../core/ports/clock.ts";
import type { Leases } from "../core/ports/takeover.ts";
import { Bucket, type BucketEntry } from "../nats/bucket.ts";
import type { NatsLink } from "../nats/link.ts";
import { isNodeId } from "../protocol/connection-id.ts";
import { NEWEST_FORM, OLDEST_FORM } from "../protocol/forms.ts";
import type { Report } from "../protocol/notices.ts";

/** How long a lease holds that is not renewed, and how often it is. Source: decision 0013. */
const LEASE_MS = 10_000;
const RENEW_MS = 2000;

/** How often the others' leases are looked at. */
const LOOK_MS = 500;

/** How long the trace of a node that has ended is kept: one that was cut off longer does not learn that it was taken over. */
const TRACE_MS = 30 * 86_400_000;

/** How much is shown of a key that is not a node's name. */
const SHOWN_KEY_LENGTH = 64;

export interface KvLeasesOptions {
  readonly link: NatsLink;
  /** The bucket is `<prefix>_nodes`. */
  readonly prefix: string;
  readonly replicas: number;
  readonly nodeId: string;
  readonly clock: Clock;
  readonly report: Report;
  /** A node has not renewed its lease for its whole length. Called again every ten seconds until it is ended. */
  readonly onGone: (nodeId: string) => void;
  /** The bucket has this node's lease, for the first time. */
  readonly onHeld: () => void;
  /** Another node has taken over this one's. `rename` must follow. */
  readonly onLost: () => void;
  /** `commonForm` has changed. */
  readonly onForm: () => void;
}

/** The lease of one node. */
interface Lease {
  /** `held` by the node itself; `claimed` by one that does what it has left undone; `ended`: that is done. */
  readonly state: "held" | "claimed" | "ended";
  /** The node that wrote this. */
  readonly by: string;
  /** The newest form between nodes that the node of this lease reads. 0.1 says none. */
  readonly form: number;
}

/** A lease of another node, and since when, on this node's own clock, it has looked like this. */
interface Seen {
  revision: number;
  sinceMs: number;
  readonly form: number;
}

/**
 * Leases in a JetStream key-value bucket: a live node writes its own every two seconds.
 *
 *     held ─ renewed ─▶ held … ─ not renewed for 10 s ─▶ claimed by another ─▶ ended
 *                                                            └─ not ended for 10 s ─▶ claimed by a third
 *
 * Order:  every step is a write that expects the revision before it, so of two that try one fails. A lease is judged by this
 *         node's own monotonic clock, and only by a node whose own renewals have all succeeded for a lease's whole length: where
 *         JetStream takes no writes, the living look dead.
 * Errors: the timers and the watch of the bucket throw no errors.
 */
export class KvLeases implements Leases {
  readonly #options: KvLeasesOptions;
  readonly #bucket: Bucket;
  readonly #others = new Map<string, Seen>();
  /** Nodes whose lease was in a bucket that was deleted, and is not heard from the new one yet. */
  readonly #unfilled = new Set<string>();
  /** Nodes found gone, with the revision that showed it. */
  readonly #gone = new Map<string, number>();
  #nodeId: string;
  /** Of this node's own lease; null while it has none. */
  #revision: number | null = null;
  #renewedAtMs = Number.NEGATIVE_INFINITY;
  /** Since when every renewal has succeeded; null from one that failed to the next that did not. */
  #renewingSinceMs: number | null = null;
  #isFailureSaid = false;
  #isRenewing = false;
  #isLost = false;
  #lastForm = OLDEST_FORM;
  /** The newest form that all others read. */
  #othersForm = NEWEST_FORM;
  readonly #cancels: (() => void)[] = [];

  constructor(options: KvLeasesOptions) {
    this.#options = options;
    this.#nodeId = options.nodeId;
    this.#bucket = new Bucket({
      link: options.link,
      name: `${options.prefix}_nodes`,
      replicas: options.replicas,
      maxAgeMs: TRACE_MS,
      listener: {
        begin: (isRemade) => this.#begin(isRemade),
        entry: (entry) => this.#heard(entry),
        caughtUp: () => {
          this.#compareForms();
          void this.#caughtUp();
        },
      },
      onFailure: (reason) => this.#notRenewed(reason),
    });
  }

  /** Whether this node's lease holds, by its own clock: else another may be taking over its connections. */
  get isHeld(): boolean {
    return this.#revision !== null && this.#options.clock.now() - this.#renewedAtMs < LEASE_MS;
  }

  /**
   * The newest form that every live node reads; the oldest while their leases are not seen. A node that comes has held its lease for ten
   * seconds before it takes over anything: by then the others write its form.
   */
  get commonForm(): number {
    // Asked for with every message.
    return this.#bucket.isCaughtUp ? this.#othersForm : OLDEST_FORM;
  }

  /** Whether the others' leases are seen. */
  get isWatching(): boolean {
    return this.#bucket.isCaughtUp;
  }

  start(): void {
    const { clock } = this.#options;
    this.#bucket.start();
    this.#cancels.push(
      clock.every(RENEW_MS, () => void this.#renew()),
      clock.every(LOOK_MS, () => this.#look()),
    );
  }

  /** Goes on under another name; the old one belongs to the node that took it. */
  rename(nodeId: string): void {
    this.#nodeId = nodeId;
    this.#revision = null;
    this.#isLost = false;
    void this.#renew();
  }

  async claim(nodeId: string): Promise<boolean> {
    const entry = await this.#bucket.get(nodeId);
    const found = this.#gone.get(nodeId);
    this.#gone.delete(nodeId);
    if (entry?.value == null || parseLease(entry.value).state === "ended") return false;
    // Renewed since it was found gone: it lives, or another works at it.
    if (found !== undefined && found !== entry.revision) return false;
    return (await this.#write(nodeId, "claimed", entry)) === "written";
  }

  async end(nodeId: string): Promise<void> {
    const entry = await this.#bucket.get(nodeId);
    if (entry === null) return;
    const lease = parseLease(entry.value);
    if (lease.state === "claimed" && lease.by === this.#nodeId) await this.#write(nodeId, "ended", entry);
  }

  /** Renews no more. `release`: no node has anything left to do for it. May be called twice. */
  async stop({ release }: { readonly release: boolean }): Promise<void> {
    for (const cancel of this.#cancels.splice(0)) cancel();
    const revision = this.#revision;
    this.#revision = null;
    try {
      if (release && revision !== null) await this.#write(this.#nodeId, "ended", { revision, value: null });
    } catch {
      // It runs out, and the node that takes it over finds nothing to do.
    } finally {
      this.#bucket.stop();
    }
  }

  #begin(isRemade: boolean): void {
    if (isRemade) this.#startAnew();
    // Earlier observations do not count: the others could not renew either.
    this.#others.clear();
    this.#renewingSinceMs = null;
  }

  /** The bucket was deleted, and all leases with it. That of a node which has just died must be there to run out. */
  #startAnew(): void {
    for (const nodeId of this.#others.keys()) this.#unfilled.add(nodeId);
    this.#gone.clear();
    this.#revision = null;
    this.#options.report({ kind: "leases-remade", count: this.#unfilled.size });
  }

  async #caughtUp(): Promise<void> {
    await this.#renew();
    // Not where a node has written its own: it lives.
    for (const nodeId of [...this.#unfilled]) {
      await this.#bucket.put(nodeId, JSON.stringify({ state: "held", by: nodeId } satisfies Omit<Lease, "form">), 0);
    }
  }

  #heard({ key, revision, value }: BucketEntry): void {
    if (!isNodeId(key)) {
      this.#options.report({ kind: "lease-ignored", key: key.slice(0, SHOWN_KEY_LENGTH) });
      return;
    }
    this.#unfilled.delete(key);
    if (key === this.#nodeId) {
      // A claim is noticed here before the next renewal fails by it.
      if (value !== null && this.#revision !== null && revision > this.#revision) void this.#renew();
      return;
    }
    const lease = value === null ? null : parseLease(value);
    if (lease === null || lease.state === "ended") this.#others.delete(key);
    else {
      // A claimed lease is of no live node, so its form does not count.
      const form = lease.state === "held" ? lease.form : NEWEST_FORM;
      this.#others.set(key, { revision, sinceMs: this.#options.clock.now(), form });
    }
    this.#compareForms();
  }

  #compareForms(): void {
    this.#othersForm = NEWEST_FORM;
    for (const seen of this.#others.values()) this.#othersForm = Math.min(this.#othersForm, seen.form);
    const form = this.commonForm;
    if (form === this.#lastForm) return;
    this.#lastForm = form;
    this.#options.onForm();
  }

  #look(): void {
    const nowMs = this.#options.clock.now();
    const sinceMs = this.#renewingSinceMs;
    if (!this.#bucket.isCaughtUp || sinceMs === null || nowMs - sinceMs < LEASE_MS) return;
    for (const [nodeId, seen] of this.#others) {
      if (nowMs - Math.max(seen.sinceMs, sinceMs) < LEASE_MS) continue;
      seen.sinceMs = nowMs;
      void this.#judge(nodeId, seen, nowMs);
    }
  }

  /** Asks once more: a watch that has stopped telling must not make the living dead. */
  async #judge(nodeId: string, seen: Seen, atMs: number): Promise<void> {
    try {
      const entry = await this.#bucket.get(nodeId);
      if (entry?.revision !== seen.revision || this.#others.get(nodeId) !== seen) return;
      this.#gone.set(nodeId, seen.revision);
      this.#options.onGone(nodeId);
    } catch {
      // Not known: the next look asks again.
      if (seen.sinceMs === atMs) seen.sinceMs = atMs - LEASE_MS;
    }
  }

  async #renew(): Promise<void> {
    if (this.#isRenewing || this.#isLost || this.#cancels.length === 0 || !this.#bucket.isCaughtUp) return;
    this.#isRenewing = true;
    try {
      const nodeId = this.#nodeId;
      const written = await this.#write(nodeId, "held", { revision: this.#revision ?? 0, value: null });
      if (written === "written") this.#renewed();
      else if (nodeId === this.#nodeId) await this.#lookAtOwn(nodeId);
    } catch (error) {
      this.#notRenewed(error instanceof Error ? error.message : String(error));
    } finally {
      this.#isRenewing = false;
    }
  }

  #renewed(): void {
    this.#renewedAtMs = this.#options.clock.now();
    this.#renewingSinceMs ??= this.#renewedAtMs;
    if (this.#isFailureSaid) this.#options.report({ kind: "lease-available" });
    this.#isFailureSaid = false;
  }

  #notRenewed(reason: string): void {
    this.#renewingSinceMs = null;
    if (!this.#isFailureSaid) this.#options.report({ kind: "lease-unavailable", reason });
    this.#isFailureSaid = true;
  }

  /** A write that was refused: another has taken it, or an earlier write of this node was done and never acknowledged. */
  async #lookAtOwn(nodeId: string): Promise<void> {
    const entry = await this.#bucket.get(nodeId);
    if (nodeId !== this.#nodeId) return;
    if (entry === null || entry.value === null) {
      // Deleted with the bucket, or by an operator: it is written again.
      this.#revision = entry?.revision ?? null;
      return;
    }
    const lease = parseLease(entry.value);
    if (lease.state === "held" && lease.by === nodeId) {
      this.#revision = entry.revision;
      return;
    }
    this.#isLost = true;
    this.#options.onLost();
  }

  /** In the place of what was found, of which everything that this version does not know is handed on. */
  async #write(
    nodeId: string,
    state: Lease["state"],
    found: Pick<BucketEntry, "revision" | "value">,
  ): Promise<"written" | "conflict"> {
    const handedOn = found.value === null ? { form: NEWEST_FORM } : readObject(found.value);
    const written = await this.#bucket.put(
      nodeId,
      JSON.stringify({ ...handedOn, state, by: this.#nodeId }),
      found.revision,
    );
    if (written === "unavailable") throw new Error("the bucket of leases is out of reach");
    if (written === "conflict") return written;
    if (nodeId !== this.#nodeId) return "written";
    const isFirst = this.#revision === null;
    this.#revision = written;
    if (isFirst && state === "held") this.#options.onHeld();
    return "written";
  }
}

/** A value that no hubwire wrote counts as held: it is taken over, and ends. */
function parseLease(value: string | null): Lease {
  const { state, by, form } = readObject(value ?? "");
  const common = { by: typeof by === "string" ? by : "", form: isForm(form) ? form : OLDEST_FORM };
  if ((state === "claimed" || state === "ended") && typeof by === "string") return { state, ...common };
  return { state: "held", ...common };
}

function isForm(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= OLDEST_FORM;
}

function readObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null ? (parsed as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
