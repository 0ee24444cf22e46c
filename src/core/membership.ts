import { encodingOf } from "../protocol/client-protocol.ts";
import type { Connection } from "./connection.ts";
import { GroupNames } from "./group-names.ts";
import type { Broker } from "./ports/broker.ts";
import type { Registry } from "./registry.ts";
import { topicOf } from "./topic.ts";

export interface MembershipOptions {
  readonly maxGroupsPerConnection: number;
}

/**
 * The members of each group, kept in the registry, in the sockets' subscriptions and with the broker together.
 *
 *     prepare ─▶ join, leave ─▶ enter ─▶ join, leave ─▶ exit
 *                        └─ its socket never opened ────▲
 *
 * Order:  a change has taken effect here when the call returns: the next envelope finds it. Envelopes of other nodes arrive
 *         once what was returned has resolved.
 * Source: PROTOCOL.md, "REST API".
 */
export class Membership {
  readonly #registry: Registry;
  readonly #broker: Pick<Broker, "join" | "leave">;
  readonly #options: MembershipOptions;
  readonly #rulesOf: (hub: string, userId: string) => readonly string[];

  constructor(parts: {
    registry: Registry;
    broker: Pick<Broker, "join" | "leave">;
    options: MembershipOptions;
    /** The groups that a user's connections join when they open. */
    rulesOf: (hub: string, userId: string) => readonly string[];
  }) {
    this.#registry = parts.registry;
    this.#broker = parts.broker;
    this.#options = parts.options;
    this.#rulesOf = parts.rulesOf;
  }

  /**
   * A connection has been accepted: from here on it is found, with its groups and those of its user's rules. What changes them finds it
   * as it finds an open one. Resolves once the broker knows of it.
   */
  prepare(connection: Connection): Promise<unknown> {
    const { hub, userId } = connection;
    this.#addRules(connection);
    this.#registry.add(connection);
    const known = [this.#broker.join({ kind: "hub", hub })];
    if (userId !== null) known.push(this.#broker.join({ kind: "user", hub, name: userId }));
    for (const name of connection.groups ?? []) known.push(this.#broker.join({ kind: "group", hub, name }));
    return Promise.all(known);
  }

  /** Its socket has opened: it subscribes to its hub and its groups. */
  enter(connection: Connection): void {
    const { hub, socket, groups } = connection;
    const encoding = encodingOf(connection);
    socket?.subscribe(topicOf({ kind: "hub", hub }, encoding));
    for (const name of groups ?? []) socket?.subscribe(topicOf({ kind: "group", hub, name }, encoding));
  }

  /** It has closed, or will not open after all; its socket's subscriptions end with it. */
  exit(connection: Connection): void {
    const { hub, userId, groups } = connection;
    this.#registry.remove(connection);
    this.#broker.leave({ kind: "hub", hub });
    if (userId !== null) this.#broker.leave({ kind: "user", hub, name: userId });
    for (const name of groups ?? []) this.#broker.leave({ kind: "group", hub, name });
  }

  /** `limit` where the connection is in as many groups as it may be. Joining twice has no further effect. */
  join(connection: Connection, group: string): "limit" | Promise<void> {
    const target = { kind: "group", hub: connection.hub, name: group } as const;
    if (connection.groups?.has(group) === true) {
      // An earlier join of the same group may still wait for the broker.
      return this.#broker.join(target).finally(() => this.#broker.leave(target));
    }
    if ((connection.groups?.size ?? 0) >= this.#options.maxGroupsPerConnection) return "limit";
    this.#registry.addToGroup(connection, group);
    connection.socket?.subscribe(topicOf(target, encodingOf(connection)));
    return this.#broker.join(target);
  }

  /** Takes a connection out of a group, or out of all where it is null. */
  leave(connection: Connection, group: string | null): void {
    for (const name of group === null ? [...(connection.groups ?? [])] : [group]) {
      if (connection.groups?.has(name) !== true) continue;
      const target = { kind: "group", hub: connection.hub, name } as const;
      this.#registry.removeFromGroup(connection, name);
      connection.socket?.unsubscribe(topicOf(target, encodingOf(connection)));
      this.#broker.leave(target);
    }
  }

  /** Adds the groups of its user's rules, up to the bound. */
  #addRules(connection: Connection): void {
    const { hub, userId } = connection;
    if (userId === null) return;
    for (const name of this.#rulesOf(hub, userId)) {
      if ((connection.groups?.size ?? 0) >= this.#options.maxGroupsPerConnection) return;
      connection.groups ??= new GroupNames();
      connection.groups.add(name);
    }
  }
}
