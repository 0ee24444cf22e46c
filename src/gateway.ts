import { randomBytes } from "node:crypto";
import type { Logger } from "pino";
import packageJson from "../package.json" with { type: "json" };
import { answerHealth, HEALTH_PATH } from "./api/health.ts";
import { RestApi } from "./api/rest-api.ts";
import type { AccessKeys } from "./auth/access-keys.ts";
import { hostOf } from "./auth/audience.ts";
import { readOrMakeKey } from "./auth/key-file.ts";
import { RestTokens } from "./auth/rest-token.ts";
import { MemoryBroker } from "./broker/memory.ts";
import { hubConfig } from "./config/hub-config.ts";
import type { Config } from "./config/schema.ts";
import { startControlServer } from "./control/control-server.ts";
import { Admission } from "./core/admission.ts";
import type { Connection } from "./core/connection.ts";
import { Deliver } from "./core/deliver.ts";
import { Departure } from "./core/departure.ts";
import { drain } from "./core/drain.ts";
import { GroupRules } from "./core/group-rules.ts";
import { Lifecycle } from "./core/lifecycle.ts";
import { Membership } from "./core/membership.ts";
import { Outstanding } from "./core/outstanding.ts";
import type { Broker, Fanout, Journal, Report } from "./core/ports.ts";
import { Pressure } from "./core/pressure.ts";
import { Redelivery } from "./core/redelivery.ts";
import { Registry } from "./core/registry.ts";
import { lockDataDir } from "./journal/data-dir-lock.ts";
import { SqliteJournal } from "./journal/sqlite.ts";
import { collectLiveOptions, keepFixedOptions, type LiveOptions, listFixedChanges } from "./live-options.ts";
import { createLogReport } from "./observe/log.ts";
import { CLOSE, type CloseCause } from "./protocol/close-causes.ts";
import { SqliteRuleStore } from "./rules/sqlite.ts";
import { TrustedProxies } from "./sockets/addresses.ts";
import { type Doors, openDoors } from "./sockets/doors.ts";
import { fittingConnections } from "./sockets/file-limit.ts";
import type { ListenerParts, PlainRequest } from "./sockets/listener.ts";
import { Upgrade } from "./sockets/upgrade.ts";
import { systemClock } from "./system-clock.ts";
import { createUpstream } from "./upstream/upstream.ts";

/** 16 random bytes: 128 bits, 22 characters of base64url. Source: spec section 1, "connection". */
const CONNECTION_ID_BYTES = 16;

/** A gateway at work. */
export interface Gateway {
  /** Where clients and backends reach it on this machine. */
  readonly url: string;
  readonly port: number;
  readonly accessKeys: AccessKeys;
  /** The file that keeps the access key where the configuration gives none. */
  readonly keyFile: string | null;
  /** For tests: who is connected. */
  readonly registry: Registry;
  /**
   * Takes over a new configuration without dropping a connection. Returns the names of options that changed and take effect
   * at the next start only.
   *
   * Errors: throws where an entry of `upstreams` cannot be used; then nothing has changed.
   */
  reload(config: Config): readonly string[];
  /** Lets nobody in, closes every connection with 1012, sends every disconnect event. May be called twice. */
  stop(): Promise<void>;
}

/** What a reload replaces. The parts read it whenever they need it. */
interface Running {
  config: Config;
  keys: AccessKeys;
  /** Hosts that a token may name; null where none is configured. */
  publicHosts: readonly string[] | null;
  trustedProxies: TrustedProxies;
  /** One object for ever: its fields change. */
  readonly options: LiveOptions;
}

type LogReport = ReturnType<typeof createLogReport>;

/**
 * Builds the gateway's parts, wires them and opens the listener. The only place that does.
 *
 * Errors: throws where the port, a certificate, the data folder or an upstream entry cannot be used.
 */
