import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { until, within } from "./deadline.ts";
import { requireProgram } from "./programs.ts";

/** The first port that is tried; below are those of well-known services. */
const LOWEST_PORT = 10_000;
/** How many ports are tried until one is free. */
const MAX_TRIES = 50;

export interface NatsServerOptions {
  /** Text of the server's configuration file: accounts, TLS, `max_payload`. Address, port and JetStream are given as flags. */
  readonly config?: string;
  /** The address it listens on; 127.0.0.1 when left out. */
  readonly host?: string;
  /** The port, where another server had it before; a free one when left out. */
  readonly port?: number;
  /** Variables that the configuration names. */
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * A real nats-server with JetStream, in a folder of its own.
 *
 * Shape:  the port stays the same over `stop` and `restart`. It lies below the system's own ports: a client that tries to
 *         reconnect to one of those while nobody listens may get that very port as its own, and be connected to itself.
 * Errors: rejects with what the server printed where it does not start.
 */
export class NatsServer {
  readonly host: string;
  readonly folder = mkdtempSync(join(tmpdir(), "hubwire-nats-"));
  readonly #config: string;
  readonly #env: Readonly<Record<string, string>>;
  #port = 0;
  #child: ChildProcess | null = null;
  #output = "";

  private constructor({ config = "", host = "127.0.0.1", env = {} }: NatsServerOptions) {
    this.host = host;
    this.#config = config;
    this.#env = env;
  }

  /** Starts one and waits until it takes connections. */
  static async start(options: NatsServerOptions = {}): Promise<NatsServer> {
    requireProgram("nats-server");
    const server = new NatsServer(options);
    try {
      for (let tries = 1; server.#child === null; tries++) {
        server.#port = options.port ?? randomPort();
        const isTaken = !(await server.#run());
        if (isTaken && tries === MAX_TRIES) throw new Error(`no free port for nats-server:\n${server.#output}`);
      }
      return server;
    } catch (fault) {
      await server[Symbol.asyncDispose]();
      throw fault;
    }
  }

  get port(): number {
    return this.#port;
  }

  /** As an entry of `servers`. */
  get url(): string {
    return `nats://${this.host}:${this.#port}`;
  }

  /** The process's id; 0 while it is stopped. */
  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** All that it has printed, in all its runs. */
  output(): string {
    return this.#output;
  }

  /** Ends the process and waits for its end; its folder and port stay for `restart`. May be called twice. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    this.#child = null;
    if (hasEnded(child)) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await within(ended, `nats-server to end by ${signal}`);
  }

  /** Stops it where it is; resolves when every thread has stopped, which takes the system a moment. Linux only. */
  async freeze(): Promise<void> {
    const { pid } = this;
    process.kill(pid, "SIGSTOP");
    const stateOf = (thread: string) => readFileSync(`/proc/${pid}/task/${thread}/stat`, "latin1").split(") ")[1]?.[0];
    const isStill = () => readdirSync(`/proc/${pid}/task`).every((thread) => stateOf(thread) === "T");
    await until(isStill, "nats-server to stop");
  }

  /** Lets it go on after `freeze`. */
  thaw(): void {
    process.kill(this.pid, "SIGCONT");
  }

  /** Starts it again on the same port with the same streams, and waits until it takes connections. */
  async restart(): Promise<void> {
    await this.stop();
    if (!(await this.#run())) throw new Error(`somebody took nats-server's port:\n${this.#output}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Starts the process and waits until it takes connections; false where its port is taken. */
  async #run(): Promise<boolean> {
    const configFile = join(this.folder, "nats-server.conf");
    writeFileSync(configFile, this.#config);
    const address = ["-a", this.host, "-p", String(this.#port)];
    const store = ["-js", "-sd", join(this.folder, "jetstream")];
    const child = spawn("nats-server", ["-c", configFile, ...address, ...store], {
      stdio: ["ignore", "ignore", "pipe"],
      // A user's PATH often lacks the folder where Debian puts it.
      env: { ...process.env, ...this.#env, PATH: [process.env["PATH"], "/usr/sbin"].filter(Boolean).join(delimiter) },
    });
    const before = this.#output.length;
    const started = Promise.withResolvers<"ready" | "ended">();
    child.on("error", started.reject);
    child.on("close", () => started.resolve("ended"));
    child.stderr.on("data", (bytes: Buffer) => {
      this.#output += bytes.toString("utf8");
      if (this.#output.includes("Server is ready", before)) started.resolve("ready");
    });
    this.#child = child;
    const state = await within(started.promise, "nats-server to be ready");
    if (state === "ready") {
      await this.#greet();
      return true;
    }
    this.#child = null;
    const printed = this.#output.slice(before);
    if (printed.includes("address already in use")) return false;
    throw new Error(`nats-server does not start:\n${printed}`);
  }

  /** Waits for the line that the server sends to every new client. */
  async #greet(): Promise<void> {
    const socket = connect(this.#port, this.host);
    try {
      const [bytes] = (await within(once(socket, "data"), "nats-server's first line")) as [Buffer];
      if (!bytes.toString("latin1").startsWith("INFO ")) throw new Error("no nats-server listens there");
    } finally {
      socket.destroy();
    }
  }
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

function randomPort(): number {
  const count = lowestSystemPort() - LOWEST_PORT;
  return LOWEST_PORT + Math.floor(Math.random() * count);
}

/** The first of the ports that the system gives to clients. */
function lowestSystemPort(): number {
  try {
    const lowest = Number(readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").split(/\s+/)[0]);
    return lowest > LOWEST_PORT ? lowest : 32_768;
  } catch {
    // No Linux: there they begin at 49152, or as here.
    return 32_768;
  }
}

/** A port that is free now; servers of one cluster must know each other's before they start. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
