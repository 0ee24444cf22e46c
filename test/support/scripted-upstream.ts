import type { MessageCall } from "../../src/core/message-call.ts";
import type { OutcomeListener, Upstream, UpstreamLane, UpstreamOutcome } from "../../src/core/ports/upstream.ts";
import type { MessageEvent, UpstreamEvent } from "../../src/protocol/events.ts";
import { type HeaderLines, headerValues } from "../../src/protocol/headers.ts";
import { strictText } from "../../src/protocol/strict-text.ts";

/** A call as it was made; what is live in the event (user, facts) is kept as it was then. */
export interface Call {
  readonly event: UpstreamEvent;
  /** `connect`, `disconnect`, or a message's payload as text: what most tests compare. */
  readonly label: string;
  readonly connectionId: string;
  readonly userId: string;
  /** Ends a call that is being held. */
  readonly settle: (outcome: UpstreamOutcome) => void;
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
  script: (event: UpstreamEvent) => UpstreamOutcome | null = () => answer(204);
  abandonedTimes = 0;
  readonly #held = new Map<Call, (outcome: UpstreamOutcome) => void>();

  /** Whether messages whose calls are held have been written whole. */
  isWritten = true;
  forgoneTimes = 0;

  call(event: UpstreamEvent): Promise<UpstreamOutcome> {
    const { promise, resolve } = Promise.withResolvers<UpstreamOutcome>();
    const { connectionId, userId } = event.facts;
    if (this.held.some((other) => other.connectionId === connectionId)) this.overlaps.push(event.eventId);
    const settle = (outcome: UpstreamOutcome): void => {
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

  post(event: MessageEvent, listener: OutcomeListener): MessageCall {
    this.call(event).then(
      (outcome) => listener.onOutcome(outcome),
      (bug) => listener.onFault(bug),
    );
    const call = this.calls.at(-1);
    const isHeld = () => call !== undefined && this.#held.has(call);
    return {
      forgoRepeat: () => {
        if (!isHeld() || !this.isWritten) return false;
        this.forgoneTimes++;
        return true;
      },
      abandon: () => {
        if (!isHeld() || call === undefined) return;
        this.#held.delete(call);
        listener.onOutcome(unknown({ cause: "abandoned" }));
      },
    };
  }

  /** The lane of every hub; a test changes its fields. */
  lane: { label: string; maxConcurrency: number; isBreakerOpen: boolean } | null = {
    label: "upstreams[0]",
    maxConcurrency: 8,
    isBreakerOpen: false,
  };

  laneFor(): UpstreamLane | null {
    return this.lane;
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
  settleFirst(outcome: UpstreamOutcome): void {
    const [first] = this.held;
    if (first === undefined) throw new Error("no call is being held");
    first.settle(outcome);
  }
}

export function answer(status: number, headers: HeaderLines = [], body: string | Uint8Array = ""): UpstreamOutcome {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const [contentType = ""] = headerValues(headers, "content-type");
  return { kind: "answer", status, headers, contentType, body: bytes, text: strictText(bytes) };
}

export function notSent(onMessageFailure: "close" | "ignore" = "close"): UpstreamOutcome {
  return { kind: "not-sent", detail: "ECONNREFUSED", onMessageFailure };
}

export function unknown(over: Partial<Extract<UpstreamOutcome, { kind: "unknown" }>> = {}): UpstreamOutcome {
  return { kind: "unknown", cause: "timeout", status: null, detail: "no answer", onMessageFailure: "close", ...over };
}

export function refused(over: Partial<Extract<UpstreamOutcome, { kind: "refused" }>> = {}): UpstreamOutcome {
  return { kind: "refused", cause: "breaker", retryAfterSeconds: 7, onMessageFailure: "close", ...over };
}

export const UNROUTED: UpstreamOutcome = { kind: "unrouted" };
