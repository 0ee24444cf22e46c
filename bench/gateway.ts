import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ready } from "../test/support/cluster.ts";
import { CommandGateway } from "../test/support/command-gateway.ts";
import { KEYS } from "../test/support/gateway.ts";
import { secondsFromNow, signToken } from "../test/support/tokens.ts";
import type { Nginx } from "./nginx.ts";
import type { Bench } from "./row.ts";

/** Clock ticks of /proc in a second; 100 on every Linux that runs Bun. */
const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4096;

/**
 * The bench's gateway as a user runs it: journal, log and metrics on, and every limit set, to ten times the load or more. Started
 * without the launcher, but with its settings.
 *
 * Shape: keys of `config` replace those that all have.
 */
export async function startBenchGateway(
  { repository }: Pick<Bench, "repository">,
  backend: Nginx,
  config: Readonly<Record<string, unknown>> = {},
  env: Readonly<Record<string, string>> = {},
): Promise<CommandGateway> {
  const gateway = await CommandGateway.start({
    through: "bun",
    env: { ...(await launcherSettings(repository)), ...env },
    repository,
    config: {
      accessKeys: KEYS,
      upstreams: [{ urlTemplate: `http://127.0.0.1:${backend.port}/{event}`, maxConcurrency: 1024 }],
      limits: {
        connectsPerSecondPerAddress: 500_000,
        messagesPerSecond: 500_000,
        bytesPerSecond: 1_000_000_000,
      },
      shutdown: { spreadMs: 0, drainTimeoutMs: 5000 },
      ...config,
    },
  });
  await ready(gateway.port);
  return gateway;
}

/** What the launcher of a checkout starts Bun with: an older one has no settings. */
async function launcherSettings(repository: string): Promise<Record<string, string>> {
  const file = join(repository, "bin", "bun-settings.mjs");
  if (!existsSync(file)) return {};
  const { BUN_SETTINGS } = (await import(file)) as { BUN_SETTINGS: Record<string, string> };
  return BUN_SETTINGS;
}

/** A POST of text, so many bytes: of a peer to the backend like a gateway's, or to a peer like a backend's. */
export function messageRequest(port: number, byteCount: number, path = "/plain"): string {
  return [
    `POST ${path} HTTP/1.1`,
    `Host: 127.0.0.1:${port}`,
    "Content-Type: text/plain; charset=utf-8",
    `Content-Length: ${byteCount}`,
    "",
    "a".repeat(byteCount),
  ].join("\r\n");
}

/** Requests of a backend to the REST API of a gateway, one for each target below `/ws/api/hubs/_default`. */
export function sendRequests(port: number, targets: readonly string[], byteCount = 64): string[] {
  const body = "a".repeat(byteCount);
  return targets.map((target) => {
    const path = `/ws/api/hubs/_default${target}/messages`;
    const claims = { aud: `http://127.0.0.1:${port}${path}`, exp: secondsFromNow(3600) };
    return [
      `POST ${path} HTTP/1.1`,
      `Host: 127.0.0.1:${port}`,
      `Authorization: Bearer ${signToken(claims, { key: KEYS.primary })}`,
      "Content-Type: text/plain",
      `Content-Length: ${byteCount}`,
      "",
      body,
    ].join("\r\n");
  });
}

/** Seconds of CPU that a process has used, its own and the system's for it. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Bytes of memory that a process has in use. */
export function residentBytes(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]) * PAGE_BYTES;
}
