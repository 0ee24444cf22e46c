import { CLOSE } from "../protocol/close-causes.ts";
import type { Target } from "../protocol/envelope.ts";
import { hubKey } from "../protocol/names.ts";
import type { Payload } from "../protocol/payload.ts";
import type { Connection } from "./connection.ts";
import type { HeldPayload, HeldPayloads } from "./held-payloads.ts";
import type { Pressure } from "./pressure.ts";

export interface ArrivalsOptions {
  readonly maxOutboxBytes: number;
}

/** What a payload counts besides its data, so that empty ones are bounded too. */
const PAYLOAD_BYTES = 64;

const NOTHING: readonly Payload[] = [];

/**
 * Connections whose WebSocket is not open yet, and what is sent to them meanwhile.
 *
 *     expect ─▶ holdEarly … ─▶ accept ─▶ hold, publish … ─▶ take: the socket is open, all goes out in order
 *     the upstream is asked      2xx  └──────────────────▶ drop: no WebSocket came of it
 *
 * A backend may send to a connection id while it answers the connect event, from another thread: it is not known which of the two arrives
 * first. So messages to the id are held from the question on, those to user, groups and hub from the 2xx on.
 *
 * Bounds: `maxOutboxBytes` for each connection, `maxBufferedBytes` for all; past them the connection ends as a slow consumer.
 * Cost:   an entry of a map, then one of a set for each; a list once something waits. A publication looks at each arrival once.
 */
export class Arrivals {
  readonly #options: ArrivalsOptions;
  readonly #pressure: Pick<Pressure, "hold" | "fits">;
  /** Those of which the upstream has been asked, by id. */
  readonly #asked = new Map<string, Connection>();
  readonly #accepted = new Set<Connection>();

  constructor(options: ArrivalsOptions, pressure: Pick<Pressure, "hold" | "fits">) {
    this.#options = options;
    this.#pressure = pressure;
  }

  /** How many have been accepted. */
  get count(): number {
    return this.#accepted.size;
  }

  /** Whether a connection has been accepted and is not open yet. */
  has(connection: Connection): boolean {
    return this.#accepted.has(connection);
  }

  /** The upstream is about to be asked. `accept` or `drop` follows. */
  expect(connection: Connection): void {
    this.#asked.set(connection.connectionId, connection);
  }

  /** The upstream has said 2xx. `take` or `drop` follows. */
  accept(connection: Connection): void {
    this.#asked.delete(connection.connectionId);
    this.#accepted.add(connection);
  }

  /** Keeps a payload for a connection of which the upstream has not said 2xx yet, where there is one of that id. */
  holdEarly(hub: string, connectionId: string, payload: Payload): void {
    const connection = this.#asked.get(connectionId);
    if (connection === undefined || hubKey(connection.hub) !== hubKey(hub)) return;
    this.#hold(connection, toHeld(payload));
  }

  /** Keeps a payload for a connection that has been accepted. */
  hold(connection: Connection, payload: Payload): void {
    if (this.#accepted.has(connection)) this.#hold(connection, toHeld(payload));
  }

  /** Keeps a payload for those in a hub or group, but for those whose ids are excluded. */
  publish(target: Target, payload: Payload, excluded: readonly string[]): void {
    if (this.#accepted.size === 0) return;
    const key = hubKey(target.hub);
    const without = new Set(excluded);
    const held = toHeld(payload);
    for (const connection of this.#accepted) {
      if (hubKey(connection.hub) !== key || without.has(connection.connectionId)) continue;
      if (target.kind === "hub" || connection.groups?.has(target.name) === true) this.#hold(connection, held);
    }
  }

  /** It is open: what waited for it, in order. */
  take(connection: Connection): readonly Payload[] {
    this.#accepted.delete(connection);
    const { held } = connection;
    if (held === null) return NOTHING;
    this.#release(connection, held);
    return held.payloads.map(({ payload }) => payload);
  }

  /** It does not open. */
  drop(connection: Connection): void {
    this.#asked.delete(connection.connectionId);
    this.#accepted.delete(connection);
    if (connection.held !== null) this.#release(connection, connection.held);
  }

  #hold(connection: Connection, added: HeldPayload): void {
    // After the decision to close nothing more goes to the client.
    if (connection.end !== null) return;
    const { held } = connection;
    const isFull = held !== null && held.byteCount + added.byteCount > this.#options.maxOutboxBytes;
    const isCounted = added.waiting > 0;
    if (isFull || (!isCounted && !this.#pressure.fits(added.byteCount))) {
      // As for an open connection: messages are never skipped, so it ends.
      connection.end = CLOSE.slowConsumer;
      if (held !== null) this.#release(connection, held);
      return;
    }
    if (!isCounted) this.#pressure.hold(added.byteCount);
    added.waiting++;
    if (held === null) {
      connection.held = { payloads: [added], byteCount: added.byteCount };
    } else {
      held.payloads.push(added);
      held.byteCount += added.byteCount;
    }
  }

  #release(connection: Connection, { payloads }: HeldPayloads): void {
    connection.held = null;
    for (const held of payloads) {
      held.waiting--;
      if (held.waiting === 0) this.#pressure.hold(-held.byteCount);
    }
  }
}

function toHeld(payload: Payload): HeldPayload {
  return { payload, byteCount: PAYLOAD_BYTES + payload.data.length, waiting: 0 };
}
