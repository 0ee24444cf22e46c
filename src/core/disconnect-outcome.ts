import { clientPathOf } from "../protocol/client-paths.ts";
import { type DisconnectEvent, disconnectEventId } from "../protocol/events.ts";
import type { ConnectionFacts } from "../protocol/facts.ts";
import { answeredAtMs, headerValues } from "../protocol/headers.ts";
import type { OwedDisconnect } from "./ports/journal.ts";
import type { AnswerHead, CallFailure, NotifyOutcome, RefusalCause, Upstream } from "./ports/upstream.ts";

/** The longest pause that a backend may ask for; one that asks for more is tried again after this. */
const MAX_RETRY_AFTER_MS = 3_600_000;

/** Answers with which servers refuse a head that is too long for them: Node 431, nginx and gunicorn 400. */
const TOO_LONG_STATUSES: readonly number[] = [400, 413, 431];

/**
 * Refusals that come and go while a backend is deployed: the route or its authentication is not there yet, or the request reached a
 * server that does not know the hub's application any more. Source: decision 0037.
 */
const PASSING_REFUSALS: readonly number[] = [401, 403, 404, 405, 407, 410, 421];

/** A query or a path that is shorter is not what makes a head too long. */
const LONG_CHARS = 1024;

/** What the outcome of a disconnect event means for it. */
export type DisconnectResult =
  /** The upstream has it, or no entry wants it. */
  | { readonly kind: "done" }
  /** The upstream does not want it; trying again would change nothing. */
  | { readonly kind: "ended"; readonly cause: string }
  /** It must be tried again, `waitMs` after now at the earliest where the upstream or its breaker said so. */
  | {
      readonly kind: "retry";
      readonly cause: string;
      readonly waitMs: number | null;
      readonly tried: boolean;
      /** This event is refused, perhaps for a while only, and others are not. */
      readonly isRefusal: boolean;
    };

/** The event of a disconnect that is owed; the same id on every try. */
export function disconnectEvent({ facts, end, connectOutcomeUnknown, nth }: OwedDisconnect): DisconnectEvent {
  return {
    name: "disconnect",
    // The second is an event of its own: a backend that remembers ids must take it.
    eventId: disconnectEventId(facts.connectionId, nth === "second"),
    facts,
    closeCode: end.code,
    closeReason: end.reason,
    connectOutcomeUnknown,
  };
}

/**
 * Posts a disconnect event. Where the upstream may have refused it for the length of its head, it is posted once more, with the same id,
 * without the close reason and the long ones of the client's query and path.
 *
 * Why:    a client chooses them. With a query that just fits into the connect event, the disconnect event would be too long, and lost.
 * Source: decision 0035.
 */
export async function postDisconnect(upstream: Pick<Upstream, "notify">, owed: OwedDisconnect): Promise<NotifyOutcome> {
  const event = disconnectEvent(owed);
  const outcome = await upstream.notify(event);
  if (outcome.kind !== "answer" || !TOO_LONG_STATUSES.includes(outcome.status)) return outcome;
  const facts = withoutLongTexts(owed.facts);
  return facts === null ? outcome : upstream.notify({ ...event, facts, closeReason: "" });
}

/** Null where neither the query nor the path is long. */
function withoutLongTexts(facts: ConnectionFacts): ConnectionFacts | null {
  const isQueryLong = facts.clientQuery.length >= LONG_CHARS;
  const isPathLong = (clientPathOf(facts)?.length ?? 0) >= LONG_CHARS;
  if (!isQueryLong && !isPathLong) return null;
  const kept = isQueryLong ? { ...facts, clientQuery: "" } : facts;
  if (!isPathLong) return kept;
  const { clientPath: _dropped, ...rare } = facts.rare ?? {};
  return { ...kept, rare };
}

/**
 * Judges the outcome of a disconnect event. Pure; `nowMs` is Unix time, for a `Retry-After` that names a date in an answer without `Date`.
 *
 * Source: PROTOCOL.md, "Disconnect": any answer but 2xx and 4xx, or none, is tried again, and of 4xx those that may pass.
 *         Retry-After per RFC 9110, section 10.2.3.
 */
export function judgeDisconnect(outcome: NotifyOutcome, nowMs: number): DisconnectResult {
  if (outcome.kind === "unrouted") return { kind: "done" };
  const cause = describeOutcome(outcome);
  if (outcome.kind === "refused") {
    // One address with all its places must not hold up the disconnects of the others, which wait in the same lane.
    const isRefusal = outcome.cause === "address-concurrency";
    return { kind: "retry", cause, waitMs: outcome.retryAfterSeconds * 1000, tried: false, isRefusal };
  }
  if (outcome.kind !== "answer") return { kind: "retry", cause, waitMs: null, tried: true, isRefusal: false };
  const { status, headers } = outcome;
  if (status >= 200 && status < 300) return { kind: "done" };
  const isRefusal = PASSING_REFUSALS.includes(status);
  if (status >= 400 && status < 500 && status !== 408 && status !== 429 && !isRefusal) return { kind: "ended", cause };
  const [retryAfter = ""] = headerValues(headers, "retry-after");
  const waitMs = parseRetryAfter(retryAfter, answeredAtMs(headers) ?? nowMs);
  return { kind: "retry", cause, waitMs, tried: true, isRefusal };
}

/** Null where the header is absent or makes no sense. */
function parseRetryAfter(value: string, nowMs: number): number | null {
  const text = value.trim();
  const waitMs = /^\d+$/.test(text) ? Number(text) * 1000 : /[a-z]/i.test(text) ? Date.parse(text) - nowMs : Number.NaN;
  if (Number.isNaN(waitMs)) return null;
  return Math.min(Math.max(waitMs, 0), MAX_RETRY_AFTER_MS);
}

/** Why an event was not tried, in words for the log. */
const REFUSED: Readonly<Record<RefusalCause, string>> = {
  breaker: "circuit breaker open",
  concurrency: "no place came free within maxWaitMs",
  "address-concurrency":
    "maxConcurrencyPerAddress is reached: no place of the client's address came free within maxWaitMs",
};

/** An outcome in words for the log. Holds no secret: adapters keep URLs' queries and header values out of details. */
export function describeOutcome(outcome: Pick<AnswerHead, "kind" | "status"> | CallFailure): string {
  switch (outcome.kind) {
    case "answer":
      return `answered with status ${outcome.status}`;
    case "not-sent":
      return `not sent: ${outcome.detail}`;
    case "unknown":
      return `no usable answer (${outcome.cause}): ${outcome.detail}`;
    case "refused":
      return REFUSED[outcome.cause];
    case "unrouted":
      return "no entry of upstreams matches";
  }
}
