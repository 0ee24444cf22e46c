import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Subprocess } from "bun";

/** How long an example's backend may take to say where it listens. */
const START_TIMEOUT_MS = 10_000;

/** The backend of an example, running beside the gateway in a process of its own. */
export interface ExampleBackend {
  /** Where it listens; its page is there too. */
  readonly url: string;
  stop(): Promise<void>;
}

/** The folder of an example, with its `server.ts` and `hubwire.yaml`. Errors: throws a sentence where there is none. */
export function exampleFolder(name: string): string {
  const folder = fileURLToPath(new URL(`../examples/${name}/`, import.meta.url));
  if (!/^[a-z-]+$/.test(name) || !existsSync(folder)) throw new Error(`there is no example "${name}"`);
  return folder;
}

/**
 * Starts an example's backend and waits for the line in which it says where it listens.
 *
 * Shape:  `env` is added to the process's own; what it prints goes on to standard output.
 * Errors: throws a sentence where it did not start.
 */
export async function startExample(name: string, env: Readonly<Record<string, string>>): Promise<ExampleBackend> {
  const backend = Bun.spawn([process.execPath, join(exampleFolder(name), "server.ts")], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
    env: { ...process.env, ...env },
  });
  const url = await Promise.race([passOn(backend.stdout), Bun.sleep(START_TIMEOUT_MS).then(() => null)]);
  if (url === null) {
    backend.kill("SIGKILL");
    throw new Error(`the example "${name}" did not start: is its port taken? EXAMPLE_PORT chooses another`);
  }
  return { url, stop: () => end(backend) };
}

/** Copies the output until it ends; resolves with the first URL in it, or null where it ends without one. */
function passOn(output: ReadableStream<Uint8Array>): Promise<string | null> {
  return new Promise((resolve) => {
    const copy = async () => {
      let text = "";
      for await (const chunk of output) {
        process.stdout.write(chunk);
        text += Buffer.from(chunk).toString();
        const url = /https?:\/\/\S+/.exec(text)?.[0];
        if (url !== undefined) resolve(url);
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
