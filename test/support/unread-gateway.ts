import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ownEnvironment, REPOSITORY } from "./command.ts";
import { until, within } from "./deadline.ts";
import { KEYS } from "./gateway.ts";
import { UnreadPipe } from "./unread-pipe.ts";

/** A gateway in a process of its own whose output goes into a pipe that is full, and that nobody reads until the test does. */
export class UnreadGateway {
  readonly pipe: UnreadPipe;
  readonly port: number;
  readonly child: Bun.Subprocess;
  readonly #folder: string;

  private constructor(config: object, { isPrinting }: { readonly isPrinting: boolean }) {
    this.#folder = mkdtempSync(join(tmpdir(), "hubwire-unread-"));
    this.pipe = new UnreadPipe();
    this.pipe.fill();
    // The line that tells the port cannot be read.
    this.port = freePort();
    const configFile = join(this.#folder, "hubwire.json");
    const all = { dataDir: join(this.#folder, "data"), accessKeys: KEYS, listen: { port: this.port }, ...config };
    writeFileSync(configFile, JSON.stringify(all));
    const words = ["node", join(REPOSITORY, "bin", "hubwire.mjs"), "start", "--config", configFile];
    const { writer } = this.pipe;
    this.child = Bun.spawn(words, { env: ownEnvironment(), stdio: ["ignore", isPrinting ? writer : "ignore", writer] });
  }

  /** Starts it and does not wait. */
  static launch(config: object, options = { isPrinting: false }): UnreadGateway {
    return new UnreadGateway(config, options);
  }

  /** Waits until it is healthy. */
  static async start(config: object, options = { isPrinting: false }): Promise<UnreadGateway> {
    const gateway = new UnreadGateway(config, options);
    const isHealthy = () => fetch(`http://127.0.0.1:${gateway.port}/api/health`).then(isOk, () => false);
    try {
      await until(isHealthy, "the gateway's health");
    } catch (fault) {
      await gateway[Symbol.asyncDispose]();
      throw fault;
    }
    return gateway;
  }

  /** Asks it to end, and reads meanwhile where `isRead`. Resolves with the exit code and what was read. */
  async end({ isRead }: { readonly isRead: boolean }): Promise<{ code: number; text: string }> {
    this.child.kill("SIGTERM");
    let text = "";
    if (isRead) {
      await until(() => {
        text += this.pipe.read();
        return this.child.exitCode !== null;
      }, "the exit");
    }
    const code = await within(this.child.exited, "the exit");
    return { code, text: text + this.pipe.read() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGKILL");
    await this.child.exited;
    this.pipe[Symbol.dispose]();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function isOk({ ok }: Response): boolean {
  return ok;
}

function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop();
  return port;
}
