import { subjectOf } from "../protocol/envelope.ts";
import type { Connection } from "./connection.ts";
import { GroupNames } from "./group-names.ts";
import type { Broker } from "./ports.ts";
import type { Registry } from "./registry.ts";

export interface MembershipOptions {
  readonly maxGroupsPerConnection: number;
}

/**
 * Who is in which group, kept in the registry, in the sockets' subscriptions and with the broker together.
 *
 *     prepare ─▶ enter ─▶ join, leave ─▶ exit
 *        └─────▶ withdraw: its socket never opened
 *
 * Order:  a change has taken effect here when the call returns: the next envelope finds it. What other nodes publish arrives
 *         once what was returned has resolved.
 * Source: spec section 6, "Semantics".
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
   * Has the broker know a connection that is about to open, with its groups and those of its user's rules.
   *
   * Order: in the turn in which it resolves, the groups are those of the rules in force. `enter` or `withdraw` must follow in it.
   */
  async prepare(connection: Connection): Promise<void> {
    const own = new Set(connection.groups ?? []);
    const { hub, userId } = connection;
    let known = [{ kind: "hub", hub } as const, { kind: "user", hub, name: userId } as const].map((target) =>
      this.#broker.join(target),
    );
    let joined = new Set<string>();
    // A rule that is put or ended while the broker is told makes another round.
    for (;;) {
      const groups = this.#withRules(connection, own);
      const left = joined.difference(groups);
      const added = groups.difference(joined);
      for (const name of left) this.#broker.leave({ kind: "group", hub, name });
      for (const name of added) known.push(this.#broker.join({ kind: "group", hub, name }));
      if (left.size > 0 || added.size > 0) connection.groups = groups.size === 0 ? null : new GroupNames(groups);
      joined = groups;
      if (known.length === 0) return;
      await Promise.all(known);
      known = [];
    }
  }

  /** It will not open after all. */
  withdraw(connection: Connection): void {
    this.#leaveSubjects(connection);
  }

  /** A connection's socket has opened: it subscribes to its hub and its groups. */
  enter(connection: Connection): void {
    const { hub, socket, groups } = connection;
    this.#registry.add(connection);
    socket?.subscribe(subjectOf({ kind: "hub", hub }));
    for (const name of groups ?? []) socket?.subscribe(subjectOf({ kind: "group", hub, name }));
  }

  /** A connection has closed; its socket's subscriptions end with it. */
  exit(connection: Connection): void {
    this.#registry.remove(connection);
    this.#leaveSubjects(connection);
  }

  /** `limit` where the connection is in as many groups as it may be. To join twice is to join once. */
  join(connection: Connection, group: string): "limit" | Promise<void> {
    const target = { kind: "group", hub: connection.hub, name: group } as const;
    if (connection.groups?.has(group) === true) {
      // Whoever joined it first may still wait for the broker.
      return this.#broker.join(target).finally(() => this.#broker.leave(target));
    }
    if ((connection.groups?.size ?? 0) >= this.#options.maxGroupsPerConnection) return "limit";
    this.#registry.addToGroup(connection, group);
    connection.socket?.subscribe(subjectOf(target));
    return this.#broker.join(target);
  }

  /** Takes a connection out of a group, or out of all where it is null. */
  leave(connection: Connection, group: string | null): void {
    for (const name of group === null ? [...(connection.groups ?? [])] : [group]) {
      if (connection.groups?.has(name) !== true) continue;
      const target = { kind: "group", hub: connection.hub, name } as const;
      this.#registry.removeFromGroup(connection, name);
      connection.socket?.unsubscribe(subjectOf(target));
      this.#broker.leave(target);
    }
  }

  /** Its own groups and, up to the bound, those of its user's rules. */
  #withRules({ hub, userId }: Connection, own: ReadonlySet<string>): Set<string> {
    const groups = new Set(own);
    for (const name of this.#rulesOf(hub, userId)) {
      if (groups.size < this.#options.maxGroupsPerConnection) groups.add(name);
    }
    return groups;
  }

  #leaveSubjects({ hub, userId, groups }: Connection): void {
    this.#broker.leave({ kind: "hub", hub });
    this.#broker.leave({ kind: "user", hub, name: userId });
    for (const name of groups ?? []) this.#broker.leave({ kind: "group", hub, name });
  }
}
