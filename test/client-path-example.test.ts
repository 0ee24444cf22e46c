import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { COMMANDS_TIMEOUT_MS, findFreePort, REPOSITORY, startCommand } from "./support/command.ts";
import { RawWebSocket } from "./support/raw-websocket.ts";

setDefaultTimeout(COMMANDS_TIMEOUT_MS);

const PROTOCOL = readFileSync(join(REPOSITORY, "PROTOCOL.md"), "utf8");

/** The code block of PROTOCOL.md whose fence says this, word for word but for the backend's port. */
function block(fence: string, port: number): string {
  const [, code] = new RegExp(`^\`\`\`${fence}\n([\\s\\S]*?)^\`\`\`$`, "m").exec(PROTOCOL) ?? [];
  if (code === undefined) throw new Error(`PROTOCOL.md has no block \`\`\`${fence}`);
  return code.replaceAll("7071", String(port));
}

test("the chargers of PROTOCOL.md connect on their path, are known by it, and are answered", async () => {
  const folder = mkdtempSync(join(tmpdir(), "hubwire-chargers-"));
  try {
    const [backendPort, port] = [await findFreePort(), await findFreePort()];
    writeFileSync(join(folder, "chargers.mjs"), block("js chargers.mjs", backendPort));
    writeFileSync(join(folder, "hubwire.yaml"), block("yaml hubwire.yaml", backendPort));
    await using backend = startCommand("node chargers.mjs", { cwd: folder });
    await backend.printed(/the backend listens on port \d+/);
    const env = { HUBWIRE_LISTEN_PORT: String(port) };
    await using gateway = startCommand(`npx hubwire start --config ${folder}/hubwire.yaml`, { env });
    await gateway.printed(/^hubwire listens on /m);

    const lines = ["Sec-WebSocket-Protocol: ocpp1.6"];
    using charger = await RawWebSocket.request({ port, path: "/ocpp/CP%20001", lines });
    expect((await charger.upgraded()).header("Sec-WebSocket-Protocol")).toBe("ocpp1.6");
    charger.text('[2,"1","BootNotification",{"chargePointModel":"m","chargePointVendor":"v"}]');
    const [type, call, payload] = JSON.parse(await charger.nextText()) as [number, string, { status: string }];
    expect([type, call, payload.status]).toEqual([3, "1", "Accepted"]);
    charger.text('[2,"2","Heartbeat",{}]');
    expect(await charger.nextText()).toBe('[3,"2",{}]');
    charger.close(1000);
    await backend.printed(/^CP 001 has left$/m);

    using page = await RawWebSocket.request({ port, path: "/ocpp/CP001", lines: ["Origin: https://a.example"] });
    expect((await page.answer()).status).toBe(403);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
