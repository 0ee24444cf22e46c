import {
  type ClientProtocols,
  type Encoding,
  encodingOf,
  type Frame,
  protocolOf,
} from "../protocol/client-protocol.ts";
import { CLOSE, type ConnectionEnd } from "../protocol/close-causes.ts";
import type { Envelope, Members, Question, Target } from "../protocol/envelope.ts";
import type { Payload } from "../protocol/payload.ts";
import type { Arrivals } from "./arrivals.ts";
import type { Connection } from "./connection.ts";
import type { Membership } from "./membership.ts";
import type { BrokerHandler, Verdict } from "./ports/broker.ts";
import type { Fanout } from "./ports/client-socket.ts";
import type { Pressure } from "./pressure.ts";
import type { Registry } from "./registry.ts";
import { topicOf } from "./topic.ts";

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
  readonly #protocols: ClientProtocols;
  readonly #registry: Registry;
  readonly #arrivals: Arrivals;
  readonly #membership: Membership;
  readonly #fanout: Fanout;
  readonly #pressure: Pressure;
  readonly #close: (connection: Connection, cause: ConnectionEnd) => void;
  readonly #rulesReached: (revision: number) => Promise<void> | null;

  constructor(parts: {
    protocols: ClientProtocols;
    registry: Registry;
    arrivals: Arrivals;
    membership: Membership;
    fanout: Fanout;
    pressure: Pressure;
    close: (connection: Connection, cause: ConnectionEnd) => void;
    /** Null where the group rules of that revision are in force; else it resolves once they are. */
    rulesReached: (revision: number) => Promise<void> | null;
  }) {
    this.#protocols = parts.protocols;
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
      const cause = { code: 1000, reason: envelope.reason, category: "backend" } as const;
      for (const connection of this.#members(envelope.target)) this.#close(connection, cause);
      return;
    }
    const { target, payload, excluded } = envelope;
    if (target.kind === "hub" || target.kind === "group") this.#publish(target, payload, excluded);
    else this.#sendToMembers(target, payload);
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

  #sendToMembers(target: Members, payload: Payload): void {
    const members = this.#members(target);
    for (const connection of members) this.#send(connection, payload);
    if (members.length === 0 && target.kind === "connection")
      this.#arrivals.holdEarly(target.hub, target.name, payload);
  }

  #send(connection: Connection, payload: Payload): void {
    if (connection.socket === null) {
      this.#arrivals.hold(connection, payload);
      return;
    }
    const frame = protocolOf(this.#protocols, connection).encode(payload);
    if (connection.socket.sendSoon(frame) === "full") this.#close(connection, CLOSE.slowConsumer);
    this.#pressure.moved(frame.length);
  }

  /** Once for each encoding that a connection of the hub has here. */
  #publish(target: Target, payload: Payload, excluded: readonly string[]): void {
    const { kind, hub } = target;
    let frameLength = 0;
    for (const { encoding } of this.#registry.encodings(hub)) {
      const topic = topicOf(target, encoding);
      const frame = this.#protocols[encoding].encode(payload);
      frameLength = Math.max(frameLength, frame.length);
      if (excluded.length > 0) this.#publishWithout(excluded, { target, encoding, topic, frame });
      else this.#fanout.publish(topic, frame);
    }
    this.#arrivals.publish(target, payload, excluded);
    const receivers = kind === "hub" ? this.#registry.hubSize(hub) : this.#registry.group(hub, target.name).size;
    this.#pressure.moved(frameLength, receivers);
  }

  /** Excluded connections are not subscribed for the moment of the publication: nothing else runs in between. */
  #publishWithout(
    excluded: readonly string[],
    { target, encoding, topic, frame }: { target: Target; encoding: Encoding; topic: string; frame: Frame },
  ): void {
    const left: Connection[] = [];
    for (const id of new Set(excluded)) {
      const connection = this.#registry.connection(target.hub, id);
      if (connection === undefined || !isIn(connection, target) || encodingOf(connection) !== encoding) continue;
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
