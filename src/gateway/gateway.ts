import type { Logger } from "pino";
import { startAdminServer } from "../admin/admin-server.ts";
import { deadLetterRoutes } from "../admin/dead-letter-routes.ts";
import { statsRoute } from "../admin/stats-route.ts";
import { answerHealth, isHealthPath } from "../api/health.ts";
import { RestApi } from "../api/rest-api.ts";
import type { AccessKeys } from "../auth/access-keys.ts";
import { hostOf } from "../auth/audience.ts";
import { readOrMakeKeys } from "../auth/key-file.ts";
import { RestTokens } from "../auth/rest-token.ts";
import { listenerUrl } from "../config/listener-urls.ts";
import { hubConfig } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { combineReports } from "../core/combine-reports.ts";
import { drain } from "../core/drain.ts";
import { countNotices, Meters } from "../core/meters.ts";
import type { PlainRequest } from "../core/ports/plain-request.ts";
import type { Registry } from "../core/registry.ts";
import { type DataDirLock, lockDataDir } from "../journal/data-dir-lock.ts";
import { LineSums } from "../observe/line-sums.ts";
import { createLogReport } from "../observe/log.ts";
import { ClientPaths } from "../protocol/client-paths.ts";
import { CLOSE } from "../protocol/close-causes.ts";
import { spellHub } from "../protocol/names.ts";
import type { Report } from "../protocol/notices.ts";
import { findClient, TrustedProxies } from "../sockets/addresses.ts";
import { type Doors, type DoorsParts, openDoors } from "../sockets/doors.ts";
import { fitFileLimit } from "../sockets/file-limit.ts";
import { RelayedAnswers } from "../sockets/relayed-answers.ts";
import { Upgrade } from "../sockets/upgrade.ts";
import { CertificateRenewal } from "./certificate-renewal.ts";
import { DataDirGuard } from "./data-dir-guard.ts";
import { collectLiveOptions, keepFixedOptions, listFixedChanges } from "./live-options.ts";
import { buildLoneNode } from "./lone-node.ts";
import { readStats } from "./stats.ts";
import { systemClock } from "./system-clock.ts";
import { buildCore, type Core, type NodeParts, type Running, StopStack } from "./wiring.ts";

/** A gateway at work. */
export interface Gateway {
  /** Where clients reach it on this machine; backends too, unless the REST API has a listener of its own. */
  readonly url: string;
  readonly port: number;
  /** URL of the REST API's own listener on this machine; null without `listen.api`. */
  readonly apiUrl: string | null;
  readonly accessKeys: AccessKeys;
  /** The file that keeps the access key where the configuration gives none. */
  readonly keyFile: string | null;
  /** For tests: the connections. */
  readonly registry: Registry;
  /**
   * Takes over a new configuration without dropping a connection. Returns the names of options that changed and take effect
   * at the next start only.
   *
   * Errors: throws where an entry of `upstreams` cannot be used; then nothing has changed.
   */
  reload(config: Config): readonly string[];
  /** Accepts no more clients, closes every connection with 1012, sends every disconnect event. May be called twice. */
  stop(): Promise<void>;
}

/**
 * Builds the gateway's parts, wires them and opens the listeners. The only place that does.
 *
 * Errors: throws where the port, a certificate, the data folder or an upstream entry cannot be used.
 */
