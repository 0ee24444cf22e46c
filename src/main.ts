import { randomBytes } from "node:crypto";
import { constants } from "node:os";
import { join } from "node:path";
import packageJson from "../package.json" with { type: "json" };
import { findDataDirWarnings } from "./auth/data-dir-warnings.ts";
import { readKeptKey, readOrMakeKeys } from "./auth/key-file.ts";
import {
  type Command,
  type DeadLettersCommand,
  type GatewayChoice,
  parseArgs,
  type RemoteCommand,
  type TokenPlace,
  UsageError,
} from "./command/args.ts";
import { type GatewayAccess, parseConnectionString } from "./command/connection-string.ts";
import type { ExampleBackend } from "./command/example.ts";
import { watchLauncher } from "./command/launcher-watch.ts";
import { ConfigError } from "./config/faults.ts";
import { type ApiAddress, apiAddress, clientsUrl, describeListeners, listenerUrl } from "./config/listener-urls.ts";
import { type ConfigSources, loadConfig } from "./config/load.ts";
import type { Config } from "./config/schema.ts";
import { type Gateway, startGateway } from "./gateway/gateway.ts";
import { ConfigReload } from "./gateway/reload.ts";
import { systemClock } from "./gateway/system-clock.ts";
import { endWithSentence, ProcessOutput } from "./observe/process-output.ts";
import { ClientPaths } from "./protocol/client-paths.ts";
import { fitFileLimit } from "./sockets/file-limit.ts";

/** The command line or the configuration cannot be used. Chosen by hubwire: sysexits.h has no such code. */
const EXIT_USAGE = 2;
const EXIT_FAILURE = 1;

/** A signal that comes again this soon may be the same one, by another way. Below the launcher's bound of a second. */
const SAME_SIGNAL_MS = 500;

/** Where the example's backend listens unless `EXAMPLE_PORT` says otherwise; its `hubwire.yaml` names the same. */
const DEFAULT_EXAMPLE_PORT = "7071";

type Start = Extract<Command, { name: "start" }>;

/** What a gateway alone does not need is loaded where it is used: every file costs its start a third of a millisecond. */
async function run(command: Command): Promise<void> {
  switch (command.name) {
    case "start":
      if (command.processes !== null) return startProcesses(command, command.processes);
      return command.example === null || command.configFile !== null ? startAlone(command) : startWithExample(command);
    case "check": {
      const { config, warnings, filePath } = loadConfig(sourcesOf(command));
      const ofConfig = [...warnings, ...findDataDirWarnings(config.dataDir), ...fitFileLimit(config).warnings];
      for (const warning of [...ofConfig, ...(await findNatsWarnings(config))]) console.log(`warning: ${warning}`);
      for (const line of describeListeners(config)) console.log(line);
      console.log(`${filePath ?? "The configuration"} is good.`);
      return;
    }
    case "token":
      return printToken(command);
    case "send":
    case "exists":
    case "close":
      return callGateway(command);
    case "dead-letters list":
    case "dead-letters retry":
    case "dead-letters drop":
      return askProcess(command);
    case "version":
      console.log(`hubwire ${packageJson.version} (Bun ${Bun.version})`);
      return;
    case "help":
      console.log(command.text);
  }
}

/** Asks the servers for their versions, where they can be reached. */
async function findNatsWarnings({ cluster }: Config): Promise<string[]> {
  if (cluster === null) return [];
  const { findUnsafeServers } = await import("./nats/server-version.ts");
  return await findUnsafeServers(cluster.nats.servers);
}

function sourcesOf(command: { configFile: string | null; flags?: Readonly<Record<string, string>> }): ConfigSources {
  const { configFile, flags = {} } = command;
  return { env: process.env, flags, ...(configFile === null ? {} : { filePath: configFile }) };
}

async function startAlone(command: Start): Promise<void> {
  const { gateway, output } = await serve(sourcesOf(command), []);
  const source = gateway.keyFile === null ? "the key is the configuration's" : `the key is in ${gateway.keyFile}`;
  printListeners((line) => output.print(line), gateway.url, gateway.apiUrl);
  output.print(`connection string: ${formatConnectionString(gateway, "***")} (${source})`);
}

/** Several gateways that share the port, each in a process of its own. This process only watches them. */
async function startProcesses(command: Start, count: number): Promise<void> {
  const { findUnusedData, Processes, sharingFault, startWords } = await import("./command/processes.ts");
  const { config, filePath } = loadConfig(sourcesOf(command));
  const fault = sharingFault(config);
  if (fault !== null) throw new UsageError(`hubwire start --processes ${fault}`);
  // Each process has the same limit: one sentence now, not one for each process and each of its starts.
  fitFileLimit(config);
  const { dataDir, listen } = config;
  const apiUrl = listen.api === null ? null : listenerUrl(listen.tls, listen.api.host, listen.api.port);
  const output = new ProcessOutput({ maxLogBufferBytes: config.limits.maxLogBufferBytes, clock: systemClock });
  const { log } = output;
  output.takeAll();
  // Of the folder that holds those of the processes: each looks at its own only.
  for (const warning of findDataDirWarnings(dataDir)) log.warn(warning);
  const unused = findUnusedData(dataDir, count);
  if (unused.length > 0) {
    log.warn(
      { dataDir, unused },
      "data of an earlier run is not used by any process: it may hold owed disconnect events",
    );
  }
  const program = [process.execPath, ...process.execArgv, Bun.main];
  const processes = new Processes({
    count,
    commandOf: (index) => [...program, ...startWords({ dataDir, filePath, flags: command.flags }, index)],
    onListening: (url) => printListeners((line) => output.print(line), `${url} with ${count} processes`, apiUrl),
    clock: systemClock,
    log,
  });
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => processes.signal(signal));
  watchLauncher(() => processes.signal("SIGTERM"));
  processes.start();
  await output.end(await processes.ended);
}

