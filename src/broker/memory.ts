import type { Broker, BrokerHandler, Verdict, VerdictScope } from "../core/ports/broker.ts";
import type { Envelope, Question } from "../protocol/envelope.ts";

/**
 * The broker of a single node: it hands everything to this node, at once.
 *
 * Errors: an error that the handler throws is a bug and reaches the caller. Never `unavailable`.
 */
export class MemoryBroker implements Broker {
  readonly #handler: BrokerHandler;

  constructor(handler: BrokerHandler) {
    this.#handler = handler;
  }

  async publish(envelope: Envelope): Promise<"sent"> {
    this.#handler.receive(envelope);
    return "sent";
  }

  async ask(question: Question, _scope: VerdictScope): Promise<Verdict> {
    return await this.#handler.answer(question);
  }

  /** Nothing to subscribe to: every published envelope arrives. */
  async join(): Promise<void> {}

  leave(): void {}
}
