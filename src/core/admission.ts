import { CLOSE } from "../protocol/close-causes.ts";
import type { NamedUser } from "../protocol/dialect.ts";
import { type Refusal, refusal } from "../protocol/error-codes.ts";
import { type ConnectEvent, connectEventId, type RequestHeaders } from "../protocol/events.ts";
import type { ConnectionFacts } from "../protocol/facts.ts";
import type { HeaderLines } from "../protocol/headers.ts";
import type { Report } from "../protocol/notices.ts";
import type { Payload } from "../protocol/payload.ts";
import type { Arrivals } from "./arrivals.ts";
import { type ConnectDecision, decideConnect } from "./connect-decision.ts";
import { Connection } from "./connection.ts";
import type { Departure } from "./departure.ts";
import { describeOutcome } from "./disconnect-outcome.ts";
import { GroupNames } from "./group-names.ts";
import type { Membership } from "./membership.ts";
import type { Outstanding } from "./outstanding.ts";
import { maxPendingPerAddress, PendingUpgrades, type PendingUpgradesOptions } from "./pending-upgrades.ts";
import type { Clock } from "./ports/clock.ts";
import type { Journal } from "./ports/journal.ts";
import type { ConnectOutcome, LateAnswer, Upstream, WaitingClient } from "./ports/upstream.ts";
import type { Pressure } from "./pressure.ts";
import { AddressRates } from "./rate.ts";
import type { Registry } from "./registry.ts";

export interface AdmissionOptions extends PendingUpgradesOptions {
  readonly maxConnections: number;
  /** 0: no limit. */
  readonly connectsPerSecondPerAddress: number;
  readonly maxGroupsPerConnection: number;
}

/** A client that passed every check of its own and asks to connect. */
export interface ConnectRequest {
  readonly facts: ConnectionFacts;
  readonly client: WaitingClient;
  readonly subprotocols: string | null;
  readonly certThumbprint: string | null;
  readonly headers: RequestHeaders;
  /**
   * Asked right before the connect event goes to its entry: why this client may not connect after all, by the options in force then.
   *
   * Why: a reload that keeps foreign pages out and forwards cookies may come between the client's checks and the choice of the entry.
   */
  readonly checkAgain: () => Refusal | null;
}

export type Admitted =
  | {
      readonly kind: "accept";
      readonly connection: Connection;
      readonly subprotocol: string | null;
      readonly payload: Payload | null;
      readonly headers: HeaderLines;
    }
  | Extract<ConnectDecision, { kind: "relay" }>
  /** The client has gone, and nothing was sent to the upstream. */
  | { readonly kind: "left" }
  | { readonly kind: "refuse"; readonly refusal: Refusal };

/**
 * Decides who may connect: the limits first, then the upstream.
 *
 *     reserve ─▶ (token, by the caller) ─▶ connect ─▶ accept ─▶ the socket opens, or `handshakeFailed`
 *        │                                    └▶ relay, refuse, left
 *        └▶ refusal                      release, in every case
 *
 * Source: the seed, "Connect"; PROTOCOL.md, "Client endpoint" (order of checks) and "Connect".
 */
export class Admission {
  readonly #options: AdmissionOptions;
  readonly #upstream: Upstream;
  readonly #journal: Journal;
  readonly #registry: Registry;
  readonly #arrivals: Arrivals;
  readonly #membership: Membership;
  readonly #pressure: Pressure;
  readonly #departure: Departure;
  readonly #outstanding: Outstanding;
  readonly #clock: Clock;
  readonly #report: Report;
  readonly #isOwn: (connectionId: string) => boolean;
  #addresses: AddressRates;
  readonly #cancelSweep: () => void;
  readonly #pending: PendingUpgrades;
  #closing = false;

  constructor(parts: {
    options: AdmissionOptions;
    upstream: Upstream;
    journal: Journal;
    registry: Registry;
    arrivals: Arrivals;
    membership: Membership;
    pressure: Pressure;
    departure: Departure;
    outstanding: Outstanding;
    clock: Clock;
    report: Report;
    /** Whether this node still has the name that the id begins with. */
    isOwn: (connectionId: string) => boolean;
  }) {
    this.#options = parts.options;
    this.#upstream = parts.upstream;
    this.#journal = parts.journal;
    this.#registry = parts.registry;
    this.#arrivals = parts.arrivals;
    this.#membership = parts.membership;
    this.#pressure = parts.pressure;
    this.#departure = parts.departure;
    this.#outstanding = parts.outstanding;
    this.#clock = parts.clock;
    this.#report = parts.report;
    this.#isOwn = parts.isOwn;
    this.#addresses = new AddressRates(parts.options.connectsPerSecondPerAddress);
    this.#pending = new PendingUpgrades(parts.options);
    this.#cancelSweep = parts.clock.every(1000, () => this.#addresses.sweep(this.#clock.now()));
  }

