import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { SqliteJournal } from "../../src/journal/sqlite.ts";
import { someFacts } from "../support/core-stage.ts";
import { startTestGateway } from "../support/gateway.ts";
import { ignoreNotices } from "../support/notices.ts";
import { acceptAs, RawBackend } from "../support/raw-backend.ts";
import { RawWebSocket, statusOf } from "../support/raw-websocket.ts";
import { canMount, SmallDisk } from "../support/small-disk.ts";
import { jsonError, ofConnection, Stack, TEMPLATE_PATH } from "../support/stack.ts";

/**
 * A disk that is full, for real. Source: PROTOCOL.md, "Client endpoint": new connects 503, live ones go on, health 503.
 */
setDefaultTimeout(60_000);

/** More clients than two megabytes have room for. */
const MAX_CLIENTS = 5000;

async function health(port: number): Promise<number> {
  return (await fetch(`http://127.0.0.1:${port}/api/health`)).status;
}

/** The status that a new client gets. */
async function knock(port: number): Promise<number> {
  using client = await RawWebSocket.request({ port });
  return statusOf(await client.head());
}

function folderOn(disk: SmallDisk): string {
  const dataDir = join(disk.folder, "data");
  mkdirSync(dataDir, { mode: 0o700 });
  return dataDir;
}

describe.skipIf(!canMount())("a full disk", () => {
  test("while the gateway runs: new clients get 503, the others go on and leave, and space ends it", async () => {
    using disk = new SmallDisk();
    await using stack = await Stack.start({ config: { dataDir: folderOn(disk) } });
    stack.behave();
    const { client: staying } = await stack.connect();
    const leaving = await stack.connect();
    expect(await health(stack.port)).toBe(200);
    disk.fill();
    // What the files have left may take some more.
    let status = 101;
    for (let count = 0; count < MAX_CLIENTS && status === 101; count++) {
      status = await knock(stack.port);
      disk.fill();
    }
    expect(status).toBe(503);
    await stack.gateway.logged("journal cannot be written: new clients get 503 until it can");
    const answer = await (await stack.request()).answer();
    expect([answer.status, jsonError(answer.body).code, answer.head.all("retry-after")]).toEqual([
      503,
      "journal_unavailable",
      ["1"],
    ]);
    expect(await health(stack.port)).toBe(503);
    staying.text("still there?");
    expect(await staying.nextText()).toBe("still there?");
    leaving.client.close(1000);
    await stack.backend.next("disconnect", ofConnection(leaving.connectionId));

    disk.free();
    await stack.gateway.logged("journal can be written again: new clients are accepted");
    expect(await health(stack.port)).toBe(200);
    await stack.cycle();
  });

  test("at the start: it starts, lets nobody in, and recovers once there is space", async () => {
    using disk = new SmallDisk();
    const dataDir = folderOn(disk);
    disk.fill();
    await using backend = await RawBackend.start();
    backend.onConnect = acceptAs("alice");
    const upstreams = [{ urlTemplate: backend.url + TEMPLATE_PATH }];
    await using gateway = await startTestGateway({ dataDir, upstreams });
    expect([await health(gateway.port), await knock(gateway.port)]).toEqual([503, 503]);
    disk.free();
    await gateway.logged("journal can be written again: new clients are accepted");
    expect([await health(gateway.port), await knock(gateway.port)]).toEqual([200, 101]);
    await backend.next("disconnect");
    await backend.stop();
  });

  test("at the start, where an earlier process left somebody behind: the disconnect is sent once there is space", async () => {
    using disk = new SmallDisk();
    const dataDir = folderOn(disk);
    const earlier = await SqliteJournal.open({ dataDir, synchronous: "normal", report: ignoreNotices });
    await earlier.connecting(someFacts({ connectionId: "left-behind" }));
    await earlier.connected("left-behind", "alice");
    await earlier.close();
    disk.fill();
    await using backend = await RawBackend.start();
    const upstreams = [{ urlTemplate: backend.url + TEMPLATE_PATH }];
    await using gateway = await startTestGateway({ dataDir, upstreams });
    expect(await health(gateway.port)).toBe(503);
    expect(backend.of("disconnect")).toEqual([]);
    disk.free();
    const disconnect = await backend.next("disconnect", ofConnection("left-behind"));
    expect(disconnect.header("X-Hubwire-Close-Reason")).toBe("gateway restarted");
    await backend.stop();
  });
});
