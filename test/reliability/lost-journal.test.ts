import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { health } from "../support/cluster.ts";
import { CommandGateway } from "../support/command-gateway.ts";
import { until } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { LedgerBackend, orderly } from "./support/ledger-backend.ts";

/** The journal's files are removed or emptied by somebody else, under a gateway that runs or is stopped. */
setDefaultTimeout(5 * 60_000);

const CLIENTS = 6;

const LOST = "journal lost while in use: a new one is written from memory";
const ABSENT = "journal lost while hubwire was stopped: clients of the last run may get no disconnect event";

async function startBackend(): Promise<LedgerBackend> {
  return await LedgerBackend.start({
    respond: ({ event }) => orderly(event === "connect" ? 200 : 204, ["X-ASRS-User-Id: alice"]),
  });
}

async function connect(port: number): Promise<RawWebSocket[]> {
  return await Promise.all(Array.from({ length: CLIENTS }, () => RawWebSocket.open({ port })));
}

function remove(dataDir: string): void {
  for (const end of ["", "-wal", "-shm"]) rmSync(join(dataDir, `journal.sqlite${end}`));
}

function empty(dataDir: string): void {
  truncateSync(join(dataDir, "journal.sqlite"));
}

test.each([
  ["removed", remove],
  ["emptied", empty],
] as const)("a journal that is %s under a running gateway: a kill -9 then loses no disconnect", async (_what, lose) => {
  await using backend = await startBackend();
  const config = { accessKeys: KEYS, upstreams: [{ urlTemplate: backend.urlTemplate }] };
  await using first = await CommandGateway.start({ through: "bun", config });
  const clients = await connect(first.port);
  lose(first.dataDir);
  await first.logged(LOST);
  await first.logged("journal can be written again: new clients are accepted");
  await until(async () => (await health(first.port)) === 200, "the health to be 200");
  const later = await connect(first.port);
  first.kill("SIGKILL");
  await first.ended;
  for (const client of [...clients, ...later]) client.destroy();
  await using _next = await CommandGateway.start({ through: "bun", config: { ...config, dataDir: first.dataDir } });
  await backend.ledger.settled();
  expect([backend.ledger.acceptedCount, backend.ledger.owed, backend.ledger.duplicates]).toEqual([2 * CLIENTS, 0, 0]);
});

test("the health is 503 with the check that finds the journal gone, and new clients get 503", async () => {
  await using backend = await startBackend();
  const config = { accessKeys: KEYS, upstreams: [{ urlTemplate: backend.urlTemplate }] };
  await using gateway = await CommandGateway.start({ through: "bun", config });
  const seen: number[] = [];
  // The look of each second may come first, so it is gone more than once.
  const find = async () => {
    remove(gateway.dataDir);
    seen.push(await health(gateway.port));
    await until(async () => (await health(gateway.port)) === 200, "the health to be 200");
    return seen.includes(503);
  };
  await until(find, "a health of 503");
});

test.each([
  ["is missing", remove, "the folder was used before, and journal.sqlite is missing"],
  ["has no bytes next to its WAL", empty, "journal.sqlite has no bytes and its WAL has some: moved to "],
] as const)("a journal that %s at a start is an error line", async (_what, lose, reason) => {
  await using backend = await startBackend();
  const config = { accessKeys: KEYS, upstreams: [{ urlTemplate: backend.urlTemplate }] };
  await using first = await CommandGateway.start({ through: "bun", config });
  expect(first.logLines().filter(({ msg }) => msg === ABSENT)).toEqual([]);
  const clients = await connect(first.port);
  first.kill("SIGKILL");
  await first.ended;
  for (const client of clients) client.destroy();
  lose(first.dataDir);
  await using next = await CommandGateway.start({ through: "bun", config: { ...config, dataDir: first.dataDir } });
  expect((await next.logged(ABSENT))["reason"]).toStartWith(reason);
  expect(await health(next.port)).toBe(200);
});
