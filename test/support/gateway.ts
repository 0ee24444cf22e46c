import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import { parseConfig } from "../../src/config/load.ts";
import type { Connection } from "../../src/core/connection.ts";
import { startGateway } from "../../src/gateway/gateway.ts";
import { within } from "./deadline.ts";

/** A log line as pino writes it. */
export type LogLine = Readonly<Record<string, unknown>>;

/** A gateway in this process, on a free port of 127.0.0.1. */
export interface TestGateway {
  readonly port: number;
  /** That of the REST API: its own listener's, else the same. */
  readonly apiPort: number;
  readonly url: string;
  /** The ids of the connections in a group: until a REST API can ask, the only way to see a membership. */
  readonly groupMembers: (hub: string, group: string) => string[];
  /** What the core keeps of each open connection. */
  readonly connections: () => Connection[];
  /** All log lines so far. */
  readonly logLines: () => LogLine[];
  /** Resolves with the first line of this message, once it is written. */
  readonly logged: (message: string) => Promise<LogLine>;
  /** Takes over a configuration in which these keys are replaced; returns the names of options that need a restart. */
  readonly reload: (changes: Readonly<Record<string, unknown>>) => readonly string[];
  /** Graceful shutdown; may be called twice. */
  readonly stop: () => Promise<void>;
  /** Shutdown, then the data folder is removed. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** The access keys of every test gateway that names none. */
export const KEYS = {
  primary: "cHJpbWFyeS1rZXktb2YtdGhlLWVuZC10by1lbmQtdGVzdHM=",
  secondary: "c2Vjb25kYXJ5LWtleS1vZi10aGUtZW5kLXRvLWVuZC10ZXN0cw==",
} as const;

/**
 * Starts a gateway from an object in the shape of hubwire.yaml.
 *
 * Every key given replaces the test's default whole; the defaults are a free port, a data folder of its own, `KEYS` and
 * a shorter shutdown.
 */
export async function startTestGateway(config: Readonly<Record<string, unknown>>): Promise<TestGateway> {
  const dataDir = await mkdtemp(join(tmpdir(), "hubwire-gateway-"));
  const written: string[] = [];
  const onLine = new Set<() => void>();
  const write = (line: string): void => {
    written.push(line);
    for (const look of onLine) look();
  };
  const log = pino({ level: "trace" }, { write });
  const whole = {
    listen: { host: "127.0.0.1", port: 0 },
    accessKeys: KEYS,
    dataDir,
    shutdown: { spreadMs: 0, drainTimeoutMs: 8000 },
    ...config,
  };
  const gateway = await startGateway(parseConfig(whole), { log }).catch(async (fault: unknown) => {
    await rm(dataDir, { recursive: true, force: true });
    throw fault;
  });
  const logLines = () => written.map((line) => JSON.parse(line) as LogLine);
  return {
    port: gateway.port,
    apiPort: gateway.apiUrl === null ? gateway.port : Number(new URL(gateway.apiUrl).port),
    url: gateway.url,
    connections: () => [...gateway.registry.all()],
    groupMembers: (hub, group) => [...gateway.registry.group(hub, group)].map(({ connectionId }) => connectionId),
    logLines,
    logged: (message) => {
      const { promise, resolve } = Promise.withResolvers<LogLine>();
      const look = (): void => {
        const line = logLines().find(({ msg }) => msg === message);
        if (line !== undefined) resolve(line);
      };
      onLine.add(look);
      look();
      return within(promise, `the log line "${message}"`).finally(() => onLine.delete(look));
    },
    reload: (changes) => gateway.reload(parseConfig({ ...whole, ...changes })),
    stop: () => gateway.stop(),
    [Symbol.asyncDispose]: async () => {
      await gateway.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
