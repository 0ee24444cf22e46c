import type { MessageCall } from "../../src/core/message-call.ts";
import type {
  ConnectOutcome,
  EntryView,
  MessageFailurePolicy,
  NotifyOutcome,
  ReplyListener,
  Unrouted,
  Upstream,
} from "../../src/core/ports/upstream.ts";
import { asrs } from "../../src/dialects/asrs/asrs.ts";
import type { ConnectAsked } from "../../src/protocol/dialect.ts";
import type { ConnectEvent, DisconnectEvent, MessageEvent, UpstreamEvent } from "../../src/protocol/events.ts";
import { type HeaderLine, type HeaderLines, headerValues } from "../../src/protocol/headers.ts";
import { strictText } from "../../src/protocol/strict-text.ts";
import type { CallOutcome } from "../../src/upstream/call.ts";
import { readConnectOutcome } from "../../src/upstream/connect-outcome.ts";

export type { LateHead } from "../../src/upstream/late-answers.ts";

/** What a test says became of a call, as HTTP has it: the dialect reads it as for a real backend. */
export type Scripted = CallOutcome | Unrouted;

/** A call as it was made; what is live in the event (user, facts) is kept as it was then. */
export interface Call {
  readonly event: UpstreamEvent;
  /** `connect`, `disconnect`, or a message's payload as text: what most tests compare. */
  readonly label: string;
  readonly connectionId: string;
  readonly userId: string | null;
  /** Ends a call that is being held. */
  readonly settle: (outcome: Scripted) => void;
}

/**
 * The core's `Upstream` as a test tells it to be.
 *
 * Shape: `script` answers at once; where it gives null, the call is held until the test settles it.
 * Errors: two calls at once for one connection break the port's order and are kept in `overlaps`.
 */
export class ScriptedUpstream implements Upstream {
  readonly calls: Call[] = [];
  readonly overlaps: string[] = [];
  script: (event: UpstreamEvent) => Scripted | null = () => answer(204);
  abandonedTimes = 0;
  readonly #held = new Map<Call, (outcome: Scripted) => void>();

  /** Whether messages whose calls are held have been written whole. */
  isWritten = true;
  forgoneTimes = 0;

  #call(event: UpstreamEvent): Promise<Scripted> {
    const { promise, resolve } = Promise.withResolvers<Scripted>();
    const { connectionId, userId } = event.facts;
    if (this.held.some((other) => other.connectionId === connectionId)) this.overlaps.push(event.eventId);
    const settle = (outcome: Scripted): void => {
      this.#held.delete(call);
      resolve(outcome);
    };
    const label = event.name === "message" ? new TextDecoder().decode(event.payload) : event.name;
    const call: Call = { event, label, connectionId, userId, settle };
    this.calls.push(call);
    const outcome = this.script(event);
    if (outcome === null) this.#held.set(call, resolve);
    else resolve(outcome);
    return promise;
  }

  async connect(event: ConnectEvent): Promise<ConnectOutcome> {
    const asked = { userId: event.facts.userId, subprotocols: event.subprotocols };
    return connectOutcome(await this.#call(event), asked);
  }

  notify(event: DisconnectEvent): Promise<NotifyOutcome> {
    return this.#call(event);
  }

  post(event: MessageEvent, listener: ReplyListener): MessageCall {
    const tell = (outcome: Scripted): void => {
      if (outcome.kind === "answer") listener.onReply(asrs.readReply(outcome));
      else listener.onFailure(outcome, outcome.kind === "unrouted" ? null : this.entry);
    };
    this.#call(event).then(tell, (bug) => listener.onFault(bug));
    const call = this.calls.at(-1);
    const isHeld = () => call !== undefined && this.#held.has(call);
    return {
      forgoRepeat: () => {
        if (!isHeld() || !this.isWritten) return false;
        this.forgoneTimes++;
        return true;
      },
      tookMs: () => 0,
      abandon: () => {
        if (!isHeld() || call === undefined) return;
        this.#held.delete(call);
        tell(unknown({ cause: "abandoned" }));
      },
    };
  }

  /** The entry of every hub; a test changes its fields. */
  entry: {
    label: string;
    maxConcurrency: number;
    isBreakerOpen: boolean;
    onMessageFailure: MessageFailurePolicy;
  } | null = { label: "upstreams[0]", maxConcurrency: 8, isBreakerOpen: false, onMessageFailure: "close" };

  entryFor(): EntryView | null {
    return this.entry;
  }

  abandonMessages(): void {
    this.abandonedTimes++;
    for (const call of this.held) {
      if (call.event.name === "message") call.settle(unknown({ cause: "abandoned" }));
    }
  }

  /** The calls that wait for the test. */
  get held(): Call[] {
    return [...this.#held.keys()];
  }

  get labels(): string[] {
    return this.calls.map(({ label }) => label);
  }

  /** The calls of one event. */
  of(name: UpstreamEvent["name"]): Call[] {
    return this.calls.filter(({ event }) => event.name === name);
  }

  /** Ends the call that has been held longest. */
  settleFirst(outcome: Scripted): void {
    const [first] = this.held;
    if (first === undefined) throw new Error("no call is being held");
    first.settle(outcome);
  }
}

export function answer(status: number, headers: HeaderLines = [], body: string | Uint8Array = ""): Scripted {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const [contentType = ""] = headerValues(headers, "content-type");
  return { kind: "answer", status, headers, contentType, body: bytes, text: strictText(bytes) };
}

/** The header with which an answer to connect names the user. */
export function userHeader(userId: string): HeaderLine {
  return ["X-ASRS-User-Id", userId];
}

/** The header with which an answer to connect names groups. */
export function groupsHeader(...groups: readonly string[]): HeaderLine {
  return ["X-ASRS-Connection-Group", groups.join(",")];
}

export function notSent(): Scripted {
  return { kind: "not-sent", detail: "ECONNREFUSED" };
}

export function unknown(over: Partial<Extract<Scripted, { kind: "unknown" }>> = {}): Scripted {
  return { kind: "unknown", cause: "timeout", status: null, detail: "no answer", ...over };
}

export function refused(over: Partial<Extract<Scripted, { kind: "refused" }>> = {}): Scripted {
  return { kind: "refused", cause: "breaker", retryAfterSeconds: 7, ...over };
}

export const UNROUTED: Scripted = { kind: "unrouted" };

/** What the core gets of a connect event that ended so. */
export function connectOutcome(outcome: Scripted, asked: ConnectAsked): ConnectOutcome {
  if (outcome.kind === "unrouted") return { kind: "unrouted", reply: asrs.readConnect(null, asked) };
  return readConnectOutcome(outcome, asrs, asked);
}
