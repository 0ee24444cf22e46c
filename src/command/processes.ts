import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";
import type { Logger } from "pino";
import type { Config } from "../config/schema.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { FlagTexts } from "./args.ts";

/** The pause before a process that has ended is started again: doubled each time, until it has lived long enough. */
const FIRST_RESTART_MS = 500;
const MAX_RESTART_MS = 30_000;
const STEADY_AFTER_MS = 10_000;

/** The human-readable line with which a gateway says that it listens. */
const LISTENS = /^hubwire listens on (\S+)$/m;

/** The signals that are passed on. */
export type PassedSignal = "SIGTERM" | "SIGINT" | "SIGHUP";

const OWN_PORTS = "with 0 each process would get a port of its own.";

/** Why a configuration cannot be shared by several processes; null where it can. */
export function sharingFault({ cluster, listen }: Config): string | null {
  if (cluster === null) return "needs cluster: the processes reach each other's clients over NATS.";
  if (listen.port === 0) return `needs a fixed listen.port: ${OWN_PORTS}`;
  if (listen.api?.port === 0) return `needs a fixed listen.api.port: ${OWN_PORTS}`;
  if (listen.tls !== null && listen.tls.clientCert !== "none") {
    return "does not work with client certificates: set listen.tls.clientCert to none, or start one process.";
  }
  return null;
}

/** Where the process of a number keeps its data. */
export function nodeDataDir(dataDir: string, index: number): string {
  return join(dataDir, `node-${index}`);
}

/** Data of earlier runs in a folder that none of `count` processes works with. Shape: names, sorted. */
export function findUnusedData(dataDir: string, count: number): string[] {
  let names: string[];
  try {
    names = readdirSync(dataDir);
  } catch {
    return [];
  }
  const isUnused = (name: string) => name === "journal.sqlite" || Number(/^node-(\d+)$/.exec(name)?.[1] ?? -1) >= count;
  return names.filter(isUnused).toSorted();
}

/** The words behind `hubwire` that start the process of a number: those of this one, with its own folder. */
export function startWords(
  { dataDir, filePath, flags }: { dataDir: string; filePath: string | null; flags: FlagTexts },
  index: number,
): string[] {
  const own = { ...flags, "data-dir": nodeDataDir(dataDir, index), "listen-reuse-port": "true" };
  const words = Object.entries(own).map(([name, text]) => `--${name}=${text}`);
  return ["start", ...(filePath === null ? [] : [`--config=${filePath}`]), ...words];
}

/** How long a process that has ended waits; `beforeMs` is what it waited the last time, 0 for the first. */
export function restartDelayMs(beforeMs: number, livedMs: number): number {
  if (beforeMs === 0 || livedMs >= STEADY_AFTER_MS) return FIRST_RESTART_MS;
  return Math.min(2 * beforeMs, MAX_RESTART_MS);
}

/** What the processes need. */
export interface ProcessesOptions {
  readonly count: number;
  /** Program and words that start the process of a number; numbers begin at 0. */
  readonly commandOf: (index: number) => readonly string[];
  /** Called once, when all have listened. */
  readonly onListening: (url: string) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Several gateways on one machine, each a process: starts them, and starts again what dies.
 *
 * Shape:  `ended` resolves with the exit code, once all have ended after a signal to end: 0 where each ended with 0, else 1.
 *         Each process knows this one as its launcher, and ends when it is gone.
 * Errors: a process that ends before it has ever listened has a fault that a restart does not repair (a taken port, a folder in
 *         use): all processes end, and the exit code is 1.
 */
export class Processes {
  readonly ended: Promise<number>;
  readonly #options: ProcessesOptions;
  readonly #all: readonly WatchedProcess[];
  readonly #resolveEnded: (exitCode: number) => void;
  #isEnding = false;
  #hasSaid = false;

