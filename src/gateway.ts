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
import { Admission } from "./core/admission.ts";
import type { Connection } from "./core/connection.ts";
import { Deliver } from "./core/deliver.ts";
import { Departure } from "./core/departure.ts";
import { drain } from "./core/drain.ts";
import { GroupRules } from "./core/group-rules.ts";
import { Lifecycle } from "./core/lifecycle.ts";
import { Membership } from "./core/membership.ts";
import { Outstanding } from "./core/outstanding.ts";
import type { Broker, Fanout, Report, RuleStore, Upstream } from "./core/ports.ts";
import { Pressure } from "./core/pressure.ts";
import { Registry } from "./core/registry.ts";
import { createLogReport } from "./observe/log.ts";
import type { CloseCause } from "./protocol/close-causes.ts";
import { SqliteRuleStore } from "./rules/sqlite.ts";
import { TrustedProxies } from "./sockets/addresses.ts";
import { fittingConnections } from "./sockets/file-limit.ts";
import { type Listener, type ListenerParts, listen, type PlainRequest } from "./sockets/listener.ts";
import { startTlsFront, type TlsFront } from "./sockets/tls-front.ts";
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
  /** For tests and, later, the REST API: who is connected. */
  readonly registry: Registry;
  /** Stops accepting, closes every connection with 1001, sends every disconnect event. May be called twice. */
  stop(): Promise<void>;
}

/**
 * Builds the gateway's parts, wires them and opens the listener. The only place that does.
 *
 * Errors: throws where the port, a certificate, the data folder or an upstream entry cannot be used.
 */