export async function startGateway(config: Config, { log }: { log: Logger }): Promise<Gateway> {
  const state = { ready: false, hubSpellings: config.hubSpellings, proxies: new TrustedProxies(config.trustedProxies) };
  const spell = (hub: string) => spellHub(hub, state.hubSpellings);
  // In the log a hub is written as upstreams see it, wherever its name comes from.
  const lines = new LineSums(log.child({}, { serializers: { hub: spell } }), systemClock);
  const toLog = createLogReport(lines, { clientOf: (forwardedFor) => findClient(forwardedFor, state.proxies) });
  const meters = new Meters();
  const report = combineReports(toLog, countNotices(meters));
  const stack = new StopStack();
  stack.push(() => lines.stop());
  try {
    const lock = await lockDataDir(config.dataDir);
    stack.push(() => lock.release());
    const { keys, keyFile } = keepKeys(config, { lock, report, stack });
    const running: Running = { ...readConfig(config, log), keys };
    const { node, core } = await buildNode(running, { report, meters, stack, wasUsed: lock.wasUsed });
    await node.start(core);
    const doors = openDoors(config.listen, running.options, wireDoors(running, { node, core, report, state, stack }));
    core.doors = doors;
    stack.push(() => doors.stop());
    const renewal = followCertificates(running, { node, core, doors, report, stack });
    openAdminSocket(config, { node, core, spell, report, stack });
    core.redelivery.start();
    state.ready = true;
    const stop = onlyOnce(async () => {
      state.ready = false;
      // Before the listeners close: a renewed certificate would open one more.
      renewal.stop();
      const left = await drain({
        ...core,
        clock: systemClock,
        options: { ...running.options },
        stopAccepting: () => doors.stopAccepting(),
      });
      if (left > 0) log.warn({ count: left }, "shutdown deadline passed: the journal keeps what is undelivered");
      await stack.unwind();
    });
    const reload = (next: Config) => {
      const changed = reloadGateway(next, { running, core, doors, log });
      renewal.follow(running.config);
      state.hubSpellings = running.config.hubSpellings;
      state.proxies = running.trustedProxies;
      return changed;
    };
    return { ...addressesOf(config, doors), accessKeys: keys, keyFile, registry: core.registry, reload, stop };
  } catch (error) {
    await stack.unwind().catch((fault) => report({ kind: "fault", where: "stop", error: fault }));
    throw error;
  }
}

/** Opens the socket for operators in the data folder. */
function openAdminSocket(
  { dataDir }: Config,
  parts: { node: NodeParts; core: Core; spell: (hub: string) => string; report: Report; stack: StopStack },
): void {
  const { node, core, spell, report, stack } = parts;
  const routes = [...deadLetterRoutes(core.redelivery, spell), statsRoute(() => readStats(node, core))];
  const admin = startAdminServer({ dataDir, routes, report });
  stack.push(() => admin.stop());
}

/** Follows the files of certificates from now on. */
function followCertificates(
  running: Running,
  parts: { node: NodeParts; core: Core; doors: Doors; report: Report; stack: StopStack },
): CertificateRenewal {
  const { node, core, doors, report, stack } = parts;
  const sources = [
    () => doors.renewCertificates(),
    () => core.upstream.renewCertificates(),
    () => node.renewCertificates(),
  ];
  const renewal = new CertificateRenewal({ sources, report });
  renewal.follow(running.config);
  stack.push(() => renewal.stop());
  return renewal;
}

/** Makes every call after the first return the first one's promise. */
function onlyOnce(action: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | null = null;
  return () => {
    done ??= action();
    return done;
  };
}

/** Finds the keys, and from then on keeps their files and the lock where they are. */
function keepKeys(
  config: Config,
  { lock, report, stack }: { lock: DataDirLock; report: Report; stack: StopStack },
): ReturnType<typeof findKeys> {
  const found = findKeys(config);
  const { keyFile } = found;
  const files = keyFile === null ? [] : [keyFile, `${keyFile}-secondary`];
  const guard = new DataDirGuard({ dataDir: config.dataDir, lock, files, report });
  stack.push(() => guard.stop());
  return found;
}

function findKeys({ accessKeys, dataDir }: Config): { keys: AccessKeys; keyFile: string | null } {
  const { primary, secondary } = accessKeys;
  if (primary !== null) return { keys: { primary, secondary }, keyFile: null };
  const { keys, path } = readOrMakeKeys(dataDir);
  return { keys, keyFile: path };
}

/** What follows from a configuration and the file limit alone. Errors: throws where too few connections fit. */
function readConfig(given: Config, log: Logger): Omit<Running, "keys"> {
  const { config, warnings } = fitFileLimit(given);
  for (const warning of warnings) log.warn(warning);
  return {
    config,
    publicHosts: publicHosts(config),
    trustedProxies: new TrustedProxies(config.trustedProxies),
    clientPaths: new ClientPaths(config.paths),
    options: collectLiveOptions(config),
  };
}

