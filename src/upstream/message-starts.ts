import type { AccessKeys } from "../auth/access-keys.ts";
import { formatSignature } from "../auth/access-keys.ts";
import type { Dialect } from "../protocol/dialect.ts";
import type { MessageEvent } from "../protocol/events.ts";
import type { ConnectionFacts } from "../protocol/facts.ts";
import type { HeaderLines } from "../protocol/headers.ts";
import { formatRequestStart } from "./request-bytes.ts";
import { fillUrlTemplate, type UrlTemplate } from "./url-template.ts";

/**
 * Lower bound on the connections whose starts are kept; the upper bound is twice this. Each costs about 800 bytes, twice that where
 * the connection sends text and bytes. A connection has two starts at most: a third shape takes the place of the one asked for longest ago.
 */
const KEPT = 8192;

/** Bytes with a date in them that can be changed. */
class DatedBytes {
  readonly #bytes: Buffer;
  readonly #dateAt: number;
  #date: string;

  constructor(bytes: Buffer, dateAt: number, date: string) {
    this.#bytes = bytes;
    this.#dateAt = dateAt;
    this.#date = date;
  }

  /** The same bytes each time, with this date: all dates are of one length. */
  at(date: string): Uint8Array {
    if (date !== this.#date) {
      this.#bytes.write(date, this.#dateAt, "latin1");
      this.#date = date;
    }
    return this.#bytes;
  }
}

/** A start, the shape of the messages that have it, and the one that was asked for before it. */
interface Start {
  readonly shape: string;
  readonly bytes: DatedBytes;
  other: Start | null;
}

/** What a connection's starts were formed from, and the one that was asked for last. */
interface Starts {
  readonly keys: AccessKeys;
  readonly authorization: HeaderLines;
  last: Start | null;
}

/**
 * The first part of message requests, which but for the date is the same for all messages of a connection that have one shape. It is formed
 * once for each shape in which a connection sends.
 *
 * Cost: starts of connections that have ended, or sent nothing for long, are forgotten. If more connections send in turns than are kept, each start is formed again.
 */
export class MessageStarts {
  readonly #template: UrlTemplate;
  readonly #opening: string;
  readonly #dialect: Dialect;
  readonly #spellHub: (hub: string) => string;
  /** They keep no connection alive. */
  #recent = new WeakMap<ConnectionFacts, Starts>();
  #older = new WeakMap<ConnectionFacts, Starts>();
  #recentCount = 0;

  constructor(parts: {
    template: UrlTemplate;
    opening: string;
    dialect: Dialect;
    spellHub: (hub: string) => string;
  }) {
    this.#template = parts.template;
    this.#opening = parts.opening;
    this.#dialect = parts.dialect;
    this.#spellHub = parts.spellHub;
  }

  /** Forms all of them again when they are next asked for: hubs are written in another way from now on. */
  forget(): void {
    this.#recent = new WeakMap();
    this.#older = new WeakMap();
    this.#recentCount = 0;
  }

  /**
   * Everything up to the message's number. The keys and the authorization in force are compared as objects.
   *
   * Order: the bytes are to be copied before the next call, which may change the date in them.
   */
  startOf(event: MessageEvent, keys: AccessKeys, authorization: HeaderLines, date: string): Uint8Array {
    const { facts } = event;
    const recent = this.#recent.get(facts);
    let starts = recent ?? this.#older.get(facts);
    if (starts === undefined || starts.keys !== keys || starts.authorization !== authorization) {
      starts = { keys, authorization, last: null };
      this.#keep(facts, starts);
    } else if (recent === undefined) {
      // A connection that is asked for again stays recent, at the cost of one write in each generation.
      this.#keep(facts, starts);
    }
    return this.#startOf(event, starts, date).at(date);
  }

  #startOf(event: MessageEvent, starts: Starts, date: string): DatedBytes {
    const shape = this.#dialect.shapeOf(event);
    const { last } = starts;
    if (last?.shape === shape) return last.bytes;
    const { other = null } = last ?? {};
    const next: Start = other?.shape === shape ? other : { shape, bytes: this.#form(event, starts, date), other: null };
    if (last !== null) last.other = null;
    next.other = last;
    starts.last = next;
    return next.bytes;
  }

  #form(event: MessageEvent, { keys, authorization }: Starts, date: string): DatedBytes {
    const signature = formatSignature(event.facts.connectionId, keys);
    const hub = this.#spellHub(event.facts.hub);
    const start = this.#dialect.start(event, { hub, signature, date, connectEventName: "handshake" });
    const target = fillUrlTemplate(this.#template, hub, event.name);
    const headers = [...authorization, ...start.headers];
    const first = formatRequestStart({ method: "POST", target, headers }, this.#opening);
    return new DatedBytes(
      Buffer.concat([first, Buffer.from(start.lines, "latin1")]),
      first.length + start.dateAt,
      date,
    );
  }

  #keep(facts: ConnectionFacts, starts: Starts): void {
    if (this.#recentCount >= KEPT) {
      this.#older = this.#recent;
      this.#recent = new WeakMap();
      this.#recentCount = 0;
    }
    if (!this.#recent.has(facts)) this.#recentCount++;
    this.#recent.set(facts, starts);
  }
}
