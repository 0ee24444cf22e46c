import type { CloseCause } from "../protocol/close-causes.ts";
import type { ConnectionFacts, DisconnectEvent } from "../protocol/events.ts";
import { describeOutcome } from "./outcome.ts";
import type { Outstanding } from "./outstanding.ts";
import type { Report, Upstream } from "./ports.ts";

/**
 * Sends the disconnect event of a connection, once, and ends what was outstanding for it.
 *
 * Order:  after the connection's last message event; the caller sees to that.
 * Errors: an event that brought no 2xx is reported with its cause.
 * Source: the seed, "Disconnect": always triggered once connect was answered with 2xx; spec section 5.3.
 */
export class Departure {
  readonly #upstream: Upstream;
  readonly #outstanding: Outstanding;
  readonly #report: Report;

  constructor(parts: { upstream: Upstream; outstanding: Outstanding; report: Report }) {
    this.#upstream = parts.upstream;
    this.#outstanding = parts.outstanding;
    this.#report = parts.report;
  }

  async send(facts: ConnectionFacts, end: CloseCause, connectOutcomeUnknown = false): Promise<void> {
    const event: DisconnectEvent = {
      name: "disconnect",
      eventId: `${facts.connectionId}.disconnect`,
      facts,
      closeCode: end.code,
      closeReason: end.reason,
      connectOutcomeUnknown,
    };
    try {
      const outcome = await this.#upstream.call(event);
      // No entry for disconnects is the user's choice, not a loss.
      if (outcome.kind === "unrouted") return;
      if (outcome.kind === "answer" && outcome.status >= 200 && outcome.status < 300) return;
      this.#report.undelivered({
        connectionId: facts.connectionId,
        hub: facts.hub,
        event: "disconnect",
        eventId: event.eventId,
        cause: describeOutcome(outcome),
        count: 1,
      });
    } catch (error) {
      this.#report.fault("disconnect event", error);
    } finally {
      this.#outstanding.end();
    }
  }
}
