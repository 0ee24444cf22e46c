import { type ConnectReply, parseConnectReply, parseSubprotocols } from "../protocol/connect-reply.ts";
import { type Refusal, refusal } from "../protocol/error-codes.ts";
import type { HeaderLines } from "../protocol/headers.ts";
import { relayedHeaders } from "../protocol/relayed-answer.ts";
import { replyFrame } from "../protocol/reply-frame.ts";
import type { Frame } from "./ports/client-socket.ts";
import type { LateAnswer, UpstreamOutcome } from "./ports/upstream.ts";

/** Whether a disconnect event follows a refused connect: `unknown` where the backend may have said 2xx. */
export type DisconnectDue = "none" | "accepted" | "unknown";

/** What a connect event's outcome means for the client. One for each outcome that PROTOCOL.md, "Connect" lists. */
export type ConnectDecision =
  | {
      readonly kind: "accept";
      readonly userId: string;
      /** The answer had the user id in bytes that are no UTF-8. */
      readonly isLatin1User?: true;
      readonly groups: readonly string[];
      readonly subprotocol: string | null;
      readonly firstFrame: Frame | null;
    }
  | {
      readonly kind: "relay";
      readonly status: number;
      readonly headers: HeaderLines;
      /** Null where it cannot be passed on; `bodyFault` says why. */
      readonly body: Uint8Array | null;
      readonly bodyFault: string | null;
      readonly disconnect: DisconnectDue;
      readonly userId: string;
      readonly isLatin1User?: true;
    }
  | {
      readonly kind: "refuse";
      readonly refusal: Refusal;
      readonly disconnect: DisconnectDue;
      /** The user id that the disconnect event carries. */
      readonly userId: string;
      readonly isLatin1User?: true;
      /** Where the event timed out: what comes of its answer after all. */
      readonly late?: Promise<LateAnswer>;
    };

/** What the decision needs to know of the request. */
export interface ConnectAsked {
  /** From the token; empty for an anonymous client. */
  readonly userId: string;
  readonly subprotocols: string | null;
  readonly maxGroups: number;
}

/** Decides by the outcome of the connect event. Pure. Source: PROTOCOL.md, "Connect". */
export function decideConnect(outcome: UpstreamOutcome, asked: ConnectAsked): ConnectDecision {
  switch (outcome.kind) {
    case "answer":
      return decideAnswer(outcome, asked);
    case "unrouted":
      if (asked.userId === "") return refuse(noUser(), "none", asked);
      return { kind: "accept", ...userOf(null, asked), groups: [], subprotocol: null, firstFrame: null };
    case "not-sent":
      return refuse(refusal("upstream_failed", "the upstream is out of reach", "upstream"), "none", asked);
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

function decideAnswer(answer: Extract<UpstreamOutcome, { kind: "answer" }>, asked: ConnectAsked): ConnectDecision {
  const { status, headers, body } = answer;
  // A lost answer to the same event may have been a 2xx, whatever its repeat was answered with.
  const disconnect = answer.wasRepeated === true ? "unknown" : "none";
  if (status >= 400 && status < 500) {
    const passed = { headers: relayedHeaders(headers), body, bodyFault: null };
    return { kind: "relay", status, ...passed, disconnect, ...userOf(null, asked) };
  }
  if (status < 200 || status >= 300) {
    const sentence = `the upstream answered with status ${status}`;
    return refuse(refusal("upstream_failed", sentence, "upstream"), disconnect, asked);
  }
  const reply: ConnectReply = parseConnectReply(headers, parseSubprotocols(asked.subprotocols));
  const user = userOf(reply, asked);
  if (reply.kind === "malformed") {
    return refuse(refusal("upstream_failed", reply.sentence, "upstream"), "accepted", user);
  }
  if (reply.groups.length > asked.maxGroups) {
    const sentence = `the upstream named more groups than limits.maxGroupsPerConnection (${asked.maxGroups})`;
    return refuse(refusal("upstream_failed", sentence, "maxGroupsPerConnection"), "accepted", user);
  }
  if (user.userId === "") return refuse(noUser(), "accepted", user);
  const { groups, subprotocol } = reply;
  return { kind: "accept", ...user, groups, subprotocol, firstFrame: replyFrame(answer) };
}

/** A status that was seen before things went wrong settles whether the backend took the connection, and a 4xx is the client's. */
function decideUnknown(outcome: Extract<UpstreamOutcome, { kind: "unknown" }>, asked: ConnectAsked): ConnectDecision {
  const { status, headers = [], detail } = outcome;
  const isAccepted = status !== null && status >= 200 && status < 300;
  // A lost answer to the same event may have been a 2xx.
  const isUnknown = status === null || outcome.wasRepeated === true;
  const disconnect = isAccepted ? "accepted" : isUnknown ? "unknown" : "none";
  if (status !== null && status >= 400 && status < 500) {
    const passed = { headers: relayedHeaders(headers), body: null, bodyFault: detail };
    return { kind: "relay", status, ...passed, disconnect, ...userOf(null, asked) };
  }
  const reply = isAccepted ? parseConnectReply(headers, parseSubprotocols(asked.subprotocols)) : null;
  const refused = refuse(unknownRefusal(outcome.cause === "timeout"), disconnect, userOf(reply, asked));
  return outcome.late === undefined ? refused : { ...refused, late: outcome.late };
}

function unknownRefusal(timedOut: boolean): Refusal {
  return timedOut
    ? refusal("upstream_timeout", "the upstream did not answer in time", "timeoutMs")
    : refusal("upstream_failed", "the upstream's answer could not be used", "upstream");
}

function noUser(): Refusal {
  return refusal("user_required", "neither the token nor the upstream named a user", "X-ASRS-User-Id");
}

/** Whom the answer names, else whom the token names. */
interface NamedUser {
  readonly userId: string;
  readonly isLatin1User?: true;
}

function userOf(reply: ConnectReply | null, asked: ConnectAsked): NamedUser {
  const named = reply?.userId ?? null;
  if (reply === null || named === null) return { userId: asked.userId };
  return reply.isLatin1User === true ? { userId: named, isLatin1User: true } : { userId: named };
}

function refuse(
  refused: Refusal,
  disconnect: DisconnectDue,
  user: NamedUser,
): Extract<ConnectDecision, { kind: "refuse" }> {
  const { userId, isLatin1User } = user;
  return { kind: "refuse", refusal: refused, disconnect, userId, ...(isLatin1User === true && { isLatin1User }) };
}
