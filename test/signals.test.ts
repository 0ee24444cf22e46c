import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startExample } from "./support/chat-example.ts";
import { COMMANDS_TIMEOUT_MS, listenOnce } from "./support/command.ts";
import { CommandGateway } from "./support/command-gateway.ts";
import { Gate, within } from "./support/deadline.ts";
import { KEYS } from "./support/gateway.ts";
import { RawBackend } from "./support/raw-backend.ts";
import { RawWebSocket } from "./support/raw-websocket.ts";
import { connectionIdOf } from "./support/stack.ts";

/** SIGTERM and SIGINT: the first lets the process finish, the second ends it. SIGHUP is the reload's. */
setDefaultTimeout(COMMANDS_TIMEOUT_MS);

/** Long enough that only a second signal can end the process within a test. */
const LONG_SHUTDOWN = { shutdown: { delayMs: 300_000, drainTimeoutMs: 300_000 } };

describe.each(["launcher", "bun"] as const)("through %s", (through) => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    test(`${signal} lets the process finish, and it exits with 0`, async () => {
      await using backend = await RawBackend.start();
      const config = { accessKeys: KEYS, upstreams: [{ urlTemplate: `${backend.url}/{event}` }] };
      await using gateway = await CommandGateway.start({ through, config });
      using client = await RawWebSocket.open({ port: gateway.port });
      const id = connectionIdOf(await backend.next("connect"));
      gateway.kill(signal);
      expect((await client.closed()).code).toBe(1012);
      expect(connectionIdOf(await backend.next("disconnect"))).toBe(id);
      expect(await within(gateway.ended, "the exit")).toBe(0);
      expect(await gateway.logged("stopping")).toMatchObject({ why: signal });
    });
  }

  for (const [first, second, code] of [
    ["SIGTERM", "SIGINT", 130],
    ["SIGINT", "SIGTERM", 143],
  ] as const) {
    test(`${second} after ${first} ends it at once with ${code}`, async () => {
      await using gateway = await CommandGateway.start({ through, config: LONG_SHUTDOWN });
      gateway.kill(first);
      await gateway.logged("stopping");
      gateway.kill(second);
      expect(await within(gateway.ended, "the exit")).toBe(code);
    });
  }

  test("SIGHUP ends nothing, neither before nor during the end", async () => {
    await using gateway = await CommandGateway.start({ through, config: LONG_SHUTDOWN });
    gateway.kill("SIGHUP");
    await gateway.logged("configuration reloaded");
    gateway.kill("SIGTERM");
    await gateway.logged("stopping");
    gateway.kill("SIGHUP");
    const health = await fetch(`http://127.0.0.1:${gateway.port}/api/health`);
    expect(health.status).toBe(503);
    gateway.kill("SIGINT");
    expect(await within(gateway.ended, "the exit")).toBe(130);
    expect(gateway.logLines().filter(({ msg }) => msg === "configuration reloaded").length).toBe(1);
  });
});

test("without the launcher the same signal counts twice at once", async () => {
  await using gateway = await CommandGateway.start({ through: "bun", config: LONG_SHUTDOWN });
  gateway.kill("SIGTERM");
  await gateway.logged("stopping");
  gateway.kill("SIGTERM");
  expect(await within(gateway.ended, "the exit")).toBe(143);
});

test("through the launcher the same signal counts again after a second", async () => {
  await using gateway = await CommandGateway.start({ config: LONG_SHUTDOWN });
  gateway.kill("SIGINT");
  await gateway.logged("stopping");
  const again = setInterval(() => gateway.kill("SIGINT"), 100);
  try {
    expect(await within(gateway.ended, "the exit")).toBe(130);
  } finally {
    clearInterval(again);
  }
});

test("a signal to the launcher and to Bun at the same time is one", async () => {
  await using backend = await RawBackend.start();
  const config = { accessKeys: KEYS, upstreams: [{ urlTemplate: `${backend.url}/{event}` }] };
  await using gateway = await CommandGateway.start({ config });
  using client = await RawWebSocket.open({ port: gateway.port });
  // Its shutdown waits for the answer, so both signals come in the midst of it.
  const gate = new Gate();
  backend.onMessage = async (exchange) => {
    await gate.opened;
    exchange.reply(204);
  };
  client.text("question");
  await backend.next("message");
  gateway.killAll("SIGTERM");
  await gateway.logged("stopping");
  const health = await fetch(`http://127.0.0.1:${gateway.port}/api/health`).catch(() => null);
  expect(health?.status ?? 503).toBe(503);
  gate.open();
  expect((await client.closed()).code).toBe(1012);
  await backend.next("disconnect");
  expect(await within(gateway.ended, "the exit")).toBe(0);
});

test("a second signal ends the example too", async () => {
  const dataDir = mkdtempSync(join(tmpdir(), "hubwire-signals-"));
  try {
    const { npm, examplePort, gatewayPort } = await startExample(dataDir, {
      HUBWIRE_SHUTDOWN_DELAY_MS: "300000",
      HUBWIRE_SHUTDOWN_DRAIN_TIMEOUT_MS: "300000",
    });
    await using running = npm;
    running.child.kill("SIGTERM");
    while ((await fetch(`http://127.0.0.1:${gatewayPort}/api/health`)).status === 200);
    running.child.kill("SIGINT");
    // Both have ended, and with them the last writers of the output.
    expect(await within(running.ended, "the exit")).toBe(130);
    expect(await listenOnce(examplePort)).toBe(examplePort);
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
});

test("it goes on when nobody reads what it prints any more", async () => {
  await using backend = await RawBackend.start();
  const config = { accessKeys: KEYS, upstreams: [{ urlTemplate: `${backend.url}/{event}` }] };
  await using gateway = await CommandGateway.start({ config });
  gateway.closeOutput();
  // Each of these writes log lines.
  for (let refusal = 0; refusal < 3; refusal++) {
    using refused = await RawWebSocket.request({ port: gateway.port, path: "/client/hubs/no%20hub" });
    expect((await refused.answer()).status).toBe(400);
  }
  gateway.kill("SIGHUP");
  using client = await RawWebSocket.open({ port: gateway.port });
  client.text("still there?");
  expect(await client.nextText()).toBe("still there?");
  gateway.kill("SIGTERM");
  expect((await client.closed()).code).toBe(1012);
  await backend.next("disconnect");
  expect(await within(gateway.exitCode, "the exit")).toBe(0);
});