export async function startGateway(config: Config, { log }: { log: Logger }): Promise<Gateway> {
  const report = createLogReport(log);
  const stack = new StopStack();
  try {
    const lock = await lockDataDir(config.dataDir);
    stack.push(() => lock.release());
    const { keys, keyFile } = findKeys(config);
    const running: Running = { ...readConfig(config, log), keys };
    const core = await buildCore(running, { log, report, stack });
    const state = { ready: false };
    const doors = openDoors(config.listen, running.options, wireDoors(running, core, report, state));
    core.doors = doors;
    stack.push(() => doors.stop());
    const control = startControlServer({ dataDir: config.dataDir, deadLetters: core.redelivery, report });
    stack.push(() => control.stop());
    core.redelivery.start();
    state.ready = true;
    const stop = onlyOnce(async () => {
      state.ready = false;
      const left = await drain({
        ...core,
        clock: systemClock,
        options: { ...running.options },
        stopAccepting: () => doors.stopAccepting(),
      });
      if (left > 0) log.warn({ count: left }, "shutdown deadline passed: the journal keeps what is undelivered");
      await stack.unwind();
    });
    const reload = (next: Config) => reloadGateway(next, { running, core, doors, log });
    const { port } = doors;
    return { url: formatUrl(config, port), port, accessKeys: keys, keyFile, registry: core.registry, reload, stop };
  } catch (error) {
    await stack.unwind().catch((fault) => report.fault("stop", fault));
    throw error;
  }
}

