import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { untilDone, within } from "./deadline.ts";
import { requireProgram } from "./programs.ts";

const TEMPORARY = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];

/** A real nginx with a configuration of a test's, in a folder of its own. */
export class Nginx {
  readonly #folder: string;
  readonly #child: ChildProcess;

  private constructor(folder: string, child: ChildProcess) {
    this.#folder = folder;
    this.#child = child;
  }

  /**
   * Starts it, and waits until its port is open.
   *
   * Shape: `text` has one block `http {`; its logs on /dev/stdout and /dev/stderr go into files.
   */
  static async start(text: string, port: number): Promise<Nginx> {
    requireProgram("nginx");
    const folder = mkdtempSync(join(tmpdir(), "hubwire-nginx-"));
    // nginx's workers give up root.
    chmodSync(folder, 0o755);
    const folders = TEMPORARY.map((name) => `${name}_temp_path ${join(folder, name)};`).join(" ");
    const own = text
      .replace("access_log /dev/stdout", `access_log ${join(folder, "access.log")}`)
      .replace("error_log /dev/stderr", `error_log ${join(folder, "error.log")}`)
      .replace("http {", `http { ${folders}`);
    const file = join(folder, "nginx.conf");
    writeFileSync(file, own);
    const globals = `daemon off; pid ${join(folder, "pid")};`;
    const child = spawn("nginx", ["-c", file, "-e", join(folder, "start.log"), "-g", globals], {
      stdio: "ignore",
      env: { ...process.env, PATH: [process.env["PATH"], "/usr/sbin"].filter(Boolean).join(delimiter) },
    });
    const nginx = new Nginx(folder, child);
    try {
      await within(Promise.race([untilDone(() => dial(port)), nginx.#ends()]), "nginx to listen");
      return nginx;
    } catch (fault) {
      await nginx[Symbol.asyncDispose]();
      throw fault;
    }
  }

  /** The text of a log: `access.log`, `error.log` or `start.log`. Complete once nginx has ended. */
  log(name: string): string {
    return readFileSync(join(this.#folder, name), "utf8");
  }

  /** May be called twice. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    await within(ended, "nginx to end");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #ends(): Promise<never> {
    await once(this.#child, "exit");
    throw new Error(`nginx has ended: ${this.log("start.log")}`);
  }
}

async function dial(port: number): Promise<void> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect").finally(() => socket.destroy());
}
