import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ownEnvironment } from "./command.ts";
import { DEADLINE_MS, within } from "./deadline.ts";

const REPOSITORY = join(import.meta.dir, "..", "..");

/** A gateway in a process of its own, started as a user starts it. */
export interface GatewayProcess {
  readonly port: number;
  readonly child: ChildProcess;
  /** All that was printed so far. */
  readonly stdout: () => string;
  readonly stderr: () => string;
  /** The exit code; the signal's name where one ended it. */
  readonly exited: Promise<number | string>;
  /** Ends it if it still runs, and removes its folder. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface ProcessOptions {
  /** `bin`: `node bin/hubwire.mjs start --config FILE`; `npm`: `npm start -- --config FILE`. */
  readonly through: "bin" | "npm";
  /** The content of the configuration file. JSON is YAML too. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** Starts a gateway and waits for the line that prints its URL. */
export async function startGatewayProcess(options: ProcessOptions): Promise<GatewayProcess> {
  const folder = mkdtempSync(join(tmpdir(), "hubwire-process-"));
  const configFile = join(folder, "hubwire.json");
  writeFileSync(configFile, JSON.stringify({ dataDir: join(folder, "data"), ...options.config }));
  const tail = ["--config", configFile, "--listen-port", "0"];
  const [command, args] =
    options.through === "bin"
      ? ["node", [join(REPOSITORY, "bin", "hubwire.mjs"), "start", ...tail]]
      : ["npm", ["start", "--", ...tail]];
  const child = spawn(command, args, { cwd: REPOSITORY, env: ownEnvironment(), stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  const printed = Promise.withResolvers<number>();
  const exited = Promise.withResolvers<number | string>();
  child.stdout.on("data", (bytes: Buffer) => {
    stdout += bytes.toString("utf8");
    const port = /http:\/\/127\.0\.0\.1:(\d+)/.exec(stdout)?.[1];
    if (port !== undefined) printed.resolve(Number(port));
  });
  child.stderr.on("data", (bytes: Buffer) => {
    stderr += bytes.toString("utf8");
  });
  // `exit` tells the code, `close` that all output was read; the order of the two is not relied on.
  const ended = Promise.withResolvers<number | string>();
  child.on("exit", (code, signal) => ended.resolve(code ?? signal ?? "neither code nor signal"));
  child.on("close", async () => {
    const code = await ended.promise;
    exited.resolve(code);
    printed.reject(new Error(`the gateway ended with ${code}:\n${stdout}\n${stderr}`));
  });
  const end = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await within(exited.promise, "the gateway's process to end");
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const port = await within(printed.promise, "the gateway's URL", 2 * DEADLINE_MS);
    return {
      port,
      child,
      stdout: () => stdout,
      stderr: () => stderr,
      exited: exited.promise,
      [Symbol.asyncDispose]: end,
    };
  } catch (fault) {
    await end();
    throw fault;
  }
}
