import type { ConnectReply, NamedUser } from "../protocol/dialect.ts";
import { type Refusal, refusal } from "../protocol/error-codes.ts";
import type { HeaderLines } from "../protocol/headers.ts";
import { relayedHeaders } from "../protocol/relayed-answer.ts";
import type { ConnectOutcome, LateAnswer } from "./ports/upstream.ts";

/** Most bytes of the header lines that the client's 101 has from the upstream, each with its colon, space and CRLF. */
export const MAX_PASSED_BYTES = 16_384;

/** Whether a disconnect event follows a refused connect: `unknown` where the backend may have said 2xx. */
export type DisconnectDue = "none" | "accepted" | "unknown";

/** What a connect event's outcome means for the client. One for each outcome that PROTOCOL.md, "Connect" lists. */
export type ConnectDecision =
  | (Extract<ConnectReply, { kind: "accept" }> & {
      /** Header lines for its 101. */
      readonly headers: HeaderLines;
    })
  | (NamedUser & {
      readonly kind: "relay";
      readonly status: number;
      readonly headers: HeaderLines;
      /** Null where it cannot be passed on; `bodyFault` says why. */
      readonly body: Uint8Array | null;
      readonly bodyFault: string | null;
      readonly disconnect: DisconnectDue;
    })
  /** The user is the one that the disconnect event names. */
  | (NamedUser & {
      readonly kind: "refuse";
      readonly refusal: Refusal;
      readonly disconnect: DisconnectDue;
      /** Where the event timed out: what comes of its answer after all. */
      readonly late?: Promise<LateAnswer>;
    });

/** Colon, space and CRLF. */
const LINE_SIGNS = 4;

type Refused = Extract<ConnectDecision, { kind: "refuse" }>;
type AnsweredConnect = Extract<ConnectOutcome, { kind: "answer" }>;
type Unknown = Extract<ConnectOutcome, { kind: "unknown" }>;

/** What the decision needs to know of the request. */
export interface AdmissionAsked {
  /** From the token; null for an anonymous client. */
  readonly userId: string | null;
  readonly maxGroups: number;
}

/** Decides by the outcome of the connect event. Pure. Source: PROTOCOL.md, "Connect". */
export function decideConnect(outcome: ConnectOutcome, asked: AdmissionAsked): ConnectDecision {
  switch (outcome.kind) {
    case "answer":
      return decideAnswer(outcome, asked);
    case "unrouted":
      return decideReply(outcome.reply, asked, "none");
    case "not-sent":
      return refuse(refusal("upstream_failed", "the upstream cannot be reached", "upstream"), "none", asked);
    case "refused":
      return refuse(
        refusal("upstream_refused", REFUSED_SENTENCE[outcome.cause], REFUSED_TARGET[outcome.cause], {
          "Retry-After": String(outcome.retryAfterSeconds),
        }),
        "none",
        asked,
      );
    case "unknown":
      return decideUnknown(outcome, asked);
  }
}

const REFUSED_SENTENCE = {
  breaker: "the upstream's circuit breaker is open",
  concurrency: "the upstream has too many calls under way: no place came free within maxWaitMs",
  "address-concurrency":
    "this address has too many calls to the upstream under way (maxConcurrencyPerAddress): none of its places came free within maxWaitMs",
} as const;

const REFUSED_TARGET = {
  breaker: "breaker",
  concurrency: "maxConcurrency",
  "address-concurrency": "maxConcurrencyPerAddress",
} as const;

function decideAnswer(answer: AnsweredConnect, asked: AdmissionAsked): ConnectDecision {
  const { status, headers, body } = answer;
  if (answer.reply !== null) return decideReply(answer.reply, asked, "accepted", answer.passed);
  // A lost answer to the same event may have been a 2xx, with any answer to its repeat.
  const disconnect = answer.wasRepeated === true ? "unknown" : "none";
  if (status >= 400 && status < 500) {
    const passed = { headers: relayedHeaders(headers), body, bodyFault: null };
    return { kind: "relay", status, ...passed, disconnect, userId: asked.userId };
  }
  return refuse(
    refusal("upstream_failed", `the upstream answered with status ${status}`, "upstream"),
    disconnect,
    asked,
  );
}

function decideReply(
  reply: NonNullable<AnsweredConnect["reply"]>,
  { maxGroups }: AdmissionAsked,
  disconnect: DisconnectDue,
  headers: HeaderLines = [],
): ConnectDecision {
  const user = userOf(reply);
  if (reply.kind === "refuse") return refuse(reply.refusal, disconnect, user);
  if (reply.groups.length > maxGroups) {
    const sentence = `the upstream named more groups than limits.maxGroupsPerConnection (${maxGroups})`;
    return refuse(refusal("upstream_failed", sentence, "maxGroupsPerConnection"), disconnect, user);
  }
  if (headers.length > 0 && countBytes(headers) > MAX_PASSED_BYTES) {
    const sentence = `the upstream's answer has more than ${MAX_PASSED_BYTES} bytes of headers that passResponseHeaders lists`;
    return refuse(refusal("upstream_failed", sentence, "passResponseHeaders"), disconnect, user);
  }
  return { ...reply, headers };
}

function countBytes(lines: HeaderLines): number {
  return lines.reduce((sum, [name, value]) => sum + name.length + value.length + LINE_SIGNS, 0);
}

/** A status that was seen before things went wrong settles whether the backend took the connection, and a 4xx is the client's. */
function decideUnknown(outcome: Unknown, asked: AdmissionAsked): ConnectDecision {
  const { status, headers = [], detail, reply } = outcome;
  // A lost answer to the same event may have been a 2xx.
  const isUnknown = status === null || outcome.wasRepeated === true;
  const disconnect = reply !== null ? "accepted" : isUnknown ? "unknown" : "none";
  if (status !== null && status >= 400 && status < 500) {
    const passed = { headers: relayedHeaders(headers), body: null, bodyFault: detail };
    return { kind: "relay", status, ...passed, disconnect, userId: asked.userId };
  }
  const user = reply === null ? asked : userOf(reply);
  const refused = refuse(unknownRefusal(outcome.cause === "timeout"), disconnect, user);
  return outcome.late === undefined ? refused : { ...refused, late: outcome.late };
}

function unknownRefusal(timedOut: boolean): Refusal {
  return timedOut
    ? refusal("upstream_timeout", "the upstream did not answer in time", "timeoutMs")
    : refusal("upstream_failed", "the upstream's answer could not be used", "upstream");
}

function userOf({ userId, isLatin1User }: NamedUser): NamedUser {
  return isLatin1User === true ? { userId, isLatin1User } : { userId };
}

function refuse(refused: Refusal, disconnect: DisconnectDue, user: NamedUser): Refused {
  return { kind: "refuse", refusal: refused, disconnect, ...userOf(user) };
}
