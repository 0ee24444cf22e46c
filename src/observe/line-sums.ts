import type { Logger } from "pino";
import type { Clock } from "../core/ports/clock.ts";
import { hubKey } from "../protocol/names.ts";
import { ownCopy } from "../protocol/own-copy.ts";

const SECOND_MS = 1000;

/** Kinds of lines that are told apart within a second. For further lines hub and detail make no difference. */
const MAX_KINDS = 64;

/** Addresses that are remembered within a second, over all kinds, to count each once: about a megabyte. */
const MAX_ADDRESSES = 10_000;

/** Longest part of a kind that others may have written, and longest address. */
const MAX_DETAIL_CHARS = 200;
const MAX_ADDRESS_CHARS = 64;

/** Longest text of a line. */
const MAX_TEXT_CHARS = 1000;

/** The hub in a sum over several hubs. No hub has this name. */
const ANY_HUB = "*";

/** A line, and what makes others equal to it: level and message, `kind`, `detail`, and the hub. */
export interface Line {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly message: string;
  /** One of few words of hubwire's own, such as an error code. */
  readonly kind?: string;
  /** What tells lines apart further. It may come from outside, so there may be any number of them. */
  readonly detail?: string;
  /** What the line says. `count` is the number of events that it is about; where it is left out, one. */
  readonly facts: LineFacts;
}

export interface LineFacts extends Readonly<Record<string, unknown>> {
  readonly hub?: string;
  readonly clientAddress?: string | null;
  readonly count?: number;
}

/** Equal lines that have not been written yet. */
interface Sum {
  /** The first of them; null before it. */
  first: Line | null;
  lineCount: number;
  eventCount: number;
  readonly addresses: Set<string>;
  /** Whether there were addresses that could not be remembered. */
  isMore: boolean;
  readonly isAnyHub: boolean;
}

/**
 * Writes lines to the log, and equal ones once a second: what a stranger can cause at will must not fill the disk.
 *
 *   first line ─▶ written at once       the same within a second ─▶ [ sum ] ─▶ written at the second's end, and so each second
 *
 * Shape:  a sum has the facts of its first line, `count` (its events) and `addresses`, the number of different client addresses;
 *         `addressesAtLeast` where there were more than are remembered. A sum over several hubs has the hub `*`.
 * Cost:   at most 64 lines a second and one for each kind of line that there is; about a megabyte while a second lasts.
 */
export class LineSums {
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #sums = new Map<string, Sum>();
  #addressCount = 0;
  #cancelTick: (() => void) | null = null;
  #isStopped = false;

  constructor(log: Logger, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  /** Whether lines of a level are written at all. */
  isWritten(level: Line["level"]): boolean {
    return this.#log.isLevelEnabled(level);
  }

  write(line: Line): void {
    if (!this.isWritten(line.level)) return;
    if (this.#isStopped) {
      this.#print(line, line.facts);
      return;
    }
    const rest = `${line.level} ${line.message} ${line.kind ?? ""}`;
    const key = `${rest}\0${hubKey(line.facts.hub ?? "")}\0${(line.detail ?? "").slice(0, MAX_DETAIL_CHARS)}`;
    const known = this.#sums.get(key) ?? (this.#sums.size < MAX_KINDS ? undefined : this.#sums.get(rest));
    if (known !== undefined) {
      this.#add(known, line);
      return;
    }
    const isAnyHub = this.#sums.size >= MAX_KINDS;
    this.#sums.set(isAnyHub ? rest : key, newSum(isAnyHub));
    this.#cancelTick ??= this.#clock.every(SECOND_MS, () => this.#tick());
    this.#print(line, line.facts);
  }

  /** Writes what has been summed up. Later lines are written one by one. May be called twice. */
  stop(): void {
    this.#isStopped = true;
    for (const sum of this.#sums.values()) this.#flush(sum);
    this.#sums.clear();
    this.#cancelTick?.();
    this.#cancelTick = null;
  }

  #add(sum: Sum, line: Line): void {
    const { clientAddress, count = 1 } = line.facts;
    sum.first ??= line;
    sum.lineCount++;
    sum.eventCount += count;
    if (typeof clientAddress !== "string") return;
    const address = clientAddress.slice(0, MAX_ADDRESS_CHARS);
    if (sum.addresses.has(address)) return;
    if (this.#addressCount >= MAX_ADDRESSES) {
      sum.isMore = true;
      return;
    }
    this.#addressCount++;
    sum.addresses.add(ownCopy(address));
  }

  #tick(): void {
    for (const [key, sum] of this.#sums) {
      if (sum.first === null) this.#sums.delete(key);
      else this.#flush(sum);
    }
    if (this.#sums.size > 0) return;
    this.#cancelTick?.();
    this.#cancelTick = null;
  }

  #flush(sum: Sum): void {
    const { first, lineCount, eventCount, addresses, isMore, isAnyHub } = sum;
    if (first === null) return;
    const hub = isAnyHub && first.facts.hub !== undefined && lineCount > 1 ? { hub: ANY_HUB } : {};
    const counted = addresses.size === 0 ? {} : { [isMore ? "addressesAtLeast" : "addresses"]: addresses.size };
    const sums = lineCount === 1 ? {} : { count: eventCount, ...counted };
    sum.first = null;
    sum.lineCount = 0;
    sum.eventCount = 0;
    sum.isMore = false;
    this.#addressCount -= addresses.size;
    addresses.clear();
    this.#print(first, { ...first.facts, ...hub, ...sums });
  }

  #print({ level, message }: Line, facts: LineFacts): void {
    const bounded: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(facts)) {
      const maxChars = name === "clientAddress" ? MAX_ADDRESS_CHARS : MAX_TEXT_CHARS;
      bounded[name] = typeof value === "string" && value.length > maxChars ? value.slice(0, maxChars) : value;
    }
    this.#log[level](bounded, message);
  }
}

function newSum(isAnyHub: boolean): Sum {
  return { first: null, lineCount: 0, eventCount: 0, addresses: new Set(), isMore: false, isAnyHub };
}
