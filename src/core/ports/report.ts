import type { CloseCause } from "../../protocol/close-causes.ts";
import type { ConnectionFacts } from "../../protocol/facts.ts";

/** Why an event could not be delivered, in words for the log: cause and detail of the outcome. */
export interface Undelivered {
  readonly connectionId: string;
  readonly hub: string;
  /** The connection's whole `X-Forwarded-For`, from which a line names the client; null where it is not at hand. */
  readonly forwardedFor: string | null;
  readonly event: "connect" | "message" | "disconnect";
  readonly eventId: string;
  readonly cause: string;
  /** How many events this line stands for; above one where a queue was discarded whole. */
  readonly count: number;
}

/** A client that was not let in. */
export interface RefusedClient {
  /** Empty where the request names none. */
  readonly hub: string;
  readonly status: number;
  readonly code: string;
  /** The refusal's sentence. */
  readonly message: string;
  readonly clientAddress: string;
  /** Whether the client, which is no trusted proxy, sent `X-Forwarded-For`. */
  readonly isChainIgnored: boolean;
}

/** One method for each fact worth a log line, a metric or a span. The core knows no logger. */
export interface Report {
  connectionOpened(facts: ConnectionFacts): void;
  connectionClosed(facts: ConnectionFacts, end: CloseCause): void;
  connectionRefused(refused: RefusedClient): void;
  /** A client ended its TCP connection before its handshake was answered. */
  clientLeft(hub: string, clientAddress: string): void;
  /** Connect was answered with 2xx after it had timed out: a second disconnect event follows. */
  acceptedLate(facts: ConnectionFacts): void;
  undelivered(fact: Undelivered): void;
  /** An entry of `upstreams` did not take a disconnect event: it and those after it wait. `entry` names it without any secret. */
  disconnectsWaiting(entry: string, cause: string): void;
  /** It takes them again. */
  disconnectsFlowing(entry: string): void;
  /** It refuses a disconnect event with a status that a backend also says while it is deployed: the event is tried again for a while. */
  disconnectRefused(entry: string, cause: string): void;
  /** A disconnect event is given up after all its tries; `hubwire dead-letters` has it now. */
  deadLetter(fact: Undelivered): void;
  /** Another node is gone, and what it owed is this one's now. */
  nodeTakenOver(nodeId: string, count: number): void;
  /** A takeover failed; the next node that finds the claim ended tries again. */
  takeoverFailed(nodeId: string, cause: string): void;
  /** A bug in hubwire that an edge caught. */
  fault(where: string, error: unknown): void;
}
