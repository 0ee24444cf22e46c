import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CommandGateway } from "../test/support/command-gateway.ts";
import { until } from "../test/support/deadline.ts";
import { KEYS } from "../test/support/gateway.ts";

/** What the load generator prints; see `load.c`. */
export interface LoadResult {
  readonly opened: number;
  readonly failed: number;
  readonly openSeconds: number;
  readonly messages: number;
  readonly seconds: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
}

/** One line of the table. */
export interface RowResult {
  readonly ours: string;
  readonly theirs: string;
  /** Median and, in brackets, the smallest and the largest; empty where nothing is compared. */
  readonly ratio: string;
  readonly lost: string;
  readonly isMet: boolean | null;
}

/** A comparison that `npm run bench` can make. */
export interface Row {
  /** Its name on the command line. */
  readonly name: string;
  readonly what: string;
  readonly target: string;
  readonly run: (tools: Tools) => Promise<RowResult>;
}

/** How long and how often things are measured. */
export interface Effort {
  readonly seconds: number;
  readonly pairs: number;
}

/** Rates ten times what is measured: they cost what they cost, and refuse nobody. */
export const OPEN_LIMITS = {
  messagesPerSecond: 1_000_000,
  bytesPerSecond: 1_000_000_000,
  connectsPerSecondPerAddress: 1_000_000,
};

/** The things under test and around them, started on free ports and ended together. */
export class Tools implements AsyncDisposable {
  readonly effort: Effort;
  readonly #folder = mkdtempSync(join(tmpdir(), "hubwire-bench-"));
  readonly #ends: (() => Promise<unknown>)[] = [];
  readonly #load: string;

  constructor(effort: Effort) {
    this.effort = effort;
    this.#load = join(this.#folder, "load");
    try {
      execFileSync("gcc", ["-O2", "-o", this.#load, join(import.meta.dir, "load.c")], {
        stdio: ["ignore", "ignore", "pipe"],
      });
    } catch (error) {
      throw new Error(`the load generator needs gcc (apt-get install gcc libc6-dev): ${String(error)}`);
    }
  }

  /** Ends something when the bench is over, the last first. */
  onEnd(end: () => Promise<unknown>): void {
    this.#ends.push(end);
  }

  /** Runs the load generator to its end. */
  async load(...words: readonly (string | number)[]): Promise<LoadResult> {
    return await this.startLoad(...words).result;
  }

  /** Starts the load generator; `ready` resolves when all its connections are open, and `end` has it print its result. */
  startLoad(...words: readonly (string | number)[]): {
    ready: Promise<void>;
    result: Promise<LoadResult>;
    end: () => void;
  } {
    const child = spawn(this.#load, words.map(String), { stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    const ready = Promise.withResolvers<void>();
    child.stdout.on("data", (bytes: Buffer) => {
      out += bytes.toString("utf8");
    });
    child.stderr.on("data", () => ready.resolve());
    const result = once(child, "close").then(() => JSON.parse(out) as LoadResult);
    return { ready: ready.promise, result, end: () => void child.kill("SIGTERM") };
  }

  /** nginx with one worker: a backend that answers at once, as `return 200` does; its port. */
  async backend(): Promise<number> {
    const location =
      "location ~ /connect$ { add_header X-ASRS-User-Id u; add_header X-ASRS-Connection-Group g1,g2; return 200; }";
    return await this.#nginx(
      (port) => `server { listen 127.0.0.1:${port}; ${location} location / { return 200 "ok"; } }`,
    );
  }

  /** nginx with one worker in front of a port: one bare HTTP hop in C. */
  async proxy(toPort: number): Promise<number> {
    return await this.#nginx(
      (port) => `upstream b { server 127.0.0.1:${toPort}; keepalive 256; keepalive_requests 100000000; }
        server { listen 127.0.0.1:${port}; location / {
          proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ""; } }`,
    );
  }

  /** A gateway as a user runs it: the journal on, limits on. */
  async gateway(backendPort: number, config: Readonly<Record<string, unknown>> = {}): Promise<CommandGateway> {
    const whole = { ...gatewayConfig(backendPort), ...config };
    const gateway = await CommandGateway.start({ through: "bun", config: whole });
    this.onEnd(() => gateway[Symbol.asyncDispose]());
    return gateway;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of this.#ends.splice(0).reverse()) await end();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #nginx(servers: (port: number) => string): Promise<number> {
    const port = freePort();
    const file = join(this.#folder, `nginx-${port}.conf`);
    writeFileSync(
      file,
      `worker_processes 1; daemon off; pid ${file}.pid; error_log ${file}.log;
      events { worker_connections 8192; }
      http { access_log off; keepalive_requests 100000000; keepalive_timeout 3600; default_type text/plain; ${servers(port)} }`,
    );
    const child: ChildProcess = spawn("nginx", ["-c", file, "-p", this.#folder], {
      stdio: ["ignore", "ignore", "inherit"],
      env: { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin` },
    });
    this.onEnd(async () => {
      child.kill("SIGTERM");
      await once(child, "close");
    });
    await until(async () => (await fetch(`http://127.0.0.1:${port}/`).catch(() => null)) !== null, "nginx");
    return port;
  }
}

/** The configuration of a gateway on a backend of the bench. */
export function gatewayConfig(backendPort: number): Readonly<Record<string, unknown>> {
  return {
    accessKeys: KEYS,
    upstreams: [{ urlTemplate: `http://127.0.0.1:${backendPort}/{hub}/api/{event}` }],
    limits: OPEN_LIMITS,
    shutdown: { spreadMs: 0, drainTimeoutMs: 3000 },
  };
}

/** Processor time that a process has used, user and system, in seconds. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Resident memory of a process in bytes. */
export function rssBytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** A median with its spread. */
export function withSpread(values: readonly number[], format: (value: number) => string): string {
  return `${format(median(values))} (${format(Math.min(...values))}-${format(Math.max(...values))})`;
}

export const perSecond = (value: number): string => `${Math.round(value).toLocaleString("en")}/s`;
export const times = (value: number): string => `${value.toFixed(2)} ×`;

function freePort(): number {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = server;
  server.stop(true);
  return port;
}
