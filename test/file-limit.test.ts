import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { connect } from "node:net";
import { COMMANDS_TIMEOUT_MS, startCommand } from "./support/command.ts";
import { CommandGateway } from "./support/command-gateway.ts";
import { until, within } from "./support/deadline.ts";
import { KEYS } from "./support/gateway.ts";
import { type Exchange, RawBackend } from "./support/raw-backend.ts";
import { RawWebSocket } from "./support/raw-websocket.ts";

setDefaultTimeout(COMMANDS_TIMEOUT_MS);

/** 64 files are the gateway's own, and a quarter of the others is for calls, two files each. */
const FILE_LIMIT = 256;
const CALLS = 24;
const CONNECTIONS = 144;

/** Runs hubwire under a file limit of the test's choosing, with one entry of upstreams. */
async function hubwire(fileLimit: number, command: string): Promise<{ code: number | null; said: string }> {
  const entry = JSON.stringify([{ urlTemplate: "http://127.0.0.1:1/{event}" }]);
  const line = `ulimit -n ${fileLimit} && cd "$(mktemp -d)" && exec node "$LAUNCHER" ${command} --upstreams='${entry}' 2>&1`;
  const LAUNCHER = `${import.meta.dir}/../bin/hubwire.mjs`;
  await using running = startCommand(line, { env: { LAUNCHER } });
  return { code: await running.ended, said: running.stdout() };
}

describe("a file limit that is too low for what is configured", () => {
  test("is said by check, with what it lowers", async () => {
    const { code, said } = await hubwire(1024, "check");
    expect(said).toContain(
      "warning: limits.maxConnections is lowered from 50000 to 720: the file limit (ulimit -n) is 1024\n",
    );
    expect(said).toContain(
      "warning: maxConcurrency is lowered to 120 in upstreams[0]: the file limit (ulimit -n) is 1024\n",
    );
    expect(code).toBe(0);
  });

  test.each(["check", "start --listen-port=0"])(
    "ends %s with the numbers where 64 connections do not fit",
    async (command) => {
      const { code, said } = await hubwire(128, command);
      expect(said).toContain(
        "hubwire: the file limit (ulimit -n) of 128 has room for 48 connections, and at least 64 are needed",
      );
      expect(said).not.toContain("listening");
      expect(code).toBe(1);
    },
  );

  test("does not refuse a start that asks for fewer connections", async () => {
    const { code } = await hubwire(128, "check --limits-max-connections=48");
    expect(code).toBe(0);
  });
});

test.each([
  ["after the start", false],
  ["after a reload", true],
])(
  "all connections and calls that a low file limit leaves work at the same time, and no more (%s)",
  async (_when, reloads) => {
    await using backend = await RawBackend.start();
    const held: Exchange[] = [];
    const full = Promise.withResolvers<void>();
    backend.onMessage = (exchange) => {
      held.push(exchange);
      if (held.length === CALLS) full.resolve();
    };
    const configOf = (maxWaitMs: number) => {
      // All clients here have one address. It may have all places, of those that are left too.
      const entry = { urlTemplate: `${backend.url}/{event}`, maxWaitMs, maxConcurrencyPerAddress: 1024 };
      return { accessKeys: KEYS, upstreams: [entry] };
    };
    await using gateway = await CommandGateway.start({
      config: configOf(60_000),
      within: ["sh", "-c", `ulimit -n ${FILE_LIMIT} && exec "$@"`, "sh"],
    });
    if (reloads) {
      gateway.replace(configOf(61_000));
      await gateway.logged("configuration reloaded");
    }
    const open = () => RawWebSocket.open({ port: gateway.port, path: "/ws/client/hubs/chat" });
    const clients: RawWebSocket[] = [];
    for (let count = 0; count < CONNECTIONS; count++) clients.push(await open());
    for (const client of clients) client.text("hello");
    await within(full.promise, `${CALLS} calls at the backend`);
    const over = await RawWebSocket.request({ port: gateway.port, path: "/ws/client/hubs/chat" });
    expect((await over.head()).firstLine).toContain("503");
    expect((await fetch(`http://127.0.0.1:${gateway.port}/api/health`)).status).toBe(200);
    expect(held).toHaveLength(CALLS);
    backend.onMessage = (exchange) => exchange.reply(200, ["Content-Type: text/plain"], "answer");
    for (const exchange of held) backend.onMessage(exchange);
    expect(await Promise.all(clients.map((client) => client.nextText()))).toEqual(
      new Array(CONNECTIONS).fill("answer"),
    );
    for (const client of [...clients, over]) client.destroy();
  },
);

test("silent TCP connections that take all files leave those for calls alone: connected clients are answered", async () => {
  await using backend = await RawBackend.start();
  backend.onMessage = (exchange) => exchange.reply(200, ["Content-Type: text/plain"], "answer");
  await using gateway = await CommandGateway.start({
    through: "bun",
    // Each call opens a socket.
    config: { accessKeys: KEYS, upstreams: [{ urlTemplate: `${backend.url}/{event}`, keepAliveMs: 0 }] },
    within: ["sh", "-c", `ulimit -n ${FILE_LIMIT} && exec "$@"`, "sh"],
  });
  const client = await RawWebSocket.open({ port: gateway.port, path: "/ws/client/hubs/chat" });
  const silent = Array.from({ length: FILE_LIMIT }, () => connect(gateway.port, "127.0.0.1").on("error", () => {}));
  try {
    await until(() => countFiles(gateway.pid) >= FILE_LIMIT, "all files to be in use");
    for (let count = 0; count < CALLS; count++) {
      client.text("hello");
      expect(await client.nextText()).toBe("answer");
    }
  } finally {
    for (const socket of silent) socket.destroy();
    client.destroy();
  }
});

function countFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
