import packageJson from "../../package.json" with { type: "json" };
import type { AccessKeys } from "../auth/access-keys.ts";
import { CLIENT_PROTOCOLS } from "../client-protocols/client-protocols.ts";
import type { Config } from "../config/schema.ts";
import type { Renewal } from "../config/tls-files.ts";
import { Admission } from "../core/admission.ts";
import { Arrivals } from "../core/arrivals.ts";
import type { Connection } from "../core/connection.ts";
import { Deliver } from "../core/deliver.ts";
import { Departure } from "../core/departure.ts";
import { GroupRules } from "../core/group-rules.ts";
import { Lifecycle } from "../core/lifecycle.ts";
import { Membership } from "../core/membership.ts";
import { MemoryWatch } from "../core/memory-watch.ts";
import type { Meters } from "../core/meters.ts";
import { Outstanding } from "../core/outstanding.ts";
import type { Broker, BrokerHandler } from "../core/ports/broker.ts";
import type { Fanout } from "../core/ports/client-socket.ts";
import type { Journal } from "../core/ports/journal.ts";
import { Pressure } from "../core/pressure.ts";
import { Redelivery } from "../core/redelivery.ts";
import { Registry } from "../core/registry.ts";
import type { RuleStore } from "../core/rule-store.ts";
import { SecondDisconnects } from "../core/second-disconnects.ts";
import { DIALECTS } from "../dialects/dialects.ts";
import type { ClientPaths } from "../protocol/client-paths.ts";
import type { ConnectionEnd } from "../protocol/close-causes.ts";
import type { Report } from "../protocol/notices.ts";
import { findClient, type TrustedProxies } from "../sockets/addresses.ts";
import type { Doors } from "../sockets/doors.ts";
import { createUpstream } from "../upstream/upstream.ts";
import type { LiveOptions } from "./live-options.ts";
import { processMemory } from "./process-memory.ts";
import { systemClock } from "./system-clock.ts";

/** The options that a reload replaces. The parts read it whenever they need it. */
export interface Running {
  config: Config;
  keys: AccessKeys;
  /** Hosts that a token may name; null where none is configured. */
  publicHosts: readonly string[] | null;
  trustedProxies: TrustedProxies;
  clientPaths: ClientPaths;
  /** The same object for the gateway's whole life; a reload changes its fields. */
  readonly options: LiveOptions;
}

/** The parts that have been started, to be stopped in the opposite order. */
export class StopStack {
  readonly #stops: (() => void | Promise<void>)[] = [];

  push(stop: () => void | Promise<void>): void {
    this.#stops.push(stop);
  }

  /** Goes on behind one that throws, so that nothing is left running; throws the first fault in the end. */
  async unwind(): Promise<void> {
    const faults: unknown[] = [];
    for (let stop = this.#stops.pop(); stop !== undefined; stop = this.#stops.pop()) {
      try {
        await stop();
      } catch (fault) {
        faults.push(fault);
      }
    }
    if (faults.length > 0) throw faults[0];
  }
}

/** The parts that a gateway of one node and a node of a cluster have each in their own way. Their makers have pushed their stops. */
export interface NodeParts {
  readonly journal: Journal;
  readonly ruleStore: RuleStore;
  /** To be called once; the handler is called from `start` on. */
  readonly makeBroker: (handler: BrokerHandler) => Broker;
  readonly newConnectionId: () => string;
  /** Whether the node still has the name that this id begins with. */
  readonly isOwn: (connectionId: string) => boolean;
  /** Whether clients and calls should come here, as far as the other nodes and the files in `dataDir` go. */
  readonly isReady: () => boolean;
  /** Reads the files again by which the other nodes are reached. */
  readonly renewCertificates: () => readonly Renewal[];
  /** The core is wired. */
  readonly start: (core: Core) => Promise<void>;
  /** How many writes of the journal wait for the disk. */
  readonly journalQueueLength: () => number;
}

