import type { UpstreamEntry } from "../../../src/config/schema.ts";
import { Meters } from "../../../src/core/meters.ts";
import type { Clock } from "../../../src/core/ports/clock.ts";
import type { ConnectOutcome, NotifyOutcome, Upstream, WaitingClient } from "../../../src/core/ports/upstream.ts";
import { asrs } from "../../../src/dialects/asrs/asrs.ts";
import { DIALECTS } from "../../../src/dialects/dialects.ts";
import { systemClock } from "../../../src/gateway/system-clock.ts";
import type { Dialect, Dialects, MessageReply } from "../../../src/protocol/dialect.ts";
import {
  type ConnectEvent,
  type DisconnectEvent,
  type MessageEvent,
  messageEventId,
  type UpstreamEvent,
} from "../../../src/protocol/events.ts";
import type { ConnectionFacts } from "../../../src/protocol/facts.ts";
import type { CallOutcome } from "../../../src/upstream/call.ts";
import { createUpstream, type RunningUpstream, type UpstreamOptions } from "../../../src/upstream/upstream.ts";
import { hearing } from "../notices.ts";

/** A real dialect, for tests that need one and not what it writes. */
export const DIALECT: Dialect = asrs;

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
    headers: new Headers(),
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
  return { name: "message", number: 2, eventId, facts: all, payload: bytes, payloadType: binary ? "binary" : "text" };
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
    forwardHeaders: [],
    passResponseHeaders: [],
    breaker: { failureRatio: 0.5, minCalls: 20, windowMs: 10_000 },
    auth: { type: "none" },
    tls: { caFile: null, certFile: null, keyFile: null },
    ...overrides,
  };
}

/** An upstream port under test, which repeats no message unless it is told to; leaving the scope stops it. */
export interface TestUpstream extends RunningUpstream, AsyncDisposable {
  /** Tells the upstream of an event by the method for it, and brings what became of it, in one form for all. */
  call(event: UpstreamEvent, client?: WaitingClient): Promise<CallEnd>;
  readonly meters: Meters;
  /** What it reported, one line each. */
  readonly reported: readonly string[];
}

export function startUpstream(
  entries: readonly UpstreamEntry[],
  overrides: Partial<Omit<UpstreamOptions, "entries" | "report">> = {},
): TestUpstream {
  const reported: string[] = [];
  const meters = new Meters();
  const upstream = createUpstream({
    entries,
    dialects: RECORDING,
    repeatAfterMs: [],
    keys: () => ({ primary: "primary-key", secondary: null }),
    maxResponseBytes: 1_048_576,
    hubSpellings: { chat: "Chat" },
    userAgent: "hubwire/1.2.3",
    clock: realClock,
    env: {},
    meters,
    report: hearing({
      "breaker-opened": ({ entry }) => void reported.push(`opened ${entry}`),
      "breaker-closed": ({ entry }) => void reported.push(`closed ${entry}`),
      "late-answer-dropped": ({ entry }) => void reported.push(`late answer dropped ${entry}`),
      "token-failed": ({ entry, detail }) => void reported.push(`token ${entry}: ${detail}`),
    }),
    ...overrides,
  });
  const call = (event: UpstreamEvent, client: WaitingClient | null = null) => callOf(upstream, event, client);
  return { ...upstream, call, reported, meters, [Symbol.asyncDispose]: () => upstream.stop() };
}

/** What became of an event; of a message that was answered, the answer itself. */
export type CallEnd = ConnectOutcome | CallOutcome | NotifyOutcome;

type MessageAnswer = Extract<CallOutcome, { kind: "answer" }>;

/** A message's reply with the answer in which the dialect read it. */
interface RecordedReply extends MessageReply {
  readonly answer: MessageAnswer;
}

/** The dialects of the product, with replies that have their answers. */
const RECORDING: Dialects = {
  ...DIALECTS,
  asrs: {
    ...DIALECTS.asrs,
    readReply: (content): RecordedReply => ({ ...asrs.readReply(content), answer: content as MessageAnswer }),
  },
};

function callOf(upstream: Upstream, event: UpstreamEvent, client: WaitingClient | null): Promise<CallEnd> {
  if (event.name === "connect") return upstream.connect(event, client);
  if (event.name === "disconnect") return upstream.notify(event);
  return new Promise((resolve, reject) => {
    upstream.post(event, {
      onReply: (reply) => resolve((reply as RecordedReply).answer),
      onFailure: resolve,
      onFault: reject,
    });
  });
}
