import { hubKey } from "../protocol/names.ts";
import type { Connection } from "./connection.ts";

/** The connections of one hub, by user and by group. */
interface Hub {
  readonly users: Map<string, Set<Connection>>;
  readonly groups: Map<string, Set<Connection>>;
  size: number;
}

const NOBODY: ReadonlySet<Connection> = new Set();

/**
 * The live connections, by id, and by user and group within their hub.
 *
 * Cost:   adding and removing are O(1) for each membership; nothing is left of a user, group or hub without members.
 * Source: spec section 1: users and groups never cross hubs, hubs compare case-insensitively.
 */
export class Registry {
  readonly #connections = new Map<string, Connection>();
  readonly #hubs = new Map<string, Hub>();

  get size(): number {
    return this.#connections.size;
  }

  /** How many connections a hub has. */
  hubSize(hub: string): number {
    return this.#hubs.get(hubKey(hub))?.size ?? 0;
  }

  /** A snapshot, safe to walk while connections leave. */
  all(): Connection[] {
    return [...this.#connections.values()];
  }

  add(connection: Connection): void {
    this.#connections.set(connection.connectionId, connection);
    const key = hubKey(connection.hub);
    let hub = this.#hubs.get(key);
    if (hub === undefined) {
      hub = { users: new Map(), groups: new Map(), size: 0 };
      this.#hubs.set(key, hub);
    }
    hub.size++;
    join(hub.users, connection.userId, connection);
    for (const group of connection.groups ?? []) join(hub.groups, group, connection);
  }

  remove(connection: Connection): void {
    if (!this.#connections.delete(connection.connectionId)) return;
    const key = hubKey(connection.hub);
    const hub = this.#hubs.get(key);
    if (hub === undefined) return;
    leave(hub.users, connection.userId, connection);
    for (const group of connection.groups ?? []) leave(hub.groups, group, connection);
    hub.size--;
    if (hub.size === 0) this.#hubs.delete(key);
  }

  /** Puts a live connection into a group; nothing happens where it is in it. */
  addToGroup(connection: Connection, group: string): void {
    const hub = this.#hubs.get(hubKey(connection.hub));
    if (hub === undefined) return;
    connection.groups ??= new Set();
    connection.groups.add(group);
    join(hub.groups, group, connection);
  }

  /** Takes a live connection out of a group; nothing happens where it is not in it. */
  removeFromGroup(connection: Connection, group: string): void {
    const hub = this.#hubs.get(hubKey(connection.hub));
    if (hub === undefined || connection.groups === null) return;
    leave(hub.groups, group, connection);
    connection.groups.delete(group);
    if (connection.groups.size === 0) connection.groups = null;
  }

  /** The live connection of this id in this hub. */
  connection(hub: string, connectionId: string): Connection | undefined {
    const connection = this.#connections.get(connectionId);
    if (connection === undefined || connection.hub === hub) return connection;
    return hubKey(connection.hub) === hubKey(hub) ? connection : undefined;
  }

  user(hub: string, userId: string): ReadonlySet<Connection> {
    return this.#hubs.get(hubKey(hub))?.users.get(userId) ?? NOBODY;
  }

  group(hub: string, group: string): ReadonlySet<Connection> {
    return this.#hubs.get(hubKey(hub))?.groups.get(group) ?? NOBODY;
  }
}

function join(index: Map<string, Set<Connection>>, name: string, connection: Connection): void {
  const members = index.get(name);
  if (members === undefined) index.set(name, new Set([connection]));
  else members.add(connection);
}

function leave(index: Map<string, Set<Connection>>, name: string, connection: Connection): void {
  const members = index.get(name);
  if (members === undefined) return;
  members.delete(connection);
  if (members.size === 0) index.delete(name);
}
