import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findFreePort } from "../../test/support/command.ts";
import { KEYS } from "../../test/support/gateway.ts";
import type { Row } from "../row.ts";

const MAX_MS = 300;
const DEADLINE_MS = 20_000;
const HEALTH = "GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";

/** How soon a node that is started takes clients. */
export const startRow: Row = {
  name: "start",
  what: "from exec of Bun to the first 200 of health",
  unit: "ms",
  theirs: "",
  target: "≤ 300 ms",
  isMet: ({ ours }) => ours <= MAX_MS,
  prepare: async ({ repository }) => ({ ours: async () => ({ value: await startOnce(repository), lost: 0 }) }),
};

async function startOnce(repository: string): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "hubwire-bench-start-"));
  const port = await findFreePort();
  const file = join(folder, "hubwire.json");
  const config = {
    accessKeys: KEYS,
    dataDir: join(folder, "data"),
    listen: { port },
    upstreams: [{ urlTemplate: "http://127.0.0.1:1/{event}" }],
  };
  writeFileSync(file, JSON.stringify(config));
  const bun = join(repository, "node_modules", "bun", "bin", "bun.exe");
  const from = performance.now();
  const child = spawn(bun, ["--no-env-file", join(repository, "src", "main.ts"), "start", "--config", file], {
    stdio: "ignore",
  });
  try {
    while (!(await isHealthy(port))) {
      if (performance.now() - from > DEADLINE_MS || child.exitCode !== null) throw new Error("it does not start");
      await Bun.sleep(1);
    }
    return performance.now() - from;
  } finally {
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Over a bare socket: what `fetch` costs at its first call is not the gateway's. */
async function isHealthy(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    socket.write(HEALTH);
    const [bytes] = (await once(socket, "data")) as [Buffer];
    return bytes.toString("latin1").startsWith("HTTP/1.1 200");
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
