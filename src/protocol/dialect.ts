import type { DialectName } from "./dialect-names.ts";
import type { Refusal } from "./error-codes.ts";
import type { ConnectEvent, DisconnectEvent, EventName, MessageEvent } from "./events.ts";
import type { HeaderLine, HeaderLines } from "./headers.ts";
import type { Payload } from "./payload.ts";

/** What an event's request says that is not a fact of the event: new for each try. */
export interface CallContext {
  /** The hub's name, written as backends see it. Source: `spellHub`. */
  readonly hub: string;
  /** Proves that the call comes from hubwire: `formatSignature` of the connection's id. */
  readonly signature: string;
  /** The time of this try as an IMF-fixdate. Source: RFC 9110, section 5.6.7. */
  readonly date: string;
  /** The entry's option of this name. */
  readonly connectEventName: "handshake" | "connect";
}

/** The content of a backend's answer. Each form is made when it is asked for. */
export interface AnswerContent {
  /** The first `Content-Type` as it arrived; empty without such a header. */
  readonly contentType: string;
  readonly body: Uint8Array;
  /** The body as text; null where it is not UTF-8. */
  readonly text: string | null;
}

/** A 2xx answer to a connect event. */
export interface ConnectAnswer {
  /** Values as they arrived, one char a byte. */
  readonly headers: HeaderLines;
  /** Null where the body did not arrive whole. */
  readonly content: AnswerContent | null;
}

/** What a client asked for with its handshake. */
export interface ConnectAsked {
  /** The user that its token names; null where it names none. */
  readonly userId: string | null;
  /** Its `Sec-WebSocket-Protocol`, all lines joined by `, `, one char a byte; null where it sent none. */
  readonly subprotocols: string | null;
}

/** The user of a connection, by the answer or else by the token. */
export interface NamedUser {
  /** Null where neither names one. */
  readonly userId: string | null;
  /** The answer had the user id in bytes that are not UTF-8, and they were read as Latin-1. */
  readonly isLatin1User?: true;
}

/** What a 2xx answer to a connect event means for the client. */
export type ConnectReply =
  | (NamedUser & {
      readonly kind: "accept";
      readonly groups: readonly string[];
      readonly subprotocol: string | null;
      /** The client's first message; null where the answer has none. */
      readonly payload: Payload | null;
    })
  /** The answer cannot be used. The backend counts the connection as accepted all the same. */
  | (NamedUser & { readonly kind: "refuse"; readonly refusal: Refusal });

/** What an answer to a message event means for the client. */
export interface MessageReply {
  /** The message that it gets; null where it gets none. */
  readonly payload: Payload | null;
}

/** The headers and the body of an event's request. */
export interface EventRequest {
  readonly headers: HeaderLine[];
  readonly body: Uint8Array;
}

/**
 * The first part of a message's request, the same for all messages of a connection that have one shape, but for the date.
 *
 * Shape: ASCII, header lines joined by CRLF. The message's number follows the last character, then `Dialect.tail`.
 */
export interface RequestStart {
  readonly headers: readonly HeaderLine[];
  readonly lines: string;
  /** The place of the date in `lines`. */
  readonly dateAt: number;
}

/**
 * How one protocol between hubwire and backends writes events and reads answers. Pure: no state, no clock, no input or output.
 *
 * Cost: `form` and `readConnect` are called once or twice for each connection, `start` once for each shape of its messages. `shapeOf`, `tail`
 *       and `readReply` are called for each message.
 */
export interface Dialect {
  /** Whether a backend of this dialect is told of an event. */
  readonly events: Readonly<Record<EventName, boolean>>;
  form(event: ConnectEvent | DisconnectEvent, context: CallContext): EventRequest;
  /** Messages of a connection whose requests have the same start have the same shape. */
  shapeOf(event: MessageEvent): string;
  start(event: MessageEvent, context: CallContext): RequestStart;
  /** What follows the message's number: further header lines, the first of them after its CRLF, or the rest of the numbered line. ASCII. */
  tail(event: MessageEvent): string;
  /** Reads a 2xx answer to connect. `answer` is null where no entry takes the event, so that the client's token alone decides. */
  readConnect(answer: ConnectAnswer | null, asked: ConnectAsked): ConnectReply;
  /** Reads the answer to a message, with any status. */
  readReply(content: AnswerContent): MessageReply;
}

/** One dialect for each name. */
export type Dialects = Readonly<Record<DialectName, Dialect>>;
