import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { within } from "./deadline.ts";

/**
 * How long a test that runs commands may take; to be given to `setDefaultTimeout`.
 *
 * More than all that it waits for: a test that the runner ends by time does not end its commands.
 */
export const COMMANDS_TIMEOUT_MS = 120_000;

/** The repository's folder. */
export const REPOSITORY = join(import.meta.dir, "..", "..");

/** A command at work, and what it and everything that it started have printed. */
export interface RunningCommand {
  readonly child: ChildProcess;
  readonly stdout: () => string;
  readonly stderr: () => string;
  /** Waits until a text on standard output matches, and returns the match. */
  printed(pattern: RegExp): Promise<RegExpMatchArray>;
  /** The exit code, once nobody holds the output open any more: all that it started have ended. Null after a signal. */
  readonly ended: Promise<number | null>;
  /** Ends it and all that it started. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts a command line in a shell, as a user at a terminal would: without the variables of the npm that runs the tests. */
export function startCommand(line: string, { cwd = REPOSITORY, env = {} }: CommandOptions = {}): RunningCommand {
  const child = spawn("sh", ["-c", line], {
    cwd,
    env: { ...ownEnvironment(), ...env },
    stdio: ["ignore", "pipe", "pipe"],
    // A group of its own, so that a shell in between is ended too.
    detached: true,
  });
  let stdout = "";
  let stderr = "";
  const waiting = new Set<() => void>();
  child.stdout.on("data", (bytes: Buffer) => {
    stdout += bytes.toString("utf8");
    for (const look of waiting) look();
  });
  child.stderr.on("data", (bytes: Buffer) => {
    stderr += bytes.toString("utf8");
  });
  const ended = once(child, "close").then(([code]) => code as number | null);
  const printed = (pattern: RegExp) => {
    const found = new Promise<RegExpMatchArray>((resolve, reject) => {
      const look = () => {
        const match = pattern.exec(stdout);
        if (match === null) return;
        waiting.delete(look);
        resolve(match);
      };
      waiting.add(look);
      look();
      ended.then(() => reject(new Error(`"${line}" ended without ${pattern}:\n${stdout}\n${stderr}`)));
    });
    return within(found, `${pattern} on standard output of "${line}"`);
  };
  return {
    child,
    stdout: () => stdout,
    stderr: () => stderr,
    printed,
    ended,
    [Symbol.asyncDispose]: async () => {
      killGroup(child, "SIGTERM");
      await within(ended, `"${line}" to end`).finally(() => killGroup(child, "SIGKILL"));
    },
  };
}

function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // The whole group has ended.
  }
}

/** A port of 127.0.0.1 that nobody listens on. */
export async function findFreePort(): Promise<number> {
  return await listenOnce(0);
}

/** Listens on a port of 127.0.0.1 for a moment. Errors: rejects where the port is taken. */
export async function listenOnce(port: number): Promise<number> {
  const server = createServer();
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** The test's environment without what hubwire, npm or the example would take for their own. */
export function ownEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(npm_|hubwire_|example_port$|port$)/i.test(name));
  return Object.fromEntries(kept);
}
