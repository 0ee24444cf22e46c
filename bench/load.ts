import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** The last line that the generator prints; times in microseconds. */
export interface LoadReport {
  readonly opened: number;
  readonly failed: number;
  /** Connections that the other side ended. */
  readonly closed: number;
  readonly openSeconds: number;
  readonly openRate: number;
  readonly openP50: number;
  readonly openP99: number;
  readonly messages: number;
  /** Of `recv`: the first and the last arrival, by the machine's monotonic clock. Units: s. */
  readonly firstAt: number;
  readonly lastAt: number;
  /** All answers, those before and after the counted time too. */
  readonly answers: number;
  /** Answers other than 2xx; not among the others. */
  readonly bad: number;
  readonly lost: number;
  readonly seconds: number;
  readonly rate: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

/** Flags of load.c, as it spells them. */
export type LoadFlags = Readonly<Record<string, string | number | true>>;

/** Where the generator runs. */
export interface LoadPlace {
  /** The core that it is pinned to, from 0. Left out: where the system puts it. */
  readonly core?: number;
}

/** The load generator, compiled into a folder that is removed in the end. */
export class Load {
  readonly folder = mkdtempSync(join(tmpdir(), "hubwire-bench-"));
  readonly #program = join(this.folder, "load");
  #fileCount = 0;

  constructor() {
    const source = join(import.meta.dir, "load.c");
    execFileSync("gcc", ["-O2", "-o", this.#program, source], { stdio: ["ignore", "inherit", "inherit"] });
  }

  /** Writes requests into a file for `--requests`. */
  requests(requests: readonly string[]): string {
    const file = join(this.folder, `requests-${this.#fileCount++}`);
    writeFileSync(file, requests.map((request) => `${Buffer.byteLength(request)}\n${request}`).join(""));
    return file;
  }

  /** Starts it and waits until all its connections are open. */
  async start(mode: "echo" | "recv" | "http", flags: LoadFlags, { core }: LoadPlace = {}): Promise<RunningLoad> {
    const words = Object.entries(flags).flatMap(([name, value]) => [
      `--${name}`,
      ...(value === true ? [] : [`${value}`]),
    ]);
    const pinned = core === undefined ? [] : ["taskset", "-c", String(core)];
    const [command = "", ...args] = [...pinned, this.#program, mode, ...words];
    return await RunningLoad.start(spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] }));
  }

  /** Runs it to its end. */
  async run(mode: "echo" | "recv" | "http", flags: LoadFlags, place: LoadPlace = {}): Promise<LoadReport> {
    await using running = await this.start(mode, flags, place);
    return await running.report;
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A generator at work. */
export class RunningLoad {
  readonly report: Promise<LoadReport>;
  /** How many of its connections are open. */
  opened = 0;
  readonly #child: ChildProcess;
  readonly #ready: Promise<string>;

  private constructor(child: ChildProcess & { stdout: NonNullable<ChildProcess["stdout"]> }) {
    this.#child = child;
    const [ready, report] = [Promise.withResolvers<string>(), Promise.withResolvers<string>()];
    const unused = [ready, report];
    // Both lines may come at once.
    createInterface({ input: child.stdout })
      .on("line", (line) => unused.shift()?.resolve(line))
      .on("close", () => {
        for (const { reject } of unused) reject(new Error("the load generator ended early"));
      });
    this.#ready = ready.promise;
    this.report = report.promise.then((line) => JSON.parse(line) as LoadReport);
    // A load that is ended early has no report, and nobody reads it.
    this.report.catch(() => {});
  }

  static async start(child: ChildProcess & { stdout: NonNullable<ChildProcess["stdout"]> }): Promise<RunningLoad> {
    const running = new RunningLoad(child);
    running.opened = (JSON.parse(await running.#ready) as { ready: number }).ready;
    return running;
  }

  /** Begins what `--hold` holds back, or ends `recv`. */
  go(): void {
    this.#child.stdin?.write("\n");
  }

  /** Ends `recv` and returns what it counted. */
  async stop(): Promise<LoadReport> {
    this.go();
    return await this.report;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }
}
