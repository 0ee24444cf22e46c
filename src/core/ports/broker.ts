import type { Envelope, Question, Target } from "../../protocol/envelope.ts";

/**
 * What a node says to a question. `limit`: the change would pass `maxGroupsPerConnection` for at least one member of the target;
 * for the others it was made.
 */
export type Verdict = "yes" | "no" | "limit";

/** Which nodes must have answered before an answer holds: the first that says yes, or all. */
export type VerdictScope = "first-yes" | "every-node";

/** A node's end of the broker: what comes from any node, its own included. */
export interface BrokerHandler {
  receive(envelope: Envelope): void;
  /** Resolves once what the question changes has taken effect here. Later messages may be received meanwhile. */
  answer(question: Question): Promise<Verdict>;
}

/**
 * Carries envelopes and questions to every node that may have a member of their target.
 *
 * Promise: at most once. `publish` resolves when the envelope is on its way, `ask` when the answer holds.
 * Order:   envelopes of one publisher for one target arrive in the order of `publish`; a question asked after an
 *          envelope was published is answered after it was received.
 * Errors:  `unavailable` where the nodes cannot be reached, or not all of those that must answer have: it is not known then
 *          which of them have done it. Rejects only for a bug in hubwire.
 */
export interface Broker {
  publish(envelope: Envelope): Promise<"sent" | "unavailable">;
  ask(question: Question, scope: VerdictScope): Promise<Verdict | "unavailable">;
  /**
   * This node has one more member of the target. Resolves when what any node publishes for it from now on arrives here; at once
   * where nobody can publish. Never rejects. A connection's own subject needs none: its id names the node.
   */
  join(target: Target): Promise<void>;
  /** It has one less. To be called once for each `join`. */
  leave(target: Target): void;
}