/** What has been started, to be stopped in the opposite order. */
class StopStack {
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

/** Makes every call after the first return the first one's promise. */
function onlyOnce(action: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | null = null;
  return () => {
    done ??= action();
    return done;
  };
}

function findKeys({ accessKeys, dataDir }: Config): { keys: AccessKeys; keyFile: string | null } {
  const { primary, secondary } = accessKeys;
  if (primary !== null) return { keys: { primary, secondary }, keyFile: null };
  const kept = readOrMakeKey(dataDir);
  return { keys: { primary: kept.key, secondary: null }, keyFile: kept.path };
}

/** What follows from a configuration alone. */
function readConfig(config: Config, log: Logger): Omit<Running, "keys"> {
  return {
    config,
    publicHosts: publicHosts(config),
    trustedProxies: new TrustedProxies(config.trustedProxies),
    options: { ...collectLiveOptions(config), maxConnections: fitConnections(config, log) },
  };
}

function reloadGateway(
  next: Config,
  { running, core, doors, log }: { running: Running; core: Core; doors: Doors; log: Logger },
): readonly string[] {
  const changed = listFixedChanges(running.config, next);
  const config = keepFixedOptions(running.config, next);
  const { keys } = findKeys(config);
  const { options, ...read } = readConfig(config, log);
  // The one step that can fail comes first.
  core.upstream.reload(config.upstreams, {
    maxResponseBytes: options.maxResponseBytes,
    allowedUpstreamHosts: config.allowedUpstreamHosts,
  });
  Object.assign(running, read, { keys });
  Object.assign(running.options, options);
  core.admission.reconfigure();
  core.lifecycle.reconfigure();
  core.redelivery.reroute();
  doors.reconfigure();
  return changed;
}

/** The parts of the core, wired. */
interface Core {
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
  /** Set once the listener is open; nothing can be published before. */
  doors: Doors | null;
}

async function buildCore(
  running: Running,
  { log, report, stack }: { log: Logger; report: LogReport; stack: StopStack },
): Promise<Core> {
  const { config, options } = running;
  const clock = systemClock;
  const timeOfDayMs = Date.now;
  const late: { redelivery: Redelivery | null } = { redelivery: null };
  const journal = await openJournal(config, report, () => late.redelivery?.start());
  stack.push(() => journal.close());
  const store = new SqliteRuleStore({
    dataDir: config.dataDir,
    onDamaged: (movedTo, reason) => log.error({ movedTo, reason }, "group rules damaged: moved aside"),
  });
  stack.push(() => store.close());
  const registry = new Registry();
  const outstanding = new Outstanding();
  // These know each other: closing goes to the lifecycle, and the lifecycle asks the others.
  const close = (connection: Connection, cause: CloseCause) => lifecycle.close(connection, cause);
  const pressure: Pressure = new Pressure({ options, registry, clock, close });
  const upstream = buildUpstream(running, pressure, report);
  stack.push(() => upstream.stop());
  const redelivery = new Redelivery({ options, upstream, journal, clock, timeOfDayMs, random: Math.random, report });
  late.redelivery = redelivery;
  const departure = new Departure({ upstream, journal, redelivery, outstanding, clock, timeOfDayMs, report });
  const onExpired = (hub: string, name: string, group: string) => {
    const asked = broker.ask({ verb: "leave", target: { kind: "user", hub, name }, group }, "every-node");
    asked.catch((error) => report.fault("group rules", error));
  };
  const rules: GroupRules = new GroupRules({ store, clock, timeOfDayMs, report, onExpired });
  const rulesOf = (hub: string, userId: string) => rules.groupsOf(hub, userId);
  const membership = new Membership({ registry, options, rulesOf });
  const common = { options, upstream, journal, registry, membership, pressure, departure, outstanding, clock, report };
  const admission = new Admission(common);
  const lifecycle: Lifecycle = new Lifecycle(common);
  const fanout: Fanout = { publish: (topic, frame) => core.doors?.publish(topic, frame) };
  const broker = new MemoryBroker(new Deliver({ registry, membership, pressure, close, fanout }));
  for (const part of [admission, lifecycle, pressure, rules, redelivery]) stack.push(() => part.stop());
  const core: Core = { ...common, redelivery, admission, lifecycle, rules, broker, doors: null };
  return core;
}

function buildUpstream(running: Running, pressure: Pressure, report: LogReport) {
  return createUpstream({
    entries: running.config.upstreams,
    allowedUpstreamHosts: running.config.allowedUpstreamHosts,
    keys: () => running.keys,
    maxResponseBytes: running.options.maxResponseBytes,
    userAgent: `hubwire/${packageJson.version}`,
    env: process.env,
    clock: systemClock,
    report,
    hold: (byteCount) => pressure.hold(byteCount),
  });
}

/** Opens the journal; what an earlier process left behind is due from here on. */
async function openJournal(
  { dataDir, journal: { synchronous } }: Config,
  report: LogReport,
  onWritable: () => void,
): Promise<Journal> {
  const journal = await SqliteJournal.open({
    dataDir,
    synchronous,
    report: {
      ...report.journal,
      writable: () => {
        report.journal.writable();
        onWritable();
      },
    },
  });
  const count = await journal.recover(CLOSE.gatewayRestarted, Date.now());
  if (count > 0) report.recovered(count);
  return journal;
}

function publicHosts(config: Config): readonly string[] | null {
  const hosts = config.publicUrls.map(hostOf).filter((host) => host !== null);
  return hosts.length === 0 ? null : hosts;
}

/** What the listener hands requests and sockets to. */
function wireDoors(running: Running, core: Core, report: LogReport, state: { readonly ready: boolean }): ListenerParts {
  const api = buildApi(running, core, report);
  return {
    upgrade: buildUpgrade(running, core.admission, report),
    lifecycle: core.lifecycle,
    report,
    route: (call: PlainRequest) =>
      call.path.replace(/\/$/, "") === HEALTH_PATH
        ? answerHealth(call.request.method, state.ready && core.journal.isWritable)
        : api.handle(call),
  };
}

function buildApi(running: Running, { broker, rules, pressure }: Core, report: Report): RestApi {
  return new RestApi(
    {
      get publicHosts() {
        return running.publicHosts;
      },
      accessKeys: () => running.keys,
      get maxMessageBytes() {
        return running.options.maxMessageBytes;
      },
    },
    { broker, rules, pressure, report, tokens: new RestTokens(), clock: systemClock },
  );
}

function buildUpgrade(running: Running, admission: Admission, report: Report): Upgrade {
  return new Upgrade(
    {
      hubConfig: (hub) => hubConfig(running.config, hub),
      get publicHosts() {
        return running.publicHosts;
      },
      accessKeys: () => running.keys,
      get trustedProxies() {
        return running.trustedProxies;
      },
      get clientCertHeader() {
        return running.config.clientCertHeader;
      },
      newConnectionId: () => randomBytes(CONNECTION_ID_BYTES).toString("base64url"),
    },
    admission,
    report,
  );
}

function fitConnections({ limits, upstreams, listen: { tls } }: Config, log: Logger): number {
  const upstreamCalls = upstreams.reduce((sum, entry) => sum + entry.maxConcurrency, 0);
  const perConnection = tls !== null && tls.clientCert !== "none" ? 3 : 1;
  const fitting = fittingConnections(limits.maxConnections, { perConnection, upstreamCalls });
  if (fitting < limits.maxConnections) {
    const wanted = limits.maxConnections;
    log.warn(
      { wanted, fitting },
      "limits.maxConnections lowered to what the file limit allows: raise it with ulimit -n",
    );
  }
  return fitting;
}

function formatUrl({ listen: { host, tls } }: Config, port: number): string {
  const reachable = host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host;
  const name = reachable.includes(":") ? `[${reachable}]` : reachable;
  return `${tls === null ? "http" : "https"}://${name}:${port}`;
}
