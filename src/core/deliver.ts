import { CLOSE, type CloseCause } from "../protocol/close-causes.ts";
import { type Envelope, type Members, type Question, subjectOf, type Target } from "../protocol/envelope.ts";
import type { Connection } from "./connection.ts";
import type { Membership } from "./membership.ts";
import type { Answer, BrokerHandler, Fanout, Frame } from "./ports.ts";
import type { Pressure } from "./pressure.ts";
import type { Registry } from "./registry.ts";

/**
 * This node's end of the broker: envelopes become frames and closes, questions become answers.
 *
 *     broker ─▶ receive ─┬─ hub, group ──────▶ fan-out: framed once, to every subscribed socket
 *                        ├─ user, connection ▶ each socket
 *                        └─ close ───────────▶ lifecycle
 *
 * Order:  what is received first is sent first, whichever way it goes.
 * Source: spec section 6; design, "A push".
 */
export class Deliver implements BrokerHandler {
  readonly #registry: Registry;
  readonly #membership: Membership;
  readonly #fanout: Fanout;
  readonly #pressure: Pressure;
  readonly #close: (connection: Connection, cause: CloseCause) => void;

  constructor(parts: {
    registry: Registry;
    membership: Membership;
    fanout: Fanout;
    pressure: Pressure;
    close: (connection: Connection, cause: CloseCause) => void;
  }) {
    this.#registry = parts.registry;
    this.#membership = parts.membership;
    this.#fanout = parts.fanout;
    this.#pressure = parts.pressure;
    this.#close = parts.close;
  }

  receive(envelope: Envelope): void {
    if (envelope.verb === "close") {
      const cause = { code: 1000, reason: envelope.reason };
      for (const connection of this.#members(envelope.target)) this.#close(connection, cause);
      return;
    }
    const { target, frame, excluded } = envelope;
    if (target.kind === "hub" || target.kind === "group") this.#publish(target, frame, excluded);
    else for (const connection of this.#members(target)) this.#send(connection, frame);
  }

  answer(question: Question): Answer {
    const members = this.#members(question.target);
    switch (question.verb) {
      case "exists":
        return members.length > 0 ? "yes" : "no";
      case "inGroup":
        return members.some(({ groups }) => groups?.has(question.group) === true) ? "yes" : "no";
      case "join": {
        const joined = members.map((connection) => this.#membership.join(connection, question.group));
        if (joined.includes(false)) return "limit";
        return joined.length > 0 ? "yes" : "no";
      }
      case "leave":
        for (const connection of members) this.#membership.leave(connection, question.group);
        return members.length > 0 ? "yes" : "no";
    }
  }

  /** A snapshot, since acting on a member may end it. */
  #members(target: Members): Connection[] {
    switch (target.kind) {
      case "connection": {
        const connection = this.#registry.connection(target.hub, target.name);
        return connection === undefined ? [] : [connection];
      }
      case "user":
        return [...this.#registry.user(target.hub, target.name)];
      case "group":
        return [...this.#registry.group(target.hub, target.name)];
    }
  }

  #send(connection: Connection, frame: Frame): void {
    if (connection.socket?.send(frame) === "full") this.#close(connection, CLOSE.slowConsumer);
    this.#pressure.moved(frame.length);
  }

  /** Who is excluded does not subscribe for the moment of the publication: nothing else runs in between. */
  #publish(target: Target, frame: Frame, excluded: readonly string[]): void {
    const topic = subjectOf(target);
    const left: Connection[] = [];
    for (const id of new Set(excluded)) {
      const connection = this.#registry.connection(target.hub, id);
      if (connection === undefined || !isIn(connection, target)) continue;
      connection.socket?.unsubscribe(topic);
      left.push(connection);
    }
    this.#fanout.publish(topic, frame);
    for (const connection of left) connection.socket?.subscribe(topic);
    const { kind, hub } = target;
    const receivers = kind === "hub" ? this.#registry.hubSize(hub) : this.#registry.group(hub, target.name).size;
    this.#pressure.moved(frame.length, receivers);
  }
}

function isIn(connection: Connection, target: Target): boolean {
  return target.kind === "hub" || connection.groups?.has(target.name) === true;
}
