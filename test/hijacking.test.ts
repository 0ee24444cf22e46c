import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { COMMANDS_TIMEOUT_MS, REPOSITORY } from "./support/command.ts";
import { CommandGateway } from "./support/command-gateway.ts";
import { KEYS } from "./support/gateway.ts";
import { RawBackend } from "./support/raw-backend.ts";
import { RawWebSocket } from "./support/raw-websocket.ts";
import { Stack, TEMPLATE_PATH } from "./support/stack.ts";

/** Cookies may not be forwarded for pages of every origin, wherever a configuration is read. The rule itself: src/config/forwarding.test.ts. */
setDefaultTimeout(COMMANDS_TIMEOUT_MS);

const FAULT =
  /upstreams\[0\]\.forwardHeaders\[0\]: must not be forwarded while allowedOrigins lets in the pages of every origin .*\(cross-site WebSocket hijacking\)/;

function configOf(url: string, options: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return { accessKeys: KEYS, upstreams: [{ urlTemplate: `${url}/{event}`, forwardHeaders: ["Cookie"] }], ...options };
}

test.each(["check", "start"])("hubwire %s ends with 2 and says why", async (command) => {
  const folder = mkdtempSync(join(tmpdir(), "hubwire-hijacking-"));
  try {
    const file = join(folder, "hubwire.json");
    writeFileSync(file, JSON.stringify(configOf("http://127.0.0.1:7071")));
    const words = ["node", join(REPOSITORY, "bin", "hubwire.mjs"), command, "--config", file];
    const child = Bun.spawn(words, { cwd: folder, stdin: "ignore", stdout: "ignore", stderr: "pipe" });
    expect(await new Response(child.stderr).text()).toMatch(FAULT);
    expect(await child.exited).toBe(2);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("a reload is refused with the same sentence, and the origins of before hold on", async () => {
  await using backend = await RawBackend.start();
  const config = configOf(backend.url, { allowedOrigins: ["https://app.example"] });
  await using gateway = await CommandGateway.start({ config });
  gateway.write({ ...config, allowedOrigins: ["*"] });
  const refused = await gateway.logged("configuration refused: the one before goes on");
  const [fault] = refused["faults"] as readonly { path: string; message: string }[];
  expect(`${fault?.path}: ${fault?.message}`).toMatch(FAULT);
  const ask = async (origin: string) => {
    using client = await RawWebSocket.request({ port: gateway.port, lines: [`Origin: ${origin}`, "Cookie: a=1"] });
    return (await client.answer()).status;
  };
  expect(await ask("https://evil.example")).toBe(403);
  expect(await ask("https://app.example")).toBe(101);
  expect((await backend.next("connect")).header("Cookie")).toBe("a=1");
  gateway.kill("SIGHUP");
  expect(await gateway.logged("configuration refused: the one before goes on", 2)).toMatchObject({ why: "SIGHUP" });
  expect(await ask("https://evil.example")).toBe(403);
});

test("a reload that keeps foreign pages out and forwards cookies forwards none of a page that is being let in", async () => {
  // The reload comes while the handshakes wait for the journal, sooner or later.
  for (let turns = 1; turns <= 10; turns++) {
    await using stack = await Stack.start();
    const clients = await Promise.all(Array.from({ length: 10 }, () => stack.dial()));
    for (const client of clients)
      client.write(client.handshake({ port: stack.port, lines: ["Origin: https://evil.example", "Cookie: a=1"] }));
    for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
    const entry = { urlTemplate: stack.backend.url + TEMPLATE_PATH, forwardHeaders: ["Cookie"] };
    stack.gateway.reload({ allowedOrigins: ["https://app.example"], upstreams: [entry] });
    for (const client of clients) {
      const { status } = await client.answer();
      expect([101, 403]).toContain(status);
      if (status === 101) expect((await stack.backend.next("connect")).head.all("cookie")).toEqual([]);
    }
  }
});