export async function startGateway(config: Config, { log }: { log: Logger }): Promise<Gateway> {
  const report = createLogReport(log);
  const { keys, keyFile } = findKeys(config);
  const upstream = createUpstream({
    entries: config.upstreams,
    keys: () => keys,
    maxResponseBytes: config.limits.maxResponseBytes,
    userAgent: `hubwire/${packageJson.version}`,
    env: process.env,
    clock: systemClock,
    report,
    hold: (byteCount) => core.pressure.hold(byteCount),
  });
  const store = new SqliteRuleStore({
    dataDir: config.dataDir,
    onDamaged: (movedTo, reason) => log.error({ movedTo, reason }, "group rules damaged: moved aside"),
  });
  const core: Core = buildCore(config, { upstream, report, store, maxConnections: fitConnections(config, log) });
  const stopParts = async () => {
    core.stop();
    store.close();
    await upstream.stop();
  };
  let ready = false;
  const api = buildApi(config, keys, core, report);
  const route = (call: PlainRequest) =>
    call.path.replace(/\/$/, "") === HEALTH_PATH ? answerHealth(call.request.method, ready) : api.handle(call);
  try {
    const upgrade = buildUpgrade(config, keys, core.admission, report);
    core.doors = openDoors(config, { upgrade, report, route, lifecycle: core.lifecycle });
  } catch (error) {
    await stopParts();
    throw error;
  }
  const { doors } = core;
  ready = true;
  const stop = onlyOnce(async () => {
    ready = false;
    doors.stopAccepting();
    const left = await drain({ ...core, clock: systemClock, drainTimeoutMs: config.shutdown.drainTimeoutMs });
    if (left > 0) log.error({ count: left }, "shutdown deadline passed: disconnect events were not delivered");
    await doors.stop();
    await stopParts();
  });
  const { port } = doors;
  return { url: formatUrl(config, port), port, accessKeys: keys, keyFile, registry: core.registry, stop };
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

/** The parts of the core, wired. */
interface Core {
  readonly registry: Registry;
  readonly outstanding: Outstanding;
  readonly admission: Admission;
  readonly lifecycle: Lifecycle;
  readonly pressure: Pressure;
  readonly broker: Broker;
  readonly rules: GroupRules;
  /** Set once the listener is open; nothing can be published before. */
  doors: Doors | null;
  stop(): void;
}

function buildCore(
  config: Config,
  parts: { upstream: Upstream; report: Report; store: RuleStore; maxConnections: number },
): Core {
  const { upstream, report, store, maxConnections } = parts;
  const clock = systemClock;
  const registry = new Registry();
  const outstanding = new Outstanding();
  const departure = new Departure({ upstream, outstanding, report });
  // These know each other: closing goes to the lifecycle, and the lifecycle asks the others.
  const close = (connection: Connection, cause: CloseCause) => lifecycle.close(connection, cause);
  const pressure = new Pressure({ options: config.limits, registry, clock, close });
  const rules: GroupRules = new GroupRules({
    store,
    clock,
    timeOfDayMs: Date.now,
    report,
    onExpired: (hub, name, group) => {
      const asked = broker.ask({ verb: "leave", target: { kind: "user", hub, name }, group }, "every-node");
      asked.catch((error) => report.fault("group rules", error));
    },
  });
  const rulesOf = (hub: string, userId: string) => rules.groupsOf(hub, userId);
  const membership = new Membership({ registry, options: config.limits, rulesOf });
  const common = { upstream, registry, membership, pressure, departure, clock, report };
  const admission = new Admission({ ...common, outstanding, options: { ...config.limits, maxConnections } });
  const lifecycle: Lifecycle = new Lifecycle({ ...common, options: { ...config.limits, ...config.websocket } });
  const fanout: Fanout = { publish: (topic, frame) => core.doors?.publish(topic, frame) };
  const broker = new MemoryBroker(new Deliver({ registry, membership, pressure, close, fanout }));
  const core: Core = {
    registry,
    outstanding,
    admission,
    lifecycle,
    pressure,
    rules,
    broker,
    doors: null,
    stop() {
      for (const part of [admission, lifecycle, pressure, rules]) part.stop();
    },
  };
  return core;
}

function publicHosts(config: Config): readonly string[] | null {
  const hosts = config.publicUrls.map(hostOf).filter((host) => host !== null);
  return hosts.length === 0 ? null : hosts;
}

function buildApi(config: Config, keys: AccessKeys, { broker, rules, pressure }: Core, report: Report): RestApi {
  const { maxMessageBytes } = config.limits;
  return new RestApi(
    { publicHosts: publicHosts(config), accessKeys: () => keys, maxMessageBytes },
    { broker, rules, pressure, report, tokens: new RestTokens(), clock: systemClock },
  );
}

function buildUpgrade(config: Config, keys: AccessKeys, admission: Admission, report: Report): Upgrade {
  return new Upgrade(
    {
      hubConfig: (hub) => hubConfig(config, hub),
      publicHosts: publicHosts(config),
      accessKeys: () => keys,
      trustedProxies: new TrustedProxies(config.trustedProxies),
      clientCertHeader: config.clientCertHeader,
      newConnectionId: () => randomBytes(CONNECTION_ID_BYTES).toString("base64url"),
    },
    admission,
    report,
  );
}

type Doors = Pick<Listener, "port" | "publish" | "stopAccepting" | "stop">;

/** The public listener, or the TLS front and the listener behind it. */
function openDoors(config: Config, wired: ListenerParts): Doors {
  const { host, port, reusePort, tls } = config.listen;
  const { maxMessageBytes, maxOutboxBytes } = config.limits;
  const common = { compression: config.websocket.compression, maxMessageBytes, maxOutboxBytes };
  if (tls === null || tls.clientCaFile === null || tls.clientCert === "none") {
    const files = tls === null ? null : { cert: Bun.file(tls.certFile), key: Bun.file(tls.keyFile) };
    return listen({ ...common, host, port, reusePort, tls: files, peerBehind: null }, wired);
  }
  const { certFile, keyFile, clientCaFile, clientCert } = tls;
  let front: TlsFront | null = null;
  const inner = listen(
    {
      ...common,
      host: "127.0.0.1",
      port: 0,
      reusePort: false,
      tls: null,
      peerBehind: (peerPort) => front?.peerBehind(peerPort) ?? null,
    },
    wired,
  );
  const innerPort = () => inner.port;
  let opened: TlsFront;
  try {
    opened = startTlsFront({ host, port, certFile, keyFile, clientCaFile, clientCert, innerPort }, wired.report);
  } catch (error) {
    void inner.stop();
    throw error;
  }
  front = opened;
  return {
    port: opened.port,
    publish: (topic, frame) => inner.publish(topic, frame),
    stopAccepting: () => opened.stopAccepting(),
    stop: async () => {
      await inner.stop();
      opened.stop();
    },
  };
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
