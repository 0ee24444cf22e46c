import { CLIENT_PROTOCOLS } from "../../src/client-protocols/client-protocols.ts";
import { Admission, type AdmissionOptions, type ConnectRequest } from "../../src/core/admission.ts";
import { Arrivals } from "../../src/core/arrivals.ts";
import { Connection } from "../../src/core/connection.ts";
import { Departure } from "../../src/core/departure.ts";
import { type DrainOptions, drain } from "../../src/core/drain.ts";
import { GroupNames } from "../../src/core/group-names.ts";
import { Lifecycle, type LifecycleOptions } from "../../src/core/lifecycle.ts";
import { Membership } from "../../src/core/membership.ts";
import { Outstanding } from "../../src/core/outstanding.ts";
import type { Broker } from "../../src/core/ports/broker.ts";
import type { ClientSocket, Traffic } from "../../src/core/ports/client-socket.ts";
import type { WaitingClient } from "../../src/core/ports/upstream.ts";
import { Pressure, type PressureOptions } from "../../src/core/pressure.ts";
import { Redelivery, type RedeliveryOptions } from "../../src/core/redelivery.ts";
import { Registry } from "../../src/core/registry.ts";
import { SecondDisconnects } from "../../src/core/second-disconnects.ts";
import { topicOf } from "../../src/core/topic.ts";
import { MemoryJournal } from "../../src/journal/memory.ts";
import { type ClientProtocols, FIRST_ENCODING, type Frame } from "../../src/protocol/client-protocol.ts";
import type { CloseCause, ConnectionEnd } from "../../src/protocol/close-causes.ts";
import type { Target } from "../../src/protocol/envelope.ts";
import type { ConnectionFacts } from "../../src/protocol/facts.ts";
import type { Report, Undelivered } from "../../src/protocol/notices.ts";
import { FakeClock, settled } from "./fake-clock.ts";
import { hearing } from "./notices.ts";
import { toPayload } from "./payloads.ts";
import { ScriptedUpstream } from "./scripted-upstream.ts";

/** A client's socket that writes down what the core does with it. Like Bun's, it reports its end before `close` returns. */
export class RecordingSocket implements ClientSocket {
  readonly sent: Frame[] = [];
  /** Everything but frames, in order: `pause`, `resume`, `ping`, `close 1000 bye`, `terminate`. */
  readonly done: string[] = [];
  /** Whether the next frame finds the outbox full. */
  full = false;
  onClosed: (seen: ConnectionEnd) => void = () => {};
  #open = true;

