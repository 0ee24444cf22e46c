import type { AccessKeys } from "../auth/access-keys.ts";
import { formatSignature } from "../auth/access-keys.ts";
import { formatLastingHeaders } from "../protocol/asrs.ts";
import type { ConnectionFacts, UpstreamEvent } from "../protocol/events.ts";
import type { HeaderLines } from "../protocol/headers.ts";
import { formatRequestStart } from "./request-bytes.ts";
import { fillUrlTemplate, type UrlTemplate } from "./url-template.ts";

/** How many connections' are kept at least, as long as these live; at most twice as many, each about 700 bytes. */
const KEPT = 8192;

type MessageEvent = Extract<UpstreamEvent, { name: "message" }>;

/** What a start was formed from, and the start. */
interface Start {
  readonly keys: AccessKeys;
  readonly authorization: HeaderLines;
  readonly bytes: Uint8Array;
}

/**
 * The first part of message requests, which is the same for all messages of a connection: it is formed once for each that talks.
 *
 * Cost: those that have ended, or not talked for long, are forgotten. Where more talk in turns than are kept, each is formed anew.
 */
export class MessageStarts {
  readonly #template: UrlTemplate;
  readonly #opening: string;
  /** They keep no connection alive. */
  #recent = new WeakMap<ConnectionFacts, Start>();
  #older = new WeakMap<ConnectionFacts, Start>();
  #recentCount = 0;

  constructor(template: UrlTemplate, opening: string) {
    this.#template = template;
    this.#opening = opening;
  }

  /** Everything up to `Date`. The keys and the authorization in force are compared as objects. */
  startOf(event: MessageEvent, keys: AccessKeys, authorization: HeaderLines): Uint8Array {
    const { facts } = event;
    const known = this.#recent.get(facts) ?? this.#older.get(facts);
    if (known !== undefined && known.keys === keys && known.authorization === authorization) {
      // Whoever is asked for again and again stays recent, at the cost of a write once a generation.
      if (!this.#recent.has(facts)) this.#keep(facts, known);
      return known.bytes;
    }
    const bytes = this.#form(event, keys, authorization);
    this.#keep(facts, { keys, authorization, bytes });
    return bytes;
  }

  #form(event: MessageEvent, keys: AccessKeys, authorization: HeaderLines): Uint8Array {
    const signature = formatSignature(event.facts.connectionId, keys);
    const headers = formatLastingHeaders(event, { signature, connectEventName: "handshake" });
    const target = fillUrlTemplate(this.#template, event.facts.hub, event.name);
    return formatRequestStart({ method: "POST", target, headers: [...authorization, ...headers] }, this.#opening);
  }

  #keep(facts: ConnectionFacts, start: Start): void {
    if (this.#recentCount >= KEPT) {
      this.#older = this.#recent;
      this.#recent = new WeakMap();
      this.#recentCount = 0;
    }
    if (!this.#recent.has(facts)) this.#recentCount++;
    this.#recent.set(facts, start);
  }
}
