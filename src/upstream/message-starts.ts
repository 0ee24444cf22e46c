import type { AccessKeys } from "../auth/access-keys.ts";
import { formatSignature } from "../auth/access-keys.ts";
import { formatLastingHeaders, formatMessageLines, MESSAGE_DATE_AT } from "../protocol/asrs.ts";
import type { ConnectionFacts, MessageEvent } from "../protocol/events.ts";
import type { HeaderLines } from "../protocol/headers.ts";
import { formatRequestStart } from "./request-bytes.ts";
import { fillUrlTemplate, type UrlTemplate } from "./url-template.ts";

/**
 * How many connections' are kept at least, as long as these live; at most twice as many. Each is about 800 bytes, twice that where
 * the connection sends text and bytes.
 */
const KEPT = 8192;

/** Bytes in which a date stands that can be changed. */
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

/** What a connection's starts were formed from, and those that were asked for. */
interface Starts {
  readonly keys: AccessKeys;
  readonly authorization: HeaderLines;
  text: DatedBytes | null;
  binary: DatedBytes | null;
}

/**
 * The first part of message requests, which but for the date is the same for all messages of a connection that are text, or bytes:
 * it is formed once for each that talks.
 *
 * Cost: those that have ended, or not talked for long, are forgotten. Where more talk in turns than are kept, each is formed anew.
 */
export class MessageStarts {
  readonly #template: UrlTemplate;
  readonly #opening: string;
  readonly #spellHub: (hub: string) => string;
  /** They keep no connection alive. */
  #recent = new WeakMap<ConnectionFacts, Starts>();
  #older = new WeakMap<ConnectionFacts, Starts>();
  #recentCount = 0;

  constructor(template: UrlTemplate, opening: string, spellHub: (hub: string) => string) {
    this.#template = template;
    this.#opening = opening;
    this.#spellHub = spellHub;
  }

  /** Forms all of them anew when they are next asked for: hubs are written in another way from now on. */
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
    const { facts, binary } = event;
    const recent = this.#recent.get(facts);
    let starts = recent ?? this.#older.get(facts);
    if (starts === undefined || starts.keys !== keys || starts.authorization !== authorization) {
      starts = { keys, authorization, text: null, binary: null };
      this.#keep(facts, starts);
    } else if (recent === undefined) {
      // A connection that is asked for again stays recent, at the cost of one write in each generation.
      this.#keep(facts, starts);
    }
    if (binary) {
      starts.binary ??= this.#form(event, starts, date);
      return starts.binary.at(date);
    }
    starts.text ??= this.#form(event, starts, date);
    return starts.text.at(date);
  }

  #form(event: MessageEvent, { keys, authorization }: Starts, date: string): DatedBytes {
    const signature = formatSignature(event.facts.connectionId, keys);
    const hub = this.#spellHub(event.facts.hub);
    const lasting = formatLastingHeaders(event, { hub, signature, connectEventName: "handshake" });
    const target = fillUrlTemplate(this.#template, hub, event.name);
    const headers = [...authorization, ...lasting];
    const first = formatRequestStart({ method: "POST", target, headers }, this.#opening);
    const bytes = Buffer.concat([first, Buffer.from(formatMessageLines(event, date), "latin1")]);
    return new DatedBytes(bytes, first.length + MESSAGE_DATE_AT, date);
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
