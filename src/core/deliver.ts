import { CLOSE, type CloseCause } from "../protocol/close-causes.ts";
import { type Envelope, type Members, type Question, subjectOf, type Target } from "../protocol/envelope.ts";
import type { Arrivals } from "./arrivals.ts";
import type { Connection } from "./connection.ts";
import type { Membership } from "./membership.ts";
import type { BrokerHandler, Verdict } from "./ports/broker.ts";
import type { Fanout, Frame } from "./ports/client-socket.ts";
import type { Pressure } from "./pressure.ts";
import type { Registry } from "./registry.ts";

/**
 * This node's end of the broker: envelopes become frames and closes, questions become answers.
 *
 *     broker ─▶ receive ─┬─ hub, group ──────▶ fan-out: framed once, to every subscribed socket; held for arrivals
 *                        ├─ user, connection ▶ each socket
 *                        └─ close ───────────▶ lifecycle
 *
 * Order:  what is received first is sent first, whichever way it goes.
 * Source: PROTOCOL.md, "REST API"; ARCHITECTURE.md.
 */
export class Deliver implements BrokerHandler {
  readonly #registry: Registry;
  readonly #arrivals: Arrivals;
  readonly #membership: Membership;
  readonly #fanout: Fanout;
  readonly #pressure: Pressure;
  readonly #close: (connection: Connection, cause: CloseCause) => void;
  readonly #rulesReached: (revision: number) => Promise<void> | null;

  constructor(parts: {
    registry: Registry;
    arrivals: Arrivals;
    membership: Membership;
    fanout: Fanout;
    pressure: Pressure;
    close: (connection: Connection, cause: CloseCause) => void;
    /** Null where the group rules of that revision are in force; else it resolves once they are. */
    rulesReached: (revision: number) => Promise<void> | null;
  }) {
    this.#registry = parts.registry;
    this.#arrivals = parts.arrivals;
    this.#membership = parts.membership;
    this.#fanout = parts.fanout;
    this.#pressure = parts.pressure;
    this.#close = parts.close;
    this.#rulesReached = parts.rulesReached;
  }

  receive(envelope: Envelope): void {
    if (envelope.verb === "close") {
      const cause = { code: 1000, reason: envelope.reason };
      for (const connection of this.#members(envelope.target)) this.#close(connection, cause);
      return;
    }
    const { target, payload, excluded } = envelope;
    const frame = payload.data;
    if (target.kind === "hub" || target.kind === "group") this.#publish(target, frame, excluded);
    else this.#sendToMembers(target, frame);
  }

  /** Its changes are made before the first `await`, unless it waits for rules. */
  async answer(question: Question): Promise<Verdict> {
    switch (question.verb) {
      case "exists":
        return this.#members(question.target).length > 0 ? "yes" : "no";
      case "inGroup": {
        const { group } = question;
        return this.#members(question.target).some(({ groups }) => groups?.has(group) === true) ? "yes" : "no";
      }
      default: {
        const reached = this.#rulesReached(question.afterRules);
        if (reached !== null) await reached;
        return question.verb === "join" ? await this.#join(question.target, question.group) : this.leave(question);
      }
    }
  }

  /** Adds members here to a group, as far as they may be in one more; nobody waits for it. */
  begin(target: Members, group: string): void {
    for (const connection of this.#members(target)) void this.#membership.join(connection, group);
  }

  /** Takes members here out of a group, or of all; yes if there was one. */
  leave({ target, group }: { readonly target: Members; readonly group: string | null }): Verdict {
    const members = this.#members(target);
    for (const connection of members) this.#membership.leave(connection, group);
    return members.length > 0 ? "yes" : "no";
  }

  async #join(target: Members, group: string): Promise<Verdict> {
    const joined = this.#members(target).map((connection) => this.#membership.join(connection, group));
    await Promise.all(joined);
    if (joined.includes("limit")) return "limit";
    return joined.length > 0 ? "yes" : "no";
  }

  /** A snapshot, since acting on a member may end it. */
  #members(target: Members): readonly Connection[] {
    switch (target.kind) {
      case "connection": {
        const connection = this.#registry.connection(target.hub, target.name);
        return connection === undefined ? [] : [connection];
      }
      case "user":
        return this.#registry.user(target.hub, target.name);
      case "group":
        return [...this.#registry.group(target.hub, target.name)];
    }
  }

  #sendToMembers(target: Members, frame: Frame): void {
    const members = this.#members(target);
    for (const connection of members) this.#send(connection, frame);
    if (members.length === 0 && target.kind === "connection") this.#arrivals.holdEarly(target.hub, target.name, frame);
  }

  #send(connection: Connection, frame: Frame): void {
    if (connection.socket === null) {
      this.#arrivals.hold(connection, frame);
      return;
    }
    if (connection.socket.sendSoon(frame) === "full") this.#close(connection, CLOSE.slowConsumer);
    this.#pressure.moved(frame.length);
  }

  #publish(target: Target, frame: Frame, excluded: readonly string[]): void {
    const topic = subjectOf(target);
    if (excluded.length > 0) this.#publishWithout(excluded, { target, topic, frame });
    else this.#fanout.publish(topic, frame);
    this.#arrivals.publish(target, frame, excluded);
    const { kind, hub } = target;
    const receivers = kind === "hub" ? this.#registry.hubSize(hub) : this.#registry.group(hub, target.name).size;
    this.#pressure.moved(frame.length, receivers);
  }

  /** Excluded connections are not subscribed for the moment of the publication: nothing else runs in between. */
  #publishWithout(
    excluded: readonly string[],
    { target, topic, frame }: { readonly target: Target; readonly topic: string; readonly frame: Frame },
  ): void {
    const left: Connection[] = [];
    for (const id of new Set(excluded)) {
      const connection = this.#registry.connection(target.hub, id);
      if (connection === undefined || !isIn(connection, target)) continue;
      connection.socket?.unsubscribe(topic);
      left.push(connection);
    }
    this.#fanout.publish(topic, frame);
    for (const connection of left) connection.socket?.subscribe(topic);
  }
}

function isIn(connection: Connection, target: Target): boolean {
  return target.kind === "hub" || connection.groups?.has(target.name) === true;
}
