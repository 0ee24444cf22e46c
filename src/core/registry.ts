import { type Encoding, encodingOf } from "../protocol/client-protocol.ts";
import { hubKey } from "../protocol/names.ts";
import type { Connection } from "./connection.ts";
import { GroupNames } from "./group-names.ts";

/** A group that has members. Its name is the string that they all hold. */
interface Group {
  readonly name: string;
  readonly members: Set<Connection>;
}

/** How many connections of a hub have one encoding. */
interface EncodingCount {
  readonly encoding: Encoding;
  count: number;
}

/** The connections of one hub, by user and by group. Most users have one connection, and a set of one takes 250 bytes. */
interface Hub {
  /** The string that all of its connections hold. */
  readonly name: string;
  readonly users: Map<string, Connection | Set<Connection>>;
  readonly groups: Map<string, Group>;
  /** Those with members. */
  readonly encodings: EncodingCount[];
  size: number;
}

const NO_MEMBERS: ReadonlySet<Connection> = new Set();
const NOBODY: readonly Connection[] = [];
const NO_ENCODINGS: readonly EncodingCount[] = [];

/**
 * The live connections, by id, and by user and group within their hub.
 *
 * Cost:   adding and removing are O(1) for each membership; nothing is left of a user, group or hub without members.
 * Source: PROTOCOL.md, "Words": users and groups never cross hubs, hubs compare case-insensitively.
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

  /** The encodings that connections of a hub have; always the same empty array if it has none. */
  encodings(hub: string): readonly { readonly encoding: Encoding }[] {
    return this.#hubs.get(hubKey(hub))?.encodings ?? NO_ENCODINGS;
  }

  /** A snapshot, safe to walk while connections leave. */
  all(): Connection[] {
    return [...this.#connections.values()];
  }

  /** Those of the moment, without a copy. One that leaves meanwhile is not met any more. */
  values(): IterableIterator<Connection> {
    return this.#connections.values();
  }

  add(connection: Connection): void {
    this.#connections.set(connection.connectionId, connection);
    const key = hubKey(connection.hub);
    let hub = this.#hubs.get(key);
    if (hub === undefined) {
      hub = { name: connection.hub, users: new Map(), groups: new Map(), encodings: [], size: 0 };
      this.#hubs.set(key, hub);
    }
    hub.size++;
    countEncoding(hub, encodingOf(connection));
    if (connection.hub === hub.name) connection.hub = hub.name;
    addToUser(hub, connection);
    if (connection.groups === null) return;
    const names = new GroupNames();
    for (const name of connection.groups) names.add(addToGroup(hub, name, connection));
    connection.groups = names;
  }

  remove(connection: Connection): void {
    if (!this.#connections.delete(connection.connectionId)) return;
    const key = hubKey(connection.hub);
    const hub = this.#hubs.get(key);
    if (hub === undefined) return;
    removeFromUser(hub, connection);
    for (const name of connection.groups ?? []) removeFromGroup(hub, name, connection);
    hub.size--;
    discountEncoding(hub, encodingOf(connection));
    if (hub.size === 0) this.#hubs.delete(key);
  }

  /** Puts a live connection into a group; nothing happens where it is in it. */
  addToGroup(connection: Connection, group: string): void {
    const hub = this.#hubs.get(hubKey(connection.hub));
    if (hub === undefined) return;
    connection.groups ??= new GroupNames();
    connection.groups.add(addToGroup(hub, group, connection));
  }

  /** Takes a live connection out of a group; nothing happens where it is not in it. */
  removeFromGroup(connection: Connection, group: string): void {
    const hub = this.#hubs.get(hubKey(connection.hub));
    if (hub === undefined || connection.groups === null) return;
    removeFromGroup(hub, group, connection);
    connection.groups.delete(group);
    if (connection.groups.size === 0) connection.groups = null;
  }

  /** The live connection of this id in this hub. */
  connection(hub: string, connectionId: string): Connection | undefined {
    const connection = this.#connections.get(connectionId);
    if (connection === undefined || connection.hub === hub) return connection;
    return hubKey(connection.hub) === hubKey(hub) ? connection : undefined;
  }

  /** A snapshot of a user's connections; always the same empty array if the user has none. */
  user(hub: string, userId: string): readonly Connection[] {
    const found = this.#hubs.get(hubKey(hub))?.users.get(userId);
    if (found === undefined) return NOBODY;
    return found instanceof Set ? [...found] : [found];
  }

  /** A group's members, as they change; always the same empty set if the group has none. */
  group(hub: string, group: string): ReadonlySet<Connection> {
    return this.#hubs.get(hubKey(hub))?.groups.get(group)?.members ?? NO_MEMBERS;
  }
}

function countEncoding({ encodings }: Hub, encoding: Encoding): void {
  for (const one of encodings) {
    if (one.encoding !== encoding) continue;
    one.count++;
    return;
  }
  encodings.push({ encoding, count: 1 });
}

function discountEncoding({ encodings }: Hub, encoding: Encoding): void {
  for (const [index, one] of encodings.entries()) {
    if (one.encoding !== encoding) continue;
    one.count--;
    if (one.count === 0) encodings.splice(index, 1);
    return;
  }
}

function addToUser({ users }: Hub, connection: Connection): void {
  const { userId } = connection;
  if (userId === null) return;
  const found = users.get(userId);
  if (found === undefined) users.set(userId, connection);
  else if (found instanceof Set) found.add(connection);
  else if (found !== connection) users.set(userId, new Set([found, connection]));
}

function removeFromUser({ users }: Hub, connection: Connection): void {
  const { userId } = connection;
  if (userId === null) return;
  const found = users.get(userId);
  if (found === connection) users.delete(userId);
  else if (found instanceof Set && found.delete(connection) && found.size === 0) users.delete(userId);
}

/** Returns the name that all members hold. */
function addToGroup({ groups }: Hub, name: string, connection: Connection): string {
  let group = groups.get(name);
  if (group === undefined) {
    group = { name, members: new Set() };
    groups.set(name, group);
  }
  group.members.add(connection);
  return group.name;
}

function removeFromGroup({ groups }: Hub, name: string, connection: Connection): void {
  const members = groups.get(name)?.members;
  if (members?.delete(connection) === true && members.size === 0) groups.delete(name);
}
