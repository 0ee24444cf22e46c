import type { ConnectionFacts } from "./facts.ts";
import type { PayloadType } from "./payload.ts";

/**
 * What the gateway tells the upstream: three events, each about one connection.
 *
 * These are facts, not headers: a dialect (`dialect.ts`) turns them into headers and a body.
 * Source: the seed, "Connect", "Send Messages", "Disconnect".
 */
export const EVENT_NAMES = ["connect", "message", "disconnect"] as const;
export type EventName = (typeof EVENT_NAMES)[number];
export const EVENT_CATEGORIES = ["connections", "messages"] as const;
export type EventCategory = (typeof EVENT_CATEGORIES)[number];

const CATEGORIES: Readonly<Record<EventName, EventCategory>> = {
  connect: "connections",
  message: "messages",
  disconnect: "connections",
};

/** The category that an event belongs to, as the seed's URL parameters name it. */
export function categoryOf(name: EventName): EventCategory {
  return CATEGORIES[name];
}

/** The headers of a client's handshake, read when they are asked for. Nothing writes them to a journal or a log. */
export interface RequestHeaders {
  /** All lines of one name, joined as the HTTP server joins them, one char a byte; null where the client sent no such line. */
  get(name: string): string | null;
}

export interface ConnectEvent {
  readonly name: "connect";
  /** The same on every try of this event. */
  readonly eventId: string;
  readonly facts: ConnectionFacts;
  /** The client's `Sec-WebSocket-Protocol`, all lines joined by `, `, one char a byte; null where it sent none. */
  readonly subprotocols: string | null;
  /** SHA-1, 40 upper-case hex digits; null where the client showed no certificate. */
  readonly certThumbprint: string | null;
  /** Without an `Authorization` that hubwire took for itself. */
  readonly headers: RequestHeaders;
}

export interface MessageEvent {
  readonly name: "message";
  /** Counts the messages of its connection, from 1. */
  readonly number: number;
  /** `messageEventId` of connection and number. */
  readonly eventId: string;
  readonly facts: ConnectionFacts;
  readonly payload: Uint8Array;
  readonly payloadType: PayloadType;
}

export interface DisconnectEvent {
  readonly name: "disconnect";
  readonly eventId: string;
  readonly facts: ConnectionFacts;
  readonly closeCode: number;
  readonly closeReason: string;
  /** True where the connect event was sent and its answer never came: the backend may have said 2xx. */
  readonly connectOutcomeUnknown: boolean;
}

/** Source: PROTOCOL.md, "Calling the upstream". */
export function connectEventId(connectionId: string): string {
  return `${connectionId}.connect`;
}

/** `isSecond`: of the event that follows an answer to connect that came after its time-out. Source: decision 0038. */
export function disconnectEventId(connectionId: string, isSecond = false): string {
  return `${connectionId}.disconnect${isSecond ? ".2" : ""}`;
}

export function messageEventId(connectionId: string, number: number): string {
  return `${messageEventIdStart(connectionId)}${number}`;
}

/** The text with which all event ids of a connection's messages begin; the message's number follows. */
export function messageEventIdStart(connectionId: string): string {
  return `${connectionId}.`;
}

export type UpstreamEvent = ConnectEvent | MessageEvent | DisconnectEvent;
