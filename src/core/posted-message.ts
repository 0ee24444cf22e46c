import type { EventCommand } from "../protocol/client-protocol.ts";
import type { MessageReply } from "../protocol/dialect.ts";
import { type MessageEvent, messageEventId } from "../protocol/events.ts";
import type { PayloadType } from "../protocol/payload.ts";
import type { Connection } from "./connection.ts";
import type { MessageCall, MessageInFlight } from "./message-call.ts";
import type { CallFailure, EntryView, ReplyListener } from "./ports/upstream.ts";

const NO_BYTES = new Uint8Array();

/** Acts on what became of a message. */
export interface MessageOwner {
  onReply(message: PostedMessage, reply: MessageReply): void;
  onFailure(message: PostedMessage, failure: CallFailure, entry: EntryView | null): void;
  onFault(message: PostedMessage, bug: unknown): void;
}

/** A message of a client on its way to the upstream: its event, and the listener that hears how it ended. */
export class PostedMessage implements MessageEvent, ReplyListener, MessageInFlight {
  readonly name = "message";
  readonly facts: Connection;
  readonly number: number;
  payload: Uint8Array;
  readonly payloadType: PayloadType;
  /** Set by dispatch. */
  call: MessageCall | null = null;
  readonly #owner: MessageOwner;

  constructor(connection: Connection, number: number, { payload, payloadType }: EventCommand, owner: MessageOwner) {
    this.facts = connection;
    this.number = number;
    this.payload = payload;
    this.payloadType = payloadType;
    this.#owner = owner;
  }

  /** Formed when it is asked for: nearly all messages go without. */
  get eventId(): string {
    return messageEventId(this.facts.connectionId, this.number);
  }

  letPayloadGo(): number {
    const { length } = this.payload;
    if (length === 0 || this.call?.forgoRepeat() !== true) return 0;
    this.payload = NO_BYTES;
    return length;
  }

  giveUp(): void {
    this.call?.abandon();
  }

  onReply(reply: MessageReply): void {
    this.#owner.onReply(this, reply);
  }

  onFailure(failure: CallFailure, entry: EntryView | null): void {
    this.#owner.onFailure(this, failure, entry);
  }

  onFault(bug: unknown): void {
    this.#owner.onFault(this, bug);
  }
}
