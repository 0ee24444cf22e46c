import type { Msg } from "@nats-io/transport-node";

/** How much later a message may come over one connection than over the other: servers and this process may be held up. */
const TWIN_MS = 2000;

/** The bytes and messages that may wait or be remembered; past them the connections change places at once, and a message may come twice or out of order. */
const MAX_MESSAGES = 200_000;
const MAX_HELD_BYTES = 16 * 1024 * 1024;

/** So many that were told are taken out of the list of those that are held at once. */
const MAX_TOLD = 1024;

/** A message that has come over the second connection alone so far. */
interface Held {
  readonly message: Msg;
  isTold: boolean;
}

/**
 * Makes one stream of what comes over two connections while both are subscribed to the same subjects.
 *
 *     first ───▶ told at once, and remembered for 2 s ───────────────────────────────┐ the twin of one that was told is dropped
 *     second ──▶ [ held, until its twin has come over the first ] ── leave ──▶ told ◀┘
 *
 * Order:  what one publisher sends comes in its order over each connection. The second one's messages are told behind all of the first
 *         one's, so their order is kept.
 * Shape:  messages are twins where subject, reply and bytes are equal, one of each connection. What the first has told before the second
 *         was subscribed has no twin, and is forgotten by `mark` and `forgetMarked`: else an equal one of the second would be dropped.
 * Cost:   a hash of each message, and about 100 bytes for each until its twin has come, while both connections are used.
 */
export class Overlap {
  readonly #tell: (message: Msg) => void;
  readonly #nowMs: () => number;
  readonly #seed = crypto.getRandomValues(new BigUint64Array(1))[0] ?? 0n;
  /** When a message of the first connection was told: its twin is expected. */
  readonly #told = new Map<string, number[]>();
  #markMs = 0;
  readonly #held = new Map<string, Held[]>();
  /** Those that are held, in order, behind `#firstHeld` ones that were told. */
  #order: Held[] = [];
  #firstHeld = 0;
  #count = 0;
  #heldBytes = 0;
  #isHolding = true;

  constructor(tell: (message: Msg) => void, nowMs: () => number = () => performance.now()) {
    this.#tell = tell;
    this.#nowMs = nowMs;
  }

  fromFirst(message: Msg): void {
    const key = this.#keyOf(message);
    const twins = this.#held.get(key);
    const held = twins?.shift();
    if (twins?.length === 0) this.#held.delete(key);
    if (held !== undefined) this.#release(held);
    else this.#remember(key);
    this.#tell(message);
    this.#stopWhereFull();
  }

  fromSecond(message: Msg): void {
    if (!this.#isHolding && this.#told.size === 0) {
      this.#tell(message);
      return;
    }
    const key = this.#keyOf(message);
    const times = this.#told.get(key) ?? [];
    const youngestMs = this.#nowMs() - TWIN_MS;
    for (; times[0] !== undefined && times[0] < youngestMs; times.shift()) this.#count--;
    const isTwin = times.shift() !== undefined;
    if (times.length === 0) this.#told.delete(key);
    if (isTwin) {
      this.#count--;
      return;
    }
    if (!this.#isHolding) {
      this.#tell(message);
      return;
    }
    const held = { message, isTold: false };
    const known = this.#held.get(key);
    if (known === undefined) this.#held.set(key, [held]);
    else known.push(held);
    this.#order.push(held);
    this.#heldBytes += message.data.length;
    this.#stopWhereFull();
  }

  /** It is told over the first connection. */
  #release(held: Held): void {
    held.isTold = true;
    this.#heldBytes -= held.message.data.length;
    while (this.#order[this.#firstHeld]?.isTold === true) this.#firstHeld++;
    if (this.#firstHeld < MAX_TOLD) return;
    this.#order = this.#order.slice(this.#firstHeld);
    this.#firstHeld = 0;
  }

  /** All that is published from now on comes over both connections. */
  mark(): void {
    this.#markMs = this.#nowMs();
  }

  /** The twins of all that was told before the mark have come; what is left of it has none. */
  forgetMarked(): void {
    for (const [key, times] of this.#told) {
      const left = times.filter((ms) => ms >= this.#markMs);
      this.#count -= times.length - left.length;
      if (left.length > 0) this.#told.set(key, left);
      else this.#told.delete(key);
    }
  }

  /** Everything has come over the first connection. Messages of the second one are told, and from now on at once. */
  stopHolding(): void {
    if (!this.#isHolding) return;
    this.#isHolding = false;
    this.#held.clear();
    for (const { message, isTold } of this.#order) if (!isTold) this.#tell(message);
    this.#order = [];
    this.#firstHeld = 0;
  }

  #stopWhereFull(): void {
    if (this.#count + this.#order.length - this.#firstHeld > MAX_MESSAGES || this.#heldBytes > MAX_HELD_BYTES)
      this.stopHolding();
  }

  #remember(key: string): void {
    const times = this.#told.get(key);
    if (times === undefined) this.#told.set(key, [this.#nowMs()]);
    else times.push(this.#nowMs());
    this.#count++;
  }

  #keyOf({ subject, reply, data }: Msg): string {
    return `${Bun.hash(data, this.#seed)} ${subject} ${reply ?? ""}`;
  }
}