  /** How many handshakes have a place. */
  get pendingCount(): number {
    return this.#pending.count;
  }

  /** Takes a place for a handshake of a client of these addresses (`addressBlock`). Null: taken, and `release` must follow. */
  reserve(block: string): Refusal | null {
    const { maxConnections, maxPendingUpgrades, connectsPerSecondPerAddress } = this.#options;
    if (this.#closing) return shuttingDown();
    // Those that have been accepted are in the registry, and have their places still.
    if (this.#registry.size - this.#arrivals.count + this.#pending.count >= maxConnections) {
      return refusal("connection_limit", `limits.maxConnections (${maxConnections}) is reached`, "maxConnections");
    }
    const shortage = this.#pressure.shortage();
    if (shortage !== null) return refusal("buffer_limit", shortage, "maxBufferedBytes", { "Retry-After": "1" });
    if (this.#pending.isFull) {
      const sentence = `limits.maxPendingUpgrades (${maxPendingUpgrades}) is reached`;
      return refusal("pending_upgrade_limit", sentence, "maxPendingUpgrades", { "Retry-After": "1" });
    }
    if (this.#pending.isFullFor(block)) {
      const sentence = `limits.maxPendingUpgradesPerAddress (${maxPendingPerAddress(this.#options)}) is reached`;
      return refusal("pending_upgrade_rate", sentence, "maxPendingUpgradesPerAddress", { "Retry-After": "1" });
    }
    if (!this.#addresses.take(block, this.#clock.now())) {
      const sentence = `limits.connectsPerSecondPerAddress (${connectsPerSecondPerAddress}) is exceeded`;
      return refusal("connect_rate", sentence, "connectsPerSecondPerAddress", { "Retry-After": "1" });
    }
    this.#pending.add(block);
    return null;
  }

  /** Gives the place back: the handshake is over, with any outcome. */
  release(block: string): void {
    this.#pending.remove(block);
  }

  /**
   * Asks the upstream. An accepted connection must be opened, or given to `handshakeFailed`, by the caller.
   *
   * Order:  the journal has the connection before the upstream hears of it, and the user before the client does.
   */
  async connect(request: ConnectRequest): Promise<Admitted> {
    const { facts, client } = request;
    // Where the caller has waited since `reserve`, the drain may have found nothing outstanding meanwhile.
    if (this.#closing) return { kind: "refuse", refusal: shuttingDown() };
    if (client.hasLeft) return { kind: "left" };
    this.#outstanding.begin();
    // The journal keeps what it is given: the connection itself, so that nothing is held twice.
    const connection = new Connection(facts);
    if (!(await this.#isWritten(this.#journal.connecting(connection)))) {
      // Nothing was written, so nothing is to be taken back.
      this.#outstanding.end();
      return { kind: "refuse", refusal: journalUnavailable() };
    }
    let [departing, heldBytes] = [false, 0];
    try {
      const refused = this.#closing ? shuttingDown() : request.checkAgain();
      if (refused !== null) return { kind: "refuse", refusal: refused };
      this.#arrivals.expect(connection);
      const decision = await this.#ask(request);
      if (decision === "left") return { kind: "left" };
      if (decision.kind === "accept") {
        departing = true;
        heldBytes = decision.payload?.data.length ?? 0;
        this.#pressure.hold(heldBytes);
        return await this.#accept(connection, decision);
      }
      if (decision.disconnect !== "none") {
        departing = true;
        nameUser(connection, decision);
        if (decision.disconnect === "accepted") this.#sendAway(connection);
        else this.#sendUnknown(connection, decision.kind === "refuse" ? decision.late : undefined);
      }
      return decision.kind === "refuse" ? { kind: "refuse", refusal: decision.refusal } : decision;
    } catch (error) {
      // A bug in hubwire after connect was posted: the upstream may have said 2xx.
      departing = true;
      this.#withdraw(connection);
      this.#sendUnknown(connection);
      throw error;
    } finally {
      this.#pressure.hold(-heldBytes);
      // Nothing is dropped where it was accepted: the caller opens it in this turn, or says that it cannot.
      if (!this.#arrivals.has(connection)) this.#arrivals.drop(connection);
      if (!departing) {
        // Not waited for: a crash before it is written costs a disconnect that says `unknown`.
        void this.#journal.settled(facts.connectionId);
        this.#outstanding.end();
      }
    }
  }

  /** The client was accepted and its WebSocket never opened: it had left, or the handshake could not be finished. */
  handshakeFailed(connection: Connection): void {
    this.#withdraw(connection);
    if (connection.isDisowned) this.#departure.handOver();
    else this.#sendAway(connection);
  }

  /** Connect was answered with 2xx. */
  #sendAway(connection: Connection): void {
    const end = CLOSE.handshakeFailed;
    if (this.#isOwn(connection.connectionId)) void this.#departure.send(connection, end);
    else void this.#departure.sendSecond(connection, end);
  }

  /** Connect may have been, or may yet be, answered with 2xx. */
  #sendUnknown(connection: Connection, late?: Promise<LateAnswer>): void {
    void this.#departure.send(connection, CLOSE.handshakeFailed, true, late);
  }

  /** An accepted connection will not open: it is found no more, and what waits for it is dropped. */
  #withdraw(connection: Connection): void {
    if (this.#arrivals.has(connection)) this.#membership.exit(connection);
    this.#arrivals.drop(connection);
  }

  /** The options have changed. */
  reconfigure(): void {
    this.#addresses = new AddressRates(this.#options.connectsPerSecondPerAddress);
  }

  /** Accepts no client from now on. */
  close(): void {
    this.#closing = true;
  }

  stop(): void {
    this.#cancelSweep();
  }

  /** Posts the connect event and decides by its outcome. */
  async #ask({
    facts,
    client,
    subprotocols,
    certThumbprint,
    headers,
  }: ConnectRequest): Promise<ConnectDecision | "left"> {
    const eventId = connectEventId(facts.connectionId);
    const event = { name: "connect", eventId, facts, subprotocols, certThumbprint, headers } as const;
    const startedAtMs = this.#clock.now();
    const outcome = await this.#upstream.connect(event, client);
    if (outcome.kind === "not-sent" && client.hasLeft) return "left";
    const maxGroups = this.#options.maxGroupsPerConnection;
    const decision = decideConnect(outcome, { userId: facts.userId, maxGroups });
    if (decision.kind === "refuse") this.#reportUndelivered(event, outcome, startedAtMs);
    return decision;
  }

  /**
   * The connection is known from here on, and what is sent to it waits: the backend need not know when the client has its 101.
   *
   * Order: the journal has the user, and the broker the connection, before it resolves.
   */
  async #accept(connection: Connection, decision: Extract<ConnectDecision, { kind: "accept" }>): Promise<Admitted> {
    const { userId, groups, subprotocol, payload, headers } = decision;
    nameUser(connection, decision);
    if (groups.length > 0) connection.groups = new GroupNames(groups);
    this.#arrivals.accept(connection);
    const known = this.#membership.prepare(connection);
    // With the facts that are known by now; where this write fails, the next does.
    if (decision.isLatin1User === true) void this.#isWritten(this.#journal.connecting(connection));
    const written = await this.#isWritten(this.#journal.connected(connection.connectionId, userId));
    if (written && !this.#closing) await known;
    const refused = this.#findRefusal(connection, written);
    if (refused === null) return { kind: "accept", connection, subprotocol, payload, headers };
    this.handshakeFailed(connection);
    return { kind: "refuse", refusal: refused };
  }

  /** Why an accepted client gets no socket after all, but its disconnect event; null where it gets one. */
  #findRefusal({ connectionId }: Connection, written: boolean): Refusal | null {
    if (this.#closing) return shuttingDown();
    if (!written) return journalUnavailable();
    return this.#isOwn(connectionId) ? null : leaseLost();
  }

  /** An event with an answer has been delivered, even if the answer was useless. */
  #reportUndelivered(
    { eventId, facts: { connectionId, hub, forwardedFor } }: ConnectEvent,
    outcome: ConnectOutcome,
    startedAtMs: number,
  ): void {
    if (outcome.kind === "answer" || outcome.kind === "unrouted") return;
    const cause = describeOutcome(outcome);
    const tookMs = Math.round(this.#clock.now() - startedAtMs);
    const who = { connectionId, hub, forwardedFor };
    this.#report({ kind: "undelivered", ...who, event: "connect", eventId, cause, count: 1, tookMs });
  }

  /** The journal says itself why it could not write. */
  async #isWritten(write: Promise<void>): Promise<boolean> {
    try {
      await write;
      return true;
    } catch {
      return false;
    }
  }
}

function nameUser(connection: Connection, named: NamedUser): void {
  connection.userId = named.userId;
  if (named.isLatin1User === true) connection.rare = { ...connection.rare, userIdCoding: "latin1" };
}

function shuttingDown(): Refusal {
  return refusal("shutting_down", "the gateway is shutting down", "service", { "Retry-After": "1" });
}

function leaseLost(): Refusal {
  const sentence = "this node has lost its lease while the upstream was asked";
  return refusal("lease_lost", sentence, "cluster", { "Retry-After": "1" });
}

function journalUnavailable(): Refusal {
  return refusal("journal_unavailable", "the journal of connections cannot be written", "journal", {
    "Retry-After": "1",
  });
}