  send(frame: Frame): "sent" | "full" {
    if (this.full) return "full";
    if (this.#open) this.sent.push(frame);
    return "sent";
  }

  /** Those of `sent` that were not in a hurry. */
  readonly sentSoon: Frame[] = [];

  sendSoon(frame: Frame): "sent" | "full" {
    const result = this.send(frame);
    if (result === "sent" && this.#open) this.sentSoon.push(frame);
    return result;
  }

  waitingBytes = 0;
  isCompressed = false;
  isEncrypted = false;
  /** What the system tells of its TCP connection; null: nothing. */
  traffic: Traffic | null = null;

  readTraffic(): Traffic | null {
    return this.traffic === null ? null : { ...this.traffic };
  }

  readonly topics = new Set<string>();

  subscribe(topic: string): void {
    this.topics.add(topic);
  }

  unsubscribe(topic: string): void {
    this.topics.delete(topic);
  }

  ping(): void {
    if (this.#open) this.done.push("ping");
  }

  pause(): void {
    if (this.#open) this.done.push("pause");
  }

  resume(): void {
    if (this.#open) this.done.push("resume");
  }

  close(code: number, reason: string): void {
    if (this.#open) this.#end(`close ${code} ${reason}`, { code, reason });
  }

  terminate(): void {
    if (this.#open) this.#end("terminate", { code: 1006, reason: "" });
  }

  /** The other side has ended it. */
  leave(seen: CloseCause): void {
    this.#open = false;
    this.onClosed({ ...seen, category: "client" });
  }

  #end(what: string, seen: CloseCause): void {
    this.done.push(what);
    this.leave(seen);
  }
}

/** A report that keeps what the core tells as lines, and undelivered events and faults whole. */
export interface RecordingReport extends Report {
  readonly lines: string[];
  readonly lost: Undelivered[];
  readonly dead: Undelivered[];
  readonly faults: unknown[];
}

export function recordingReport(): RecordingReport {
  const kept = { lines: [] as string[], lost: [] as Undelivered[], dead: [] as Undelivered[], faults: [] as unknown[] };
  const say = (line: string) => void kept.lines.push(line);
  const report = hearing({
    "connection-opened": ({ facts }) => say(`opened ${facts.connectionId}`),
    "connection-closed": ({ facts, end }) => say(`closed ${facts.connectionId} ${end.code} ${end.reason}`),
    "connection-refused": ({ hub, status, code }) => say(`refused ${hub} ${status} ${code}`),
    "client-left": ({ hub, clientAddress }) => say(`left ${hub} ${clientAddress}`),
    "accepted-late": ({ facts }) => say(`accepted late ${facts.connectionId}`),
    undelivered: (notice) => void kept.lost.push(notice),
    "disconnects-waiting": ({ entry }) => say(`waiting ${entry}`),
    "disconnects-flowing": ({ entry }) => say(`flowing ${entry}`),
    "disconnect-refused": ({ entry, cause }) => say(`refused by ${entry}: ${cause}`),
    "dead-letter": (notice) => {
      say(`dead ${notice.connectionId}`);
      kept.dead.push(notice);
    },
    "node-taken-over": ({ nodeId, count }) => say(`taken over ${nodeId} ${count}`),
    "takeover-failed": ({ nodeId, cause }) => say(`takeover failed ${nodeId} ${cause}`),
    fault: ({ error }) => void kept.faults.push(error),
  });
  return Object.assign(report, kept);
}

/** The members of each subject, as a broker counts them; joins resolve when the test lets them. */
export class CountingBroker implements Pick<Broker, "join" | "leave"> {
  readonly counts = new Map<string, number>();
  /** What a join waits for. */
  known: Promise<void> = Promise.resolve();

  join(target: Target): Promise<void> {
    this.#add(target, 1);
    return this.known;
  }

  leave(target: Target): void {
    this.#add(target, -1);
  }

  #add(target: Target, change: number): void {
    const subject = topicOf(target, FIRST_ENCODING);
    const count = (this.counts.get(subject) ?? 0) + change;
    if (count === 0) this.counts.delete(subject);
    else this.counts.set(subject, count);
  }
}

/** A client that waits for as long as it takes. */
export const PATIENT: WaitingClient = { hasLeft: false };

/** A client that asks to be let in: without subprotocols, certificate and headers unless `over` has them. */
export function connectRequest(facts: ConnectionFacts, over: Partial<ConnectRequest> = {}): ConnectRequest {
  const asked = { client: PATIENT, subprotocols: null, certThumbprint: null, headers: new Headers() };
  return { facts, ...asked, checkAgain: () => null, ...over };
}

/** A client that is connected to the core. */
export interface Client {
  readonly connection: Connection;
  readonly socket: RecordingSocket;
  /** Sends one text message after the other and lets what follows happen. */
  readonly send: (...texts: readonly string[]) => Promise<void>;
  readonly leave: (seen?: CloseCause) => Promise<void>;
}

export type StageOptions = LifecycleOptions & AdmissionOptions & PressureOptions & RedeliveryOptions & DrainOptions;

const DEFAULTS: StageOptions = {
  maxInboxMessages: 4,
  maxInboxBytes: 1000,
  inboxPauseTimeoutMs: 30_000,
  inboxDrainTimeoutMs: 10_000,
  pingAfterMs: 20_000,
  pongTimeoutMs: 8000,
  messagesPerSecond: 0,
  bytesPerSecond: 0,
  controlFramesPerSecond: 50,
  maxConnections: 100,
  maxPendingUpgrades: 100,
  maxPendingUpgradesPerAddress: 100,
  connectsPerSecondPerAddress: 0,
  maxGroupsPerConnection: 3,
  maxOutboxBytes: 1_000_000,
  outboxStallTimeoutMs: 30_000,
  maxBufferedBytes: 10_000_000,
  retryForSeconds: 86_400,
  retryRefusedForSeconds: 300,
  maxPerSecond: 500,
  delayMs: 0,
  spreadMs: 0,
  drainTimeoutMs: 15_000,
};

/** The time of day at which a stage begins, Unix, in milliseconds; its clock moves it on. */
export const STAGE_BEGINS_MS = 1_800_000_000_000;

/** The whole core between a scripted upstream and recording sockets, with time in the test's hand. */
export class CoreStage {
  readonly clock = new FakeClock();
  /** A test may add one. */
  readonly protocols: ClientProtocols = { ...CLIENT_PROTOCOLS };
  readonly upstream = new ScriptedUpstream();
  readonly report = recordingReport();
  readonly registry = new Registry();
  readonly outstanding = new Outstanding();
  readonly journal: MemoryJournal;
  /** The options in force; a test may change them. */
  readonly options: { -readonly [Name in keyof StageOptions]: StageOptions[Name] };
  /** What the stage's random numbers are. */
  random = 0;
  readonly membership: Membership;
  readonly pressure: Pressure;
  readonly arrivals: Arrivals;
  /** Whether the process has grown past its bound. */
  readonly memory = { isOver: false, arrived: () => {} };
  readonly redelivery: Redelivery;
  readonly departure: Departure;
  readonly admission: Admission;
  readonly lifecycle: Lifecycle;
  /** What the core has told the broker of its members. */
  readonly broker = new CountingBroker();
  /** Whether the node still goes by the name in a connection's id. */
  isOwn: (connectionId: string) => boolean = () => true;
  /** The groups that a user's connections join when they open. */
  rulesOf: (hub: string, userId: string) => readonly string[] = () => [];
  #clientCount = 0;
  /** By how much somebody has set the machine's clock meanwhile. */
  clockSetByMs = 0;
  readonly #beganAtMs = this.clock.now();

  /** `journal`: what an earlier process left. */
  constructor(options: Partial<StageOptions> = {}, journal = new MemoryJournal()) {
    this.journal = journal;
    const { upstream, outstanding, report, registry, clock } = this;
    const all = { ...DEFAULTS, ...options };
    this.options = all;
    const timeOfDayMs = () => STAGE_BEGINS_MS + clock.now() - this.#beganAtMs + this.clockSetByMs;
    const random = () => this.random;
    const seconds = new SecondDisconnects({ journal, timeOfDayMs, report });
    const delivery = { options: all, upstream, journal, seconds, clock, timeOfDayMs, report };
    this.redelivery = new Redelivery({ ...delivery, random });
    const { redelivery } = this;
    this.departure = new Departure({ ...delivery, redelivery, outstanding });
    this.membership = new Membership({
      registry,
      broker: this.broker,
      options: all,
      rulesOf: (hub, userId) => this.rulesOf(hub, userId),
    });
    this.pressure = new Pressure({
      options: all,
      registry,
      clock,
      memory: this.memory,
      close: (connection, cause) => this.lifecycle.close(connection, cause),
    });
    this.arrivals = new Arrivals(all, this.pressure);
    const parts = {
      options: all,
      upstream,
      journal,
      registry,
      arrivals: this.arrivals,
      membership: this.membership,
      pressure: this.pressure,
      departure: this.departure,
      outstanding,
      clock,
      report,
    };
    this.admission = new Admission({ ...parts, isOwn: (connectionId) => this.isOwn(connectionId) });
    this.lifecycle = new Lifecycle({ ...parts, protocols: this.protocols });
  }

  /** Starts a shutdown; `left` is null until it is over. */
  drain(over: Partial<DrainOptions> = {}): { left: number | null; accepting: boolean } {
    const state: { left: number | null; accepting: boolean } = { left: null, accepting: true };
    const stopAccepting = () => {
      state.accepting = false;
    };
    void drain({ ...this, options: { ...this.options, ...over }, stopAccepting }).then((left) => {
      state.left = left;
    });
    return state;
  }

  /** A client whose connect event was answered before the stage began. */
  open(over: Partial<ConnectionFacts> & { groups?: readonly string[]; first?: string } = {}): Client {
    this.#clientCount++;
    const { groups = [], first, ...facts } = over;
    const connection = new Connection(someFacts({ connectionId: `c${this.#clientCount}`, userId: "alice", ...facts }));
    if (groups.length > 0) connection.groups = new GroupNames(groups);
    this.outstanding.begin();
    // Its promise is kept when nobody waits for the broker; the groups are there at once.
    void this.membership.prepare(connection);
    return this.enter(connection, first);
  }

  /** Gives an admitted connection its socket. */
  enter(connection: Connection, first?: string): Client {
    const socket = new RecordingSocket();
    socket.onClosed = (seen) => this.lifecycle.closed(connection, seen);
    this.lifecycle.opened(connection, socket, first === undefined ? null : toPayload(first));
    return {
      connection,
      socket,
      send: async (...texts) => {
        for (const text of texts) this.lifecycle.received(connection, text, new TextEncoder().encode(text));
        await settled();
      },
      leave: async (seen = { code: 1000, reason: "bye" }) => {
        socket.leave(seen);
        await settled();
      },
    };
  }

  /** Ends the timers; what is left of them after that is a leak. */
  stop(): void {
    this.admission.stop();
    this.pressure.stop();
    this.lifecycle.stop();
    this.redelivery.stop();
  }
}

/** A connection's facts; everything that is not given is empty but for the id and the hub. */
export function someFacts(over: Partial<ConnectionFacts> = {}): ConnectionFacts {
  return {
    connectionId: "c0",
    hub: "chat",
    userId: null,
    claims: "",
    clientQuery: "",
    forwardedFor: "10.0.0.1",
    ...over,
  };
}