/** The parts of the core, wired. */
export interface Core {
  readonly upstream: ReturnType<typeof createUpstream>;
  readonly journal: Journal;
  readonly redelivery: Redelivery;
  readonly registry: Registry;
  readonly outstanding: Outstanding;
  readonly departure: Departure;
  readonly admission: Admission;
  readonly lifecycle: Lifecycle;
  readonly pressure: Pressure;
  readonly broker: Broker;
  readonly rules: GroupRules;
  readonly meters: Meters;
  /** Set once the listener is open; nothing can be published before. */
  doors: Doors | null;
}

/** Wires the core between its adapters. */
export function buildCore(
  running: Running,
  node: NodeParts,
  { report, meters, stack }: { report: Report; meters: Meters; stack: StopStack },
): Core {
  const { options } = running;
  const { journal } = node;
  const clock = systemClock;
  const timeOfDayMs = Date.now;
  const registry = new Registry();
  const outstanding = new Outstanding();
  // These know each other: closing goes to the lifecycle, and the lifecycle asks the others.
  const close = (connection: Connection, cause: ConnectionEnd) => lifecycle.close(connection, cause);
  const memory = new MemoryWatch({ options, registry, memory: processMemory, clock, close });
  const pressure: Pressure = new Pressure({ options, registry, clock, memory, close });
  const upstream = buildUpstream(running, { pressure, report, meters });
  stack.push(() => upstream.stop());
  const seconds = new SecondDisconnects({ journal, timeOfDayMs, report });
  const delivery = { options, upstream, journal, seconds, clock, timeOfDayMs, report };
  const redelivery = new Redelivery({ ...delivery, random: Math.random });
  const departure = new Departure({ ...delivery, redelivery, outstanding });
  const onExpired = (hub: string, name: string, group: string) =>
    void deliver.leave({ target: { kind: "user", hub, name }, group });
  const onBegun = (hub: string, name: string, group: string) => deliver.begin({ kind: "user", hub, name }, group);
  const rules = new GroupRules({ store: node.ruleStore, clock, report, onBegun, onExpired });
  const broker = node.makeBroker({
    receive: (envelope) => deliver.receive(envelope),
    answer: (question) => deliver.answer(question),
  });
  const rulesOf = (hub: string, userId: string) => rules.groupsOf(hub, userId);
  const arrivals = new Arrivals(options, pressure);
  const membership = new Membership({ registry, broker, options, rulesOf });
  const ends = { departure, outstanding, clock, report };
  const common = { options, upstream, journal, registry, arrivals, membership, pressure, ...ends };
  const admission = new Admission({ ...common, isOwn: (connectionId) => node.isOwn(connectionId) });
  const lifecycle: Lifecycle = new Lifecycle({ ...common, protocols: CLIENT_PROTOCOLS });
  const fanout: Fanout = { publish: (topic, frame) => core.doors?.publish(topic, frame) };
  const rulesReached = (revision: number) => rules.reached(revision);
  const deliver: Deliver = new Deliver({ ...common, protocols: CLIENT_PROTOCOLS, close, fanout, rulesReached });
  for (const part of [admission, lifecycle, pressure, memory, rules, redelivery]) stack.push(() => part.stop());
  const core: Core = { ...common, redelivery, admission, lifecycle, rules, meters, broker, doors: null };
  return core;
}

function buildUpstream(
  running: Running,
  { pressure, report, meters }: { pressure: Pressure; report: Report; meters: Meters },
) {
  return createUpstream({
    entries: running.config.upstreams,
    dialects: DIALECTS,
    allowedUpstreamHosts: running.config.allowedUpstreamHosts,
    hubSpellings: running.config.hubSpellings,
    clientOf: (forwardedFor) => findClient(forwardedFor, running.trustedProxies),
    keys: () => running.keys,
    maxResponseBytes: running.options.maxResponseBytes,
    userAgent: `hubwire/${packageJson.version}`,
    env: process.env,
    clock: systemClock,
    report,
    meters,
    hold: (byteCount) => pressure.hold(byteCount),
    fits: (byteCount) => pressure.fits(byteCount),
  });
}
