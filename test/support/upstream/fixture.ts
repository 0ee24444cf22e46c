import type { UpstreamEntry } from "../../../src/config/schema.ts";
import type { Clock } from "../../../src/core/ports/clock.ts";
import { systemClock } from "../../../src/gateway/system-clock.ts";
import {
  type ConnectEvent,
  type ConnectionFacts,
  type DisconnectEvent,
  type MessageEvent,
  messageEventId,
} from "../../../src/protocol/events.ts";
import { createUpstream, type RunningUpstream, type UpstreamOptions } from "../../../src/upstream/upstream.ts";

/** Real time, for tests that wait for real sockets. */
export const realClock: Clock = systemClock;

const FACTS: ConnectionFacts = {
  connectionId: "c0nnecti0n_id-0123456789",
  hub: "chat",
  userId: "alice",
  claims: "sub: alice",
  clientQuery: "room=7",
  forwardedFor: "192.0.2.7",
};

export function connectEvent(facts: Partial<ConnectionFacts> = {}): ConnectEvent {
  return {
    name: "connect",
    eventId: "event-1",
    facts: { ...FACTS, ...facts },
    subprotocols: null,
    certThumbprint: null,
  };
}

export function messageEvent(
  payload: string | Uint8Array = "hello",
  facts: Partial<ConnectionFacts> = {},
): MessageEvent {
  const binary = typeof payload !== "string";
  const bytes = binary ? payload : new TextEncoder().encode(payload);
  const all = { ...FACTS, ...facts };
  const eventId = messageEventId(all.connectionId, 2);
  return { name: "message", number: 2, eventId, facts: all, payload: bytes, binary };
}

export function disconnectEvent(facts: Partial<ConnectionFacts> = {}): DisconnectEvent {
  return {
    name: "disconnect",
    eventId: "event-3",
    facts: { ...FACTS, ...facts },
    closeCode: 1000,
    closeReason: "",
    connectOutcomeUnknown: false,
  };
}

/** The body of an answer; an empty one where there was none. */
export function bodyOf(outcome: { readonly kind: string; readonly body?: Uint8Array }): Buffer {
  return Buffer.from(outcome.body ?? new Uint8Array());
}

/** An entry with the configuration's defaults. */
export function upstreamEntry(urlTemplate: string, overrides: Partial<UpstreamEntry> = {}): UpstreamEntry {
  return {
    hubPattern: "*",
    categoryPattern: "*",
    eventPattern: "*",
    urlTemplate,
    dialect: "asrs",
    connectEventName: "handshake",
    timeoutMs: 30_000,
    onMessageFailure: "close",
    repeatOnStaleSocket: true,
    keepAliveMs: 4000,
    maxIdleSockets: null,
    maxConcurrency: 1024,
    maxConcurrencyPerAddress: null,
    maxWaitMs: 5000,
    breaker: { failureRatio: 0.5, minCalls: 20, windowMs: 10_000 },
    auth: { type: "none" },
    tls: { caFile: null, certFile: null, keyFile: null },
    ...overrides,
  };
}

/** An upstream port under test; leaving the scope stops it. */
export interface TestUpstream extends RunningUpstream, AsyncDisposable {
  /** What it reported, one line each. */
  readonly reported: readonly string[];
}

export function startUpstream(
  entries: readonly UpstreamEntry[],
  overrides: Partial<Omit<UpstreamOptions, "entries" | "report">> = {},
): TestUpstream {
  const reported: string[] = [];
  const upstream = createUpstream({
    entries,
    keys: () => ({ primary: "primary-key", secondary: null }),
    maxResponseBytes: 1_048_576,
    hubSpellings: { chat: "Chat" },
    userAgent: "hubwire/1.2.3",
    clock: realClock,
    env: {},
    report: {
      breakerOpened: (entry) => reported.push(`opened ${entry}`),
      breakerClosed: (entry) => reported.push(`closed ${entry}`),
      lateAnswerDropped: (entry) => reported.push(`late answer dropped ${entry}`),
      tokenFailed: (entry, detail) => reported.push(`token ${entry}: ${detail}`),
    },
    ...overrides,
  });
  return { ...upstream, reported, [Symbol.asyncDispose]: () => upstream.stop() };
}