/** The gateway with an example next to it. Its key is made for this run, so it may be printed. */
async function startWithExample(command: Start): Promise<void> {
  const { exampleFolder, startExample } = await import("./command/example.ts");
  const name = command.example ?? "";
  const port = process.env["EXAMPLE_PORT"] ?? DEFAULT_EXAMPLE_PORT;
  const upstreams = [{ urlTemplate: `http://127.0.0.1:${port}/{hub}/api/{event}` }];
  const ownKey = process.env["HUBWIRE_ACCESS_KEYS_PRIMARY"] === undefined && !("access-keys-primary" in command.flags);
  const flags = {
    upstreams: JSON.stringify(upstreams),
    ...(ownKey ? { "access-keys-primary": randomBytes(32).toString("base64") } : {}),
    ...command.flags,
  };
  const examples: ExampleBackend[] = [];
  const configFile = join(exampleFolder(name), "hubwire.yaml");
  const { gateway, stop, output } = await serve(sourcesOf({ configFile, flags }), examples);
  const env = {
    PORT: port,
    HUBWIRE_URL: gateway.url,
    HUBWIRE_CONNECTION_STRING: formatConnectionString(gateway, gateway.accessKeys.primary),
  };
  const example = startExample(name, env, (bytes) => output.pass(bytes));
  // Before it is waited for: a signal that comes in between must end it too.
  examples.push(example);
  let page: string;
  try {
    page = await example.url;
  } catch (error) {
    await stop();
    throw error;
  }
  printListeners((line) => output.print(line), gateway.url, gateway.apiUrl);
  output.print(`connection string: ${formatConnectionString(gateway, ownKey ? gateway.accessKeys.primary : "***")}`);
  output.print(`Open ${page} in two browser tabs.`);
}

/** Starts a gateway that reloads and ends with the process's signals, and the examples after it. */
async function serve(
  sources: ConfigSources,
  examples: readonly ExampleBackend[],
): Promise<{ gateway: Gateway; stop: () => Promise<void>; output: ProcessOutput }> {
  const loaded = loadConfig(sources);
  const { maxLogBufferBytes } = loaded.config.limits;
  const output = new ProcessOutput({ index: process.env["HUBWIRE_PROCESS"], maxLogBufferBytes, clock: systemClock });
  const { log } = output;
  for (const warning of [...loaded.warnings, ...findDataDirWarnings(loaded.config.dataDir)]) log.warn(warning);
  output.takeAll();
  const reload = new ConfigReload(sources, loaded, log);
  // Before the gateway starts, which may take seconds: without a handler it would end the process.
  process.on("SIGHUP", () => reload.ask("SIGHUP"));
  const gateway = await startGateway(loaded.config, { log });
  reload.start({
    reload(config) {
      const atNextStart = gateway.reload(config);
      output.maxLogBufferBytes = config.limits.maxLogBufferBytes;
      return atNextStart;
    },
  });
  const stop = async () => {
    reload.stop();
    await gateway.stop();
    for (const example of examples) await example.stop();
  };
  const end = (why: string) => {
    log.info({ why }, "stopping");
    stop().then(
      () => output.end(0),
      (error: unknown) => {
        output.fault(error);
        return output.end(EXIT_FAILURE);
      },
    );
  };
  endOnSignals(end, (exitCode) => {
    // Sends them the signal at once; nobody is left to wait.
    for (const example of examples) void example.stop();
    void output.end(exitCode);
  });
  watchLauncher(() => end("the launcher is gone"));
  const { url, apiUrl } = gateway;
  log.info({ url, ...(apiUrl === null ? {} : { apiUrl }), version: packageJson.version }, "listening");
  return { gateway, stop, output };
}

/**
 * The first signal to end lets the process finish, the second does not: the journal keeps what is undelivered then.
 *
 * Under the launcher the same signal may come twice, from it and from a service manager that signals all processes of a service (systemd does):
 * within half a second it is one. Without it every signal counts.
 */
function endOnSignals(end: (signal: string) => void, endAtOnce: (exitCode: number) => void): void {
  const sameSignalMs = process.env["HUBWIRE_LAUNCHER_PID"] === undefined ? 0 : SAME_SIGNAL_MS;
  let first: { readonly signal: string; readonly atMs: number } | null = null;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      const atMs = performance.now();
      if (first === null) {
        first = { signal, atMs };
        end(signal);
      } else if (signal !== first.signal || atMs - first.atMs >= sameSignalMs) {
        endAtOnce(128 + constants.signals[signal]);
      }
    });
  }
}

