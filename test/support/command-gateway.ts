import { once } from "node:events";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { REPOSITORY, type RunningCommand, startCommand } from "./command.ts";
import type { LogLine } from "./gateway.ts";

const LAUNCHER = join("bin", "hubwire.mjs");
/** The Bun that the launcher starts. */
const BUN = join("node_modules", "bun", "bin", "bun.exe");
const MAIN = join("src", "main.ts");

export interface CommandGatewayOptions {
  /** `launcher`: as a user starts it; `bun`: without the launcher, as the one process of a container. */
  readonly through?: "launcher" | "bun";
  /** What the file holds; left out: no file. */
  readonly config?: Readonly<Record<string, unknown>> | string;
  /** The name of the file; left out: hubwire.json. */
  readonly fileName?: string;
  /** Words behind `start`. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The folder of another checkout, whose gateway it is. */
  readonly repository?: string;
  /** Words in front of the command, such as those that run it in another network. */
  readonly within?: readonly string[];
}

/** A gateway in a process of its own, whose log can be waited for and whose file can be changed. */
export class CommandGateway {
  readonly folder: string;
  readonly configFile: string;
  readonly dataDir: string;
  readonly #command: RunningCommand;
  #port = 0;

  private constructor(folder: string, options: CommandGatewayOptions) {
    const {
      through = "launcher",
      config,
      fileName = "hubwire.json",
      flags = [],
      env = {},
      repository = REPOSITORY,
      within: wrapper = [],
    } = options;
    this.folder = folder;
    this.configFile = join(folder, fileName);
    this.dataDir = join(folder, "data");
    if (config !== undefined) this.write(config);
    const of = (file: string) => join(repository, file);
    const words = through === "launcher" ? ["node", of(LAUNCHER)] : [of(BUN), "--no-env-file", of(MAIN)];
    const file = config === undefined ? [] : ["--config", this.configFile];
    // A text is written unchanged, without a folder for the data.
    const where = typeof config === "object" ? file : [...file, "--data-dir", this.dataDir];
    const line = [...wrapper, ...words, "start", ...where, "--listen-port", "0", ...flags].map(quote).join(" ");
    // Without a shell in between, so that signals reach it; its log is read where its lines for people are.
    this.#command = startCommand(`exec ${line} 2>&1`, { cwd: folder, env });
    this.exitCode = once(this.#command.child, "exit").then(([code]) => code as number | null);
  }

  /** Waits for the line that says where it listens. */
  static async start(options: CommandGatewayOptions): Promise<CommandGateway> {
    const gateway = new CommandGateway(mkdtempSync(join(tmpdir(), "hubwire-command-")), options);
    try {
      const [, port] = await gateway.#command.printed(/^hubwire listens on http:\/\/[\d.]+:(\d+)$/m);
      gateway.#port = Number(port);
      return gateway;
    } catch (fault) {
      await gateway[Symbol.asyncDispose]();
      throw fault;
    }
  }

  get port(): number {
    return this.#port;
  }

  /** The id of the process: the gateway's, or the launcher's. */
  get pid(): number {
    return this.#command.child.pid ?? 0;
  }

  /** The exit code, once it and all that it started have ended. */
  get ended(): Promise<number | null> {
    return this.#command.ended;
  }

  /** The exit code; does not wait for the output to end. */
  readonly exitCode: Promise<number | null>;

  /** From here on nobody reads what it prints: its next write fails. */
  closeOutput(): void {
    this.#command.child.stdout?.destroy();
  }

  kill(signal: NodeJS.Signals): void {
    this.#command.child.kill(signal);
  }

  /** Signals the launcher and what it started at the same time, as systemd does by default. */
  killAll(signal: NodeJS.Signals): void {
    const { pid = 0 } = this.#command.child;
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number);
    for (const one of [...children, pid]) process.kill(one, signal);
  }

  /** Writes the configuration file in place. */
  write(config: Readonly<Record<string, unknown>> | string): void {
    writeFileSync(this.configFile, this.#format(config));
  }

  /** Replaces the configuration file by another one of its name. */
  replace(config: Readonly<Record<string, unknown>> | string): void {
    const draft = `${this.configFile}.draft`;
    writeFileSync(draft, this.#format(config));
    renameSync(draft, this.configFile);
  }

  #format(config: Readonly<Record<string, unknown>> | string): string {
    return typeof config === "string" ? config : JSON.stringify({ dataDir: this.dataDir, ...config });
  }

  /** Waits for the line of the log with this message, the first or a later one. */
  async logged(message: string, nth = 1): Promise<LogLine> {
    const text = `"msg":"${message}"`.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
    await this.#command.printed(new RegExp(`(?:^.*${text}\\}$[^]*?){${nth}}`, "m"));
    const found = this.logLines().filter(({ msg }) => msg === message)[nth - 1];
    if (found === undefined) throw new Error(`no line "${message}"`);
    return found;
  }

  /** Waits until what it has printed matches. */
  async lines(pattern: RegExp): Promise<RegExpMatchArray> {
    return await this.#command.printed(pattern);
  }

  logLines(): LogLine[] {
    const lines = this.#command.stdout().split("\n");
    return lines
      .filter((line) => line.startsWith("{") && line.endsWith("}"))
      .map((line) => JSON.parse(line) as LogLine);
  }

  /** All that it printed, the log too. */
  printed(): string {
    return this.#command.stdout();
  }

  /** Ends it and all that it started if they still run, and removes its folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#command[Symbol.asyncDispose]().finally(() => rmSync(this.folder, { recursive: true, force: true }));
  }
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
