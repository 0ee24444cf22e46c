import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Subprocess } from "bun";

/** How long an example's backend may take to say where it listens. */
const START_TIMEOUT_MS = 10_000;

/** The backend of an example, running next to the gateway in a process of its own. */
export interface ExampleBackend {
  /** Where it listens; its page is there too. Errors: rejects with a sentence where it did not start. */
  readonly url: Promise<string>;
  /** May be called while it still starts. */
  stop(): Promise<void>;
}

/** The folder of an example, with its `server.ts` and `hubwire.yaml`. Errors: throws a sentence for an unknown example. */
export function exampleFolder(name: string): string {
  const folder = fileURLToPath(new URL(`../../examples/${name}/`, import.meta.url));
  if (!/^[a-z-]+$/.test(name) || !existsSync(folder)) throw new Error(`there is no example "${name}"`);
  return folder;
}

/**
 * Starts an example's backend. It can be stopped at once; it serves when `url` resolves.
 *
 * Shape:  `env` is added to the process's own; what it writes to standard output goes to `print`.
 */
export function startExample(
  name: string,
  env: Readonly<Record<string, string>>,
  print: (bytes: Uint8Array) => void,
): ExampleBackend {
  // Its fetch would ask a proxy even for the gateway on this machine, which the proxy cannot reach.
  const noProxy = [process.env["NO_PROXY"] ?? process.env["no_proxy"], "127.0.0.1", "localhost"].filter(Boolean).join();
  const backend = Bun.spawn([process.execPath, ...process.execArgv, join(exampleFolder(name), "server.ts")], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
    env: { ...process.env, NO_PROXY: noProxy, no_proxy: noProxy, ...env },
  });
  return { url: started(name, backend, print), stop: () => end(backend) };
}

/** Waits for the line in which the backend says where it listens. */
async function started(
  name: string,
  backend: Subprocess<"ignore", "pipe", "inherit">,
  print: (bytes: Uint8Array) => void,
): Promise<string> {
  const url = await Promise.race([passOn(backend.stdout, print), Bun.sleep(START_TIMEOUT_MS).then(() => null)]);
  if (url !== null) return url;
  backend.kill("SIGKILL");
  throw new Error(`the example "${name}" did not start: is its port taken? EXAMPLE_PORT chooses another`);
}

/** Prints the output until it ends; resolves with the first URL in it, or null where it ends without one. */
function passOn(output: ReadableStream<Uint8Array>, print: (bytes: Uint8Array) => void): Promise<string | null> {
  return new Promise((resolve) => {
    const copy = async () => {
      let text = "";
      let isFound = false;
      for await (const chunk of output) {
        print(chunk);
        if (isFound) continue;
        text += Buffer.from(chunk).toString();
        const url = /https?:\/\/\S+/.exec(text)?.[0];
        if (url === undefined) continue;
        isFound = true;
        resolve(url);
      }
      resolve(null);
    };
    copy().catch(() => resolve(null));
  });
}

async function end(backend: Subprocess): Promise<void> {
  backend.kill("SIGTERM");
  await backend.exited;
}