/** Prints where clients and backends connect. src/processes.ts reads the first line. */
function printListeners(print: (line: string) => void, url: string, apiUrl: string | null): void {
  print(`hubwire listens on ${url}`);
  if (apiUrl !== null) print(`the REST API is at ${apiUrl}`);
}

/** Names where the REST API is, since that is what callers need. */
function formatConnectionString({ url, apiUrl }: Gateway, key: string): string {
  return `Endpoint=${apiUrl ?? url};AccessKey=${key};Version=1.0;`;
}

async function printToken(command: Extract<Command, { name: "token" }>): Promise<void> {
  const { configFile, user, ttlSeconds } = command;
  const { config } = loadConfig(sourcesOf({ configFile }));
  const key = config.accessKeys.primary ?? readOrMakeKeys(config.dataDir).keys.primary;
  const url = clientsUrl(config);
  if (url === null) {
    throw new UsageError("listen.port is 0, so the URL for clients is unknown: set publicUrls");
  }
  const endpoint = url + clientPathFor(command, config);
  const { makeClientToken } = await import("./auth/make-token.ts");
  const token = await makeClientToken(key, { audience: endpoint, userId: user, ttlSeconds });
  console.log(`${endpoint.replace(/^http/, "ws")}?access_token=${token}`);
}

/** The path of the URL that a token is for. */
function clientPathFor({ hub, path }: TokenPlace, { paths }: Config): string {
  if (path === null) return `/ws/client/hubs/${encodeURIComponent(hub)}`;
  const isWhole = URL.parse(path, "http://host")?.pathname === path;
  if (isWhole && new ClientPaths(paths).hubOf(path) !== null) return path;
  throw new UsageError(
    "--path must match a pattern of `paths` in the configuration, without a query, and with escapes where a URL has them.",
  );
}

/** Runs a command over the REST API; its exit code is the answer. */
async function callGateway(command: RemoteCommand): Promise<void> {
  const access = findGateway(command.gateway);
  const { hostname } = new URL(access.endpoint);
  // Bun would ask a proxy for this machine's own address, which means another machine there.
  if (isLoopback(hostname)) process.env["NO_PROXY"] = hostname;
  const { runRemote } = await import("./command/remote.ts");
  const outcome = await runRemote(command, access);
  if (outcome.kind === "failed") throw new Error(outcome.sentence);
  if (command.name === "exists") console.log(outcome.kind === "done" ? "yes" : "no");
  if (outcome.kind === "no") process.exitCode = EXIT_FAILURE;
}

/** Runs a command against the process at work in the configured data folder. */
async function askProcess(command: DeadLettersCommand): Promise<void> {
  const { dataDir } = loadConfig(sourcesOf(command)).config;
  const { runDeadLetters } = await import("./command/dead-letters.ts");
  const missing = await runDeadLetters(command, dataDir, (line) => console.log(line));
  for (const id of missing) console.error(`hubwire: there is no dead letter of connection ${id}`);
  if (missing.length > 0) process.exitCode = EXIT_FAILURE;
}

/** The gateway that the command line, the environment or the configuration means, in this order. */
function findGateway({ connectionString, configFile }: GatewayChoice): GatewayAccess {
  const fromEnvironment = configFile === null ? (process.env["HUBWIRE_CONNECTION_STRING"] ?? "") : "";
  const text = connectionString ?? fromEnvironment;
  if (connectionString === null && text === "") return describedGateway(configFile);
  const parsed = parseConnectionString(text);
  if (!("fault" in parsed)) return parsed;
  const source = connectionString === null ? "HUBWIRE_CONNECTION_STRING" : "--connection-string";
  throw new UsageError(`${source} ${parsed.fault}.`);
}

function describedGateway(configFile: string | null): GatewayAccess {
  const { config } = loadConfig(sourcesOf({ configFile }));
  const accessKey = config.accessKeys.primary ?? readKeptKey(config.dataDir)?.key;
  if (accessKey !== undefined) return { ...findApi(config), accessKey };
  throw new UsageError(
    `which gateway? Give --connection-string, HUBWIRE_CONNECTION_STRING or --config: there is no access key in ${config.dataDir}`,
  );
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(?:\.\d+){3}$/.test(hostname);
}

/** Where the REST API is of the gateway that this configuration describes. */
function findApi(config: Config): ApiAddress {
  const address = apiAddress(config);
  if (address !== null) return address;
  const { api } = config.listen;
  const advice = api === null ? "set publicUrls" : "give --connection-string";
  throw new UsageError(
    `${api === null ? "listen.port" : "listen.api.port"} is 0, so the URL of the REST API is unknown: ${advice}`,
  );
}

try {
  await run(parseArgs(process.argv.slice(2)));
} catch (error) {
  if (error instanceof ConfigError || error instanceof UsageError) {
    await endWithSentence(error.message, EXIT_USAGE);
  }
  await endWithSentence(`hubwire: ${error instanceof Error ? error.message : String(error)}`, EXIT_FAILURE);
}
