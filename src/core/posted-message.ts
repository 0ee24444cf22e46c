import { type MessageEvent, messageEventId } from "../protocol/events.ts";
import type { Connection } from "./connection.ts";
import type { InboundMessage } from "./inbox.ts";
import type { OutcomeListener, UpstreamOutcome } from "./ports.ts";

/** Who acts on what became of a message. */
export interface MessageOwner {
  onOutcome(message: PostedMessage, outcome: UpstreamOutcome): void;
  onFault(message: PostedMessage, bug: unknown): void;
}

/** A message of a client on its way to the upstream: its event, and the one who hears how it ended. */
export class PostedMessage implements MessageEvent, OutcomeListener {
  readonly name = "message";
  readonly facts: Connection;
  readonly number: number;
  readonly payload: Uint8Array;
  readonly binary: boolean;
  /** How often it was posted again, since provably none of it was sent. Set by dispatch. */
  repeats = 0;
  readonly #owner: MessageOwner;

  constructor(connection: Connection, number: number, { payload, binary }: InboundMessage, owner: MessageOwner) {
    this.facts = connection;
    this.number = number;
    this.payload = payload;
    this.binary = binary;
    this.#owner = owner;
  }

  /** Formed when it is asked for: nearly all messages go without. */
  get eventId(): string {
    return messageEventId(this.facts.connectionId, this.number);
  }

  onOutcome(outcome: UpstreamOutcome): void {
    this.#owner.onOutcome(this, outcome);
  }

  onFault(bug: unknown): void {
    this.#owner.onFault(this, bug);
  }
}