  constructor(options: ProcessesOptions) {
    const { promise, resolve } = Promise.withResolvers<number>();
    this.ended = promise;
    this.#resolveEnded = resolve;
    this.#options = options;
    this.#all = Array.from({ length: options.count }, (_, index) => {
      return new WatchedProcess(index, {
        command: options.commandOf(index),
        clock: options.clock,
        onListening: () => this.#say(),
        onEnded: (end) => this.#ended(end),
      });
    });
  }

  start(): void {
    for (const one of this.#all) one.start();
  }

  /** Passes a signal on to all. After one to end nothing is started again; each further one is passed on too. */
  signal(signal: PassedSignal): void {
    if (signal === "SIGHUP") {
      for (const one of this.#all) one.reload();
      return;
    }
    if (!this.#isEnding) this.#options.log.info({ why: signal }, "stopping all processes");
    this.#end(signal);
  }

  #end(signal: "SIGTERM" | "SIGINT"): void {
    this.#isEnding = true;
    for (const one of this.#all) one.end(signal);
    this.#settle();
  }

  #say(): void {
    const [url] = this.#all.map((one) => one.url);
    if (this.#hasSaid || url === undefined || url === null || this.#all.some((one) => one.url === null)) return;
    this.#hasSaid = true;
    this.#options.onListening(url);
  }

  #ended({ one, pid, exitCode, signal, fault }: EndedProcess): void {
    const { log } = this.#options;
    const facts = { process: one.index, pid, exitCode, signal, ...(fault === null ? {} : { err: fault }) };
    if (this.#isEnding) {
      this.#settle();
    } else if (one.url === null && signal === null) {
      log.error(facts, "process does not start: all end");
      this.#end("SIGTERM");
    } else {
      const restartInMs = one.restart();
      log.warn({ ...facts, restartInMs }, "process ended: it is started again");
    }
  }

  #settle(): void {
    if (this.#all.some((one) => one.isRunning)) return;
    this.#resolveEnded(this.#all.every((one) => one.exitCode === 0) ? 0 : 1);
  }
}

/** How a process ended: one of exit code, signal and fault is there. */
interface EndedProcess {
  readonly one: WatchedProcess;
  readonly pid: number | null;
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** Why it could not be started at all. */
  readonly fault: unknown;
}

interface WatchedProcessOptions {
  readonly command: readonly string[];
  readonly clock: Clock;
  readonly onListening: () => void;
  readonly onEnded: (end: EndedProcess) => void;
}

/**
 * The process of one number, and those that take its place.
 *
 *   start ──▶ runs ──▶ listens ──▶ ended ──▶ waits
 *     ▲         └──────────────────▶ ┘         │
 *     └────────────────────────────────────────┘ restart
 */
class WatchedProcess {
  readonly index: number;
  /** Where it listened at last; null until it has listened once. */
  url: string | null = null;
  /** That of its last end; null before, and where a signal ended it. */
  exitCode: number | null = null;
  readonly #options: WatchedProcessOptions;
  #child: Subprocess<"ignore", "pipe", "inherit"> | null = null;
  #isListening = false;
  #reloadsLater = false;
  #startedAtMs = 0;
  #delayMs = 0;
  #cancelRestart: (() => void) | null = null;

  constructor(index: number, options: WatchedProcessOptions) {
    this.index = index;
    this.#options = options;
  }

  get isRunning(): boolean {
    return this.#child !== null;
  }

  start(): void {
    this.#cancelRestart = null;
    this.#isListening = false;
    this.#reloadsLater = false;
    this.#startedAtMs = this.#options.clock.now();
    try {
      const child = Bun.spawn([...this.#options.command], {
        stdin: "ignore",
        stdout: "pipe",
        stderr: "inherit",
        env: { ...process.env, HUBWIRE_LAUNCHER_PID: String(process.pid), HUBWIRE_PROCESS: String(this.index) },
        onExit: (ended, exitCode, signalCode) => {
          this.#child = null;
          this.exitCode = exitCode;
          const signal = signalCode === null ? null : String(ended.signalCode ?? signalCode);
          this.#options.onEnded({ one: this, pid: ended.pid, exitCode, signal, fault: null });
        },
      });
      this.#child = child;
      // An error of its output ends with it, and its exit tells that.
      this.#read(child).catch(() => {});
    } catch (fault) {
      this.#options.onEnded({ one: this, pid: null, exitCode: null, signal: null, fault });
    }
  }

  /** Starts it again after a while, and returns how long that is. */
  restart(): number {
    const { clock } = this.#options;
    this.#delayMs = restartDelayMs(this.#delayMs, clock.now() - this.#startedAtMs);
    this.#cancelRestart = clock.after(this.#delayMs, () => this.start());
    return this.#delayMs;
  }

  /** While it starts SIGHUP would end it, and it may have read the configuration already. */
  reload(): void {
    if (this.#isListening) this.#child?.kill("SIGHUP");
    else this.#reloadsLater = true;
  }

  end(signal: "SIGTERM" | "SIGINT"): void {
    this.#cancelRestart?.();
    this.#cancelRestart = null;
    this.#child?.kill(signal);
  }

  /** Reads to the end, so that nothing it prints is ever in its way. */
  async #read(child: Subprocess<"ignore", "pipe", "inherit">): Promise<void> {
    const decoder = new TextDecoder();
    let text = "";
    for await (const bytes of child.stdout) {
      if (this.#child !== child || this.#isListening) continue;
      text += decoder.decode(bytes, { stream: true });
      const url = LISTENS.exec(text)?.[1];
      if (url === undefined) continue;
      this.url = url;
      this.#isListening = true;
      if (this.#reloadsLater) child.kill("SIGHUP");
      this.#options.onListening();
    }
  }
}
