import type { UpstreamOutcome } from "./ports.ts";

/** An outcome in words for the log. Holds no secret: adapters keep URLs' queries and header values out of details. */
export function describeOutcome(outcome: UpstreamOutcome): string {
  switch (outcome.kind) {
    case "answer":
      return `answered with status ${outcome.status}`;
    case "not-sent":
      return `not sent: ${outcome.detail}`;
    case "unknown":
      return `no usable answer (${outcome.cause}): ${outcome.detail}`;
    case "refused":
      return outcome.cause === "breaker" ? "circuit breaker open" : "no place came free within maxWaitMs";
    case "unrouted":
      return "no entry of upstreams matches";
  }
}
