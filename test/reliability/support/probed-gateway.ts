import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DEADLINE_MS, within } from "../../support/deadline.ts";
import { KEYS } from "../../support/gateway.ts";

/** A hub, or a user or group in it, that must be gone from the indexes. */
export interface IndexName {
  readonly hub: string;
  readonly kind: "hub" | "user" | "group";
  readonly name: string;
}

/** What a gateway's process holds, after garbage collection. */
export interface Probe {
  readonly rssBytes: number;
  /** Live JavaScript objects and what hangs on them. RSS moves in steps of the allocator's; this does not. */
  readonly heapBytes: number;
  readonly descriptors: number;
  readonly connections: number;
  /** Members of the hubs, users and groups that were asked for. */
  readonly indexEntries: number;
  /** All Map and Set objects: an index entry that is empty and was left behind shows here. */
  readonly maps: number;
  readonly sets: number;
  /** Log lines of level error: every one is a bug in hubwire. The first of them follow. */
  readonly faultCount: number;
  readonly faults: readonly string[];
  /** Events that the log says were not delivered, by their name. */
  readonly undelivered: Readonly<Record<string, number>>;
}

export type Order =
  | { readonly kind: "start"; readonly config: Readonly<Record<string, unknown>> }
  | { readonly kind: "probe"; readonly names: readonly IndexName[] }
  | { readonly kind: "cpu" }
  | { readonly kind: "stop" };

export type Report =
  | { readonly kind: "started"; readonly port: number }
  | { readonly kind: "probed"; readonly probe: Probe }
  | { readonly kind: "counted"; readonly cpuMs: number }
  | { readonly kind: "stopped"; readonly faults: readonly string[] };

/**
 * A gateway in a process of its own that tells what it holds: memory, descriptors, connections, index entries.
 *
 * For kill -9 and signals take `startGatewayProcess`, which starts it as users do.
 */
export class ProbedGateway {
  readonly port: number;
  readonly #child: Bun.Subprocess;
  readonly #ask: (order: Order, deadlineMs?: number) => Promise<Report>;
  readonly #dataDir: string;

  private constructor(parts: {
    port: number;
    child: Bun.Subprocess;
    ask: (order: Order, deadlineMs?: number) => Promise<Report>;
    dataDir: string;
  }) {
    this.port = parts.port;
    this.#child = parts.child;
    this.#ask = parts.ask;
    this.#dataDir = parts.dataDir;
  }

  /** `config` in the shape of hubwire.yaml; its keys replace the defaults whole. */
  static async start(config: Readonly<Record<string, unknown>>): Promise<ProbedGateway> {
    const dataDir = await mkdtemp(join(tmpdir(), "hubwire-probed-"));
    let waiting: ((report: Report) => void) | null = null;
    const child = Bun.spawn([process.execPath, join(import.meta.dir, "gateway-child.ts")], {
      stdio: ["ignore", "inherit", "inherit"],
      ipc: (report: Report) => waiting?.(report),
    });
    const ended = child.exited.then((code): never => {
      throw new Error(`the gateway's process ended with ${child.signalCode ?? code}`);
    });
    // Nobody may be waiting when it ends; the next call gets the error.
    ended.catch(() => undefined);
    const ask = (order: Order, deadlineMs = DEADLINE_MS): Promise<Report> => {
      const answer = new Promise<Report>((resolve) => {
        waiting = resolve;
      });
      child.send(order);
      return within(Promise.race([answer, ended]), `the gateway's process to ${order.kind}`, deadlineMs);
    };
    const defaults = { listen: { host: "127.0.0.1", port: 0 }, accessKeys: KEYS, dataDir };
    try {
      const report = await ask({ kind: "start", config: { ...defaults, ...config } });
      if (report.kind !== "started") throw new Error(`expected started, got ${report.kind}`);
      return new ProbedGateway({ port: report.port, child, ask, dataDir });
    } catch (fault) {
      child.kill("SIGKILL");
      await rm(dataDir, { recursive: true, force: true });
      throw fault;
    }
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Errors: rejects where the process has ended. */
  async probe(names: readonly IndexName[] = []): Promise<Probe> {
    const report = await this.#ask({ kind: "probe", names });
    if (report.kind !== "probed") throw new Error(`expected a probe, got ${report.kind}`);
    return report.probe;
  }

  /** CPU time of all threads of the process so far, in milliseconds. */
  async cpuMs(): Promise<number> {
    const report = await this.#ask({ kind: "cpu" });
    if (report.kind !== "counted") throw new Error(`expected a CPU time, got ${report.kind}`);
    return report.cpuMs;
  }

  /** Graceful shutdown; the error lines of the whole run. */
  async stop(): Promise<readonly string[]> {
    const report = await this.#ask({ kind: "stop" }, 2 * DEADLINE_MS);
    return report.kind === "stopped" ? report.faults : [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
    await rm(this.#dataDir, { recursive: true, force: true });
  }
}
