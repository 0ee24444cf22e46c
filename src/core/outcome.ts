import type { AnswerHead, CallFailure, RefusalCause } from "./ports/upstream.ts";

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
