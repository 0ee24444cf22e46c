import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, rmSync } from "node:fs";
import { CommandGateway } from "../support/command-gateway.ts";
import { DEADLINE_MS, within } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { Crowd } from "./crash/crowd.ts";
import { Witness } from "./crash/witness.ts";
import { Dice } from "./support/dice.ts";
import { inForm, recordFigure } from "./support/form.ts";
import { LedgerBackend, orderly } from "./support/ledger-backend.ts";

/**
 * kill -9 of the gateway under connecting, chatting and leaving clients: every connect that the backend answered with 2xx
 * has its disconnect. Source: PROTOCOL.md, "After a crash".
 *
 * `HUBWIRE_CRASH_SEED` repeats a run's choices; what the machine does in between is its own.
 */
setDefaultTimeout(10 * 60_000);

const KILLS = inForm({ short: 4, long: 20 });
const CLIENTS = inForm({ short: 40, long: 300 });
/** The longest that a gateway lives before it is killed. */
const MAX_LIFE_MS = inForm({ short: 1200, long: 4000 });

const seed = Number(process.env["HUBWIRE_CRASH_SEED"] ?? Date.now() % 1_000_000_007);

test(`kill -9 ${KILLS} times under ${CLIENTS} clients loses no disconnect (seed ${seed})`, async () => {
  console.log(`HUBWIRE_CRASH_SEED=${seed}`);
  const dice = new Dice(seed);
  await using witness = await Witness.start(dice);
  const { ledger, urlTemplate } = witness.backend;
  // All clients come from one address, and all at once where the gateway starts again.
  const limits = { maxPendingUpgradesPerAddress: 1024 };
  const config = { accessKeys: KEYS, upstreams: [{ urlTemplate }], limits, shutdown: { spreadMs: 0 } };
  // The first one's folder is everybody's, so it is removed last.
  await using first = await CommandGateway.start({ through: "bun", config });
  let gateway = first;
  const crowd = new Crowd({ size: CLIENTS, dice: new Dice(seed, 1), port: () => gateway.port });
  const faultLines: string[] = [];
  for (let kill = 0; kill < KILLS; kill++) {
    // A moment that nothing announces is what is wanted here.
    await Bun.sleep(50 + dice.below(MAX_LIFE_MS));
    gateway.kill("SIGKILL");
    await within(gateway.ended, "the killed gateway's end");
    faultLines.push(...faultsOf(gateway));
    gateway = await restart(first, config);
  }
  await Bun.sleep(dice.below(500));
  await crowd.disperse();
  await ledger.settled(4 * DEADLINE_MS);
  gateway.kill("SIGTERM");
  expect(await within(gateway.ended, "the last gateway's exit")).toBe(0);
  faultLines.push(...faultsOf(gateway));
  await gateway[Symbol.asyncDispose]();

  const { acceptedCount, duplicates, owed } = ledger;
  console.log(
    `accepted ${acceptedCount}, ended by a crash ${witness.restarted.size}, lost = ${owed}, duplicates = ${duplicates}`,
  );
  expect(owed).toBe(0);
  expect(witness.faults).toEqual([]);
  expect(faultLines).toEqual([]);
  // Otherwise nothing was proved.
  expect(acceptedCount).toBeGreaterThan(CLIENTS);
  expect(witness.restarted.size).toBeGreaterThan(KILLS);
  recordFigure(
    `kill -9 ${KILLS} times under ${CLIENTS} clients: connects accepted, of these ended by a crash`,
    `${acceptedCount}, ${witness.restarted.size}`,
    "",
  );
  recordFigure("disconnects lost; duplicates", `${owed}; ${duplicates}`, "0; said");
});

test("a disconnect that waits for another try keeps its own end over a kill -9", async () => {
  let isDown = true;
  const seen: { code: string; reason: string; eventId: string }[] = [];
  const second = Promise.withResolvers<void>();
  await using backend = await LedgerBackend.start({
    respond: ({ event, header }) => {
      if (event !== "disconnect") return orderly(200, ["X-ASRS-User-Id: alice"]);
      const [code, reason] = [header("x-hubwire-close-code"), header("x-hubwire-close-reason")];
      seen.push({ code, reason, eventId: header("x-hubwire-event-id") });
      if (seen.length === 2) second.resolve();
      return orderly(isDown ? 500 : 204);
    },
  });
  const config = { accessKeys: KEYS, upstreams: [{ urlTemplate: backend.urlTemplate }] };
  await using first = await CommandGateway.start({ through: "bun", config });
  using client = await RawWebSocket.open({ port: first.port });
  client.close(4001, "mine");
  // The second try is made from the journal, so by then it is there.
  await within(second.promise, "the second try");
  first.kill("SIGKILL");
  await first.ended;
  const before = seen.length;
  isDown = false;
  await using next = await restart(first, config);
  await backend.ledger.until(() => seen.length > before, "the try after the restart");
  expect(new Set(seen.map(({ code, reason, eventId }) => `${code} ${reason} ${eventId}`)).size).toBe(1);
  expect(seen.at(-1)).toMatchObject({ code: "4001", reason: "mine" });
  expect(faultsOf(next)).toEqual([]);
});

test("a copy of the data folder that was taken while the gateway ran is as good as the folder", async () => {
  await using backend = await LedgerBackend.start({
    respond: ({ event }) => orderly(event === "connect" ? 200 : 204, ["X-ASRS-User-Id: alice"]),
  });
  const config = { accessKeys: KEYS, upstreams: [{ urlTemplate: backend.urlTemplate }] };
  await using first = await CommandGateway.start({ through: "bun", config });
  using _client = await RawWebSocket.open({ port: first.port });
  const copy = `${first.dataDir}-copy`;
  try {
    cpSync(first.dataDir, copy, { recursive: true, filter: (path) => !path.endsWith("control.sock") });
    first.kill("SIGKILL");
    await first.ended;
    await using _next = await CommandGateway.start({ through: "bun", config: { ...config, dataDir: copy } });
    await backend.ledger.settled();
    expect([...backend.ledger.accounts.values()].map(({ closeReason }) => closeReason)).toEqual(["gateway restarted"]);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
});

/** A new process on the folder of one that has ended. */
async function restart(first: CommandGateway, config: Readonly<Record<string, unknown>>): Promise<CommandGateway> {
  return await CommandGateway.start({ through: "bun", config: { ...config, dataDir: first.dataDir } });
}

function faultsOf(gateway: CommandGateway): string[] {
  return gateway
    .logLines()
    .filter(({ msg }) => msg === "fault of the service")
    .map((line) => JSON.stringify(line));
}
