import { Database } from "bun:sqlite";
import { expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SqliteJournal } from "../../src/journal/sqlite.ts";
import { CommandGateway } from "../support/command-gateway.ts";
import { Gate } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { IS_LONG, recordFigure } from "./support/form.ts";
import { LedgerBackend, orderly } from "./support/ledger-backend.ts";

/** What the journal promises beyond crashes. Source: ARCHITECTURE.md, "The journal". */
setDefaultTimeout(5 * 60_000);

const CLIENTS = 100;

test("a journal that was damaged behind a kill -9 keeps nobody from the start, and what can be read of it is sent", async () => {
  const gate = new Gate();
  await using backend = await LedgerBackend.start({
    respond: async ({ event }) => {
      if (event === "disconnect") await gate.opened;
      return orderly(event === "connect" ? 200 : 204, ["X-ASRS-User-Id: alice"]);
    },
  });
  const config = { accessKeys: KEYS, upstreams: [{ urlTemplate: backend.urlTemplate }] };
  await using first = await CommandGateway.start({ through: "bun", config });
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => RawWebSocket.open({ port: first.port })));
  first.kill("SIGKILL");
  await first.ended;
  for (const client of clients) client.destroy();
  overwriteStart(join(first.dataDir, "journal.sqlite"));

  await using next = await CommandGateway.start({ through: "bun", config: { ...config, dataDir: first.dataDir } });
  const [line] = next.logLines().filter(({ msg }) => msg === "journal damaged: moved aside");
  expect(line?.["reason"]).toContain(`the new file has ${CLIENTS} connections of it`);
  // The backend has answered none of them yet.
  expect((await fetch(`http://127.0.0.1:${next.port}/api/health`)).status).toBe(200);
  expect(backend.ledger.owed).toBeGreaterThan(0);
  using _client = await RawWebSocket.open({ port: next.port });
  gate.open();
  await backend.ledger.until(() => backend.ledger.owed === 1, "all disconnects but that of who is there");
  expect(backend.ledger.duplicates).toBe(0);
});

/** Somebody's stray write over a database whose log has been played. */
function overwriteStart(path: string): void {
  const database = new Database(path);
  database.run("PRAGMA wal_checkpoint(TRUNCATE)");
  database.close();
  const file = openSync(path, "r+");
  writeSync(file, "a line of some log\n".repeat(20), 0);
  closeSync(file);
}

// Times mean nothing in the short form.
if (IS_LONG) {
  test.each([
    ["normal", 5],
    ["full", null],
  ] as const)("both writes of a connect: p99 with synchronous: %s", async (synchronous, heldMs) => {
    const folder = mkdtempSync(join(tmpdir(), "hubwire-journal-"));
    const unexpected = (): never => {
      throw new Error("the disk is at fault");
    };
    const journal = await SqliteJournal.open({ dataDir: folder, synchronous, report: unexpected });
    try {
      const took: number[] = [];
      let number = 0;
      const client = async (): Promise<void> => {
        while (number < CONNECTS) took.push(await connect(journal, number++));
      };
      const startedMs = performance.now();
      await Promise.all(Array.from({ length: AT_ONCE }, client));
      const perSecond = Math.round((CONNECTS / (performance.now() - startedMs)) * 1000);
      took.sort((one, other) => one - other);
      const [median = 0, p99 = 0] = [took[took.length / 2], took[Math.floor(took.length * 0.99)]];
      recordFigure(
        `Journal, ${AT_ONCE} connects at once, synchronous: ${synchronous}: both writes of a connect, median; p99`,
        `${median.toFixed(1)} ms; ${p99.toFixed(1)} ms (${perSecond} connects a second)`,
        heldMs === null ? "" : `p99 ${heldMs} ms`,
      );
      expect(p99).toBeLessThanOrEqual(heldMs ?? Number.POSITIVE_INFINITY);
    } finally {
      await journal.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

const CONNECTS = 40_000;
const AT_ONCE = 64;

/** Enters a connection and takes it out again; returns how long the two writes took that a client waits for. */
async function connect(journal: SqliteJournal, number: number): Promise<number> {
  const connectionId = `0123456789012345${String(number).padStart(6, "0")}`;
  const facts = { hub: "chat", userId: null, claims: "sub: alice, role: reader", clientQuery: "room=7" };
  const startedMs = performance.now();
  await journal.connecting({ ...facts, connectionId, forwardedFor: "192.0.2.1" });
  await journal.connected(connectionId, "alice");
  const tookMs = performance.now() - startedMs;
  await journal.settled(connectionId);
  return tookMs;
}
