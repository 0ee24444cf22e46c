import { subjectOf } from "../protocol/envelope.ts";
import type { Connection } from "./connection.ts";
import type { Registry } from "./registry.ts";

export interface MembershipOptions {
  readonly maxGroupsPerConnection: number;
}

/**
 * Who is in which group, kept in the registry and in the sockets' subscriptions together.
 *
 * Order:  a change has taken effect when the call returns: the next envelope finds it.
 * Source: spec section 6, "Semantics".
 */
export class Membership {
  readonly #registry: Registry;
  readonly #options: MembershipOptions;
  readonly #rulesOf: (hub: string, userId: string) => readonly string[];

  constructor(parts: {
    registry: Registry;
    options: MembershipOptions;
    /** The groups that a user's connections join when they open. */
    rulesOf: (hub: string, userId: string) => readonly string[];
  }) {
    this.#registry = parts.registry;
    this.#options = parts.options;
    this.#rulesOf = parts.rulesOf;
  }

  /** A connection's socket has opened: it subscribes to its hub, the groups that it came with, and those of its user. */
  enter(connection: Connection): void {
    const { hub, socket, groups } = connection;
    this.#registry.add(connection);
    socket?.subscribe(subjectOf({ kind: "hub", hub }));
    for (const name of groups ?? []) socket?.subscribe(subjectOf({ kind: "group", hub, name }));
    for (const name of this.#rulesOf(hub, connection.userId)) this.join(connection, name);
  }

  /** A connection has closed; its socket's subscriptions end with it. */
  exit(connection: Connection): void {
    this.#registry.remove(connection);
  }

  /** False where the connection is in as many groups as it may be. To join twice is to join once. */
  join(connection: Connection, group: string): boolean {
    if (connection.groups?.has(group) === true) return true;
    if ((connection.groups?.size ?? 0) >= this.#options.maxGroupsPerConnection) return false;
    this.#registry.addToGroup(connection, group);
    connection.socket?.subscribe(subjectOf({ kind: "group", hub: connection.hub, name: group }));
    return true;
  }

  /** Takes a connection out of a group, or out of all where it is null. */
  leave(connection: Connection, group: string | null): void {
    for (const name of group === null ? [...(connection.groups ?? [])] : [group]) {
      this.#registry.removeFromGroup(connection, name);
      connection.socket?.unsubscribe(subjectOf({ kind: "group", hub: connection.hub, name }));
    }
  }
}