function reloadGateway(
  next: Config,
  { running, core, doors, log }: { running: Running; core: Core; doors: Doors; log: Logger },
): readonly string[] {
  const changed = listFixedChanges(running.config, next);
  const config = keepFixedOptions(running.config, next);
  // The key of dataDir is read once: a file that was cut since then holds another one, which may be short enough to guess.
  const isKept = config.accessKeys.primary === null && running.config.accessKeys.primary === null;
  const { keys } = isKept ? running : findKeys(config);
  const { options, ...read } = readConfig(config, log);
  // The steps that can fail come first.
  core.upstream.reload(read.config.upstreams, {
    maxResponseBytes: options.maxResponseBytes,
    allowedUpstreamHosts: config.allowedUpstreamHosts,
    hubSpellings: config.hubSpellings,
  });
  Object.assign(running, read, { keys });
  Object.assign(running.options, options);
  core.admission.reconfigure();
  core.lifecycle.reconfigure();
  core.redelivery.reroute();
  doors.reconfigure();
  return changed;
}

/** Builds journal and core; what an earlier process left behind is due from here on. */
async function buildNode(
  running: Running,
  parts: { report: Report; meters: Meters; stack: StopStack; wasUsed: boolean },
): Promise<{ node: NodeParts; core: Core }> {
  const { config } = running;
  const node = config.cluster === null ? await buildLoneNode(config, parts) : await buildClusterPart(running, parts);
  const count = await node.journal.recover(CLOSE.gatewayRestarted, Date.now());
  if (count > 0) parts.report({ kind: "connections-recovered", count });
  return { node, core: buildCore(running, node, parts) };
}

/** Loads what speaks to NATS where a cluster needs it: a start without one would spend a sixth of its time on that. */
async function buildClusterPart(
  running: Running,
  parts: { report: Report; stack: StopStack; wasUsed: boolean },
): Promise<NodeParts> {
  const { buildClusterNode } = await import("./cluster-node.ts");
  return buildClusterNode(running, parts);
}

function publicHosts(config: Config): readonly string[] | null {
  const hosts = config.publicUrls.map(hostOf).filter((host) => host !== null);
  return hosts.length === 0 ? null : hosts;
}

/** Builds the parts to which the listeners hand requests and sockets. */
function wireDoors(
  running: Running,
  parts: { node: NodeParts; core: Core; report: Report; state: { readonly ready: boolean }; stack: StopStack },
): DoorsParts {
  const { node, core, report, state, stack } = parts;
  const relayed = new RelayedAnswers(core.pressure, systemClock);
  stack.push(() => relayed.stop());
  const isReady = () => state.ready && node.isReady() && core.journal.isWritable;
  const api = buildApi(running, core, report);
  const health = ({ path, request }: PlainRequest) =>
    isHealthPath(path) ? answerHealth(request.method, isReady()) : null;
  const healthAndApi = (call: PlainRequest) => health(call) ?? api.handle(call);
  const upgrade = buildUpgrade(running, { node, core, report, relayed });
  const refuse: Upgrade["refuse"] = (request, peerAddress, refused) => upgrade.refuse(request, peerAddress, refused);
  const common = { lifecycle: core.lifecycle, report, meters: core.meters, refuse };
  // Chosen once, and not by each request's path: so no spelling of a path leads to the API.
  const publicRoute = running.config.listen.api === null ? healthAndApi : health;
  return {
    clients: { ...common, upgrade, route: publicRoute },
    api: { ...common, upgrade: null, route: healthAndApi },
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

function buildUpgrade(
  running: Running,
  { node, core, report, relayed }: { node: NodeParts; core: Core; report: Report; relayed: RelayedAnswers },
): Upgrade {
  return new Upgrade(
    {
      hubConfig: (hub) => hubConfig(running.config, hub),
      get clientPaths() {
        return running.clientPaths;
      },
      get compression() {
        return running.options.compression;
      },
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
      newConnectionId: () => node.newConnectionId(),
    },
    { admission: core.admission, relayed, report },
  );
}

function addressesOf(
  { listen: { host, tls, api } }: Config,
  { port, apiPort }: Doors,
): Pick<Gateway, "url" | "port" | "apiUrl"> {
  const apiUrl = api === null || apiPort === null ? null : listenerUrl(tls, api.host, apiPort);
  return { url: listenerUrl(tls, host, port), port, apiUrl };
}
