import type { Answer, AnswerScope, Broker, BrokerHandler } from "../core/ports.ts";
import type { Envelope, Question } from "../protocol/envelope.ts";

/**
 * The broker of a single node: everything goes to itself, at once.
 *
 * Errors: what the handler throws is a bug of ours and reaches the caller.
 */
export class MemoryBroker implements Broker {
  readonly #handler: BrokerHandler;

  constructor(handler: BrokerHandler) {
    this.#handler = handler;
  }

  async publish(envelope: Envelope): Promise<void> {
    this.#handler.receive(envelope);
  }

  async ask(question: Question, _scope: AnswerScope): Promise<Answer> {
    return this.#handler.answer(question);
  }
}
