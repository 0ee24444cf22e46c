import { randomBytes } from "node:crypto";
import { join } from "node:path";
import packageJson from "../package.json" with { type: "json" };
import { readOrMakeKey } from "./auth/key-file.ts";
import { makeClientToken } from "./auth/make-token.ts";
import { type Command, parseArgs, SEND_IS_LATER, UsageError } from "./config/args.ts";
import { ConfigError } from "./config/faults.ts";
import { type ConfigSources, loadConfig } from "./config/load.ts";
import type { Config } from "./config/schema.ts";
import { type ExampleBackend, exampleFolder, startExample } from "./example.ts";
import { type Gateway, startGateway } from "./gateway.ts";
import { watchLauncher } from "./launcher-watch.ts";
import { createLog } from "./observe/log.ts";
import { isHubName, isName } from "./protocol/names.ts";

/** The command line or the configuration cannot be used. Source: the issue of the configuration; sysexits has none. */
const EXIT_USAGE = 2;
const EXIT_FAILURE = 1;

/** Where the example's backend listens unless `EXAMPLE_PORT` says otherwise; its `hubwire.yaml` names the same. */
const DEFAULT_EXAMPLE_PORT = "7071";

type Start = Extract<Command, { name: "start" }>;

async function run(command: Command): Promise<void> {
  switch (command.name) {
    case "start":
      return command.example === null || command.configFile !== null ? startAlone(command) : startWithExample(command);
    case "check": {
      const { warnings, filePath } = loadConfig(sourcesOf(command));
      for (const warning of warnings) console.log(`warning: ${warning}`);
      console.log(`${filePath ?? "The configuration"} is good.`);
      return;
    }
    case "token":
      return printToken(command);
    case "send":
      throw new UsageError(SEND_IS_LATER);
    case "version":
      console.log(`hubwire ${packageJson.version} (Bun ${Bun.version})`);
      return;
    case "help":
      console.log(command.text);
  }
}

function sourcesOf(command: { configFile: string | null; flags?: Readonly<Record<string, string>> }): ConfigSources {
  const { configFile, flags = {} } = command;
  return { env: process.env, flags, ...(configFile === null ? {} : { filePath: configFile }) };
}

async function startAlone(command: Start): Promise<void> {
  const { gateway } = await serve(sourcesOf(command), []);
  const source = gateway.keyFile === null ? "the key is the configuration's" : `the key is in ${gateway.keyFile}`;
  console.log(`hubwire listens on ${gateway.url}`);
  console.log(`connection string: ${formatConnectionString(gateway, "***")} (${source})`);
}

/** The gateway with an example beside it. Its key is made for this run, so it may be printed. */
async function startWithExample(command: Start): Promise<void> {
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
  const { gateway, stop } = await serve(sourcesOf({ configFile, flags }), examples);
  const example = startExample(name, {
    PORT: port,
    HUBWIRE_URL: gateway.url,
    HUBWIRE_CONNECTION_STRING: formatConnectionString(gateway, gateway.accessKeys.primary),
  });
  // Before it is waited for: a signal that comes in between must end it too.
  examples.push(example);
  let page: string;
  try {
    page = await example.url;
  } catch (error) {
    await stop();
    throw error;
  }
  console.log(`hubwire listens on ${gateway.url}`);
  console.log(`connection string: ${formatConnectionString(gateway, ownKey ? gateway.accessKeys.primary : "***")}`);
  console.log(`Open ${page} in two browser tabs.`);
}

/** Starts a gateway that ends with the process's signals, and the examples after it. */
async function serve(
  sources: ConfigSources,
  examples: readonly ExampleBackend[],
): Promise<{ gateway: Gateway; stop: () => Promise<void> }> {
  const { config, warnings } = loadConfig(sources);
  const log = createLog();
  for (const warning of warnings) log.warn(warning);
  process.on("unhandledRejection", (error) => log.error({ err: error }, "fault of the service"));
  process.on("uncaughtException", (error) => log.error({ err: error }, "fault of the service"));
  const gateway = await startGateway(config, { log });
  const stop = async () => {
    await gateway.stop();
    for (const example of examples) await example.stop();
  };
  const end = (why: string) => {
    log.info({ why }, "stopping");
    stop().then(
      () => process.exit(0),
      (error: unknown) => {
        log.error({ err: error }, "fault of the service");
        process.exit(EXIT_FAILURE);
      },
    );
  };
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => end(signal));
  watchLauncher(() => end("the launcher is gone"));
  log.info({ url: gateway.url, version: packageJson.version }, "listening");
  return { gateway, stop };
}

function formatConnectionString({ url }: Gateway, key: string): string {
  return `Endpoint=${url};AccessKey=${key};Version=1.0;`;
}

async function printToken({ configFile, hub, user, ttlSeconds }: Extract<Command, { name: "token" }>): Promise<void> {
  if (!isHubName(hub)) throw new UsageError("--hub must be a hub's name: a letter, then letters, digits, _ . , [ ]");
  if (!isName(user)) throw new UsageError("--user must be 1 to 512 bytes, without control characters and outer spaces");
  const { config } = loadConfig(sourcesOf({ configFile }));
  const key = config.accessKeys.primary ?? readOrMakeKey(config.dataDir).key;
  const endpoint = `${publicUrl(config)}/ws/client/hubs/${encodeURIComponent(hub)}`;
  const token = await makeClientToken(key, { audience: endpoint, userId: user, ttlSeconds });
  console.log(`${endpoint.replace(/^http/, "ws")}?access_token=${token}`);
}

/** Where clients reach the gateway that this configuration describes. */
function publicUrl({ publicUrls, listen }: Config): string {
  const [configured] = publicUrls;
  if (configured !== undefined) return configured.replace(/^ws/, "http").replace(/\/+$/, "");
  if (listen.port === 0)
    throw new UsageError("listen.port is 0, so nobody can tell where clients connect: set publicUrls");
  const host = listen.host.includes(":") ? `[${listen.host}]` : listen.host;
  return `${listen.tls === null ? "http" : "https"}://${host}:${listen.port}`;
}

try {
  await run(parseArgs(process.argv.slice(2)));
} catch (error) {
  if (error instanceof ConfigError || error instanceof UsageError) {
    console.error(error.message);
    process.exit(EXIT_USAGE);
  }
  console.error(`hubwire: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(EXIT_FAILURE);
}
