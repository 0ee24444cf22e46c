import { expect, setDefaultTimeout } from "bun:test";
import { rmSync } from "node:fs";
import { IS_LONG, recordFigure } from "../reliability/support/form.ts";
import { LedgerBackend, orderly } from "../reliability/support/ledger-backend.ts";
import { Cluster } from "../support/cluster.ts";
import { within } from "../support/deadline.ts";
import { needs } from "../support/programs.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";

const { afterEach, beforeEach, describe, test } = needs("nats-server");

/**
 * kill -9 of a node in the middle of a storm of connects, and its folder deleted: another node sends every disconnect that is owed, those
 * of the last moments too.
 */
setDefaultTimeout(300_000);

const ROUNDS = IS_LONG ? 20 : 3;
const CLIENTS = 300;

/** A round's node dies when so many of its clients have been accepted: another number each time. */
const killAfter = (round: number) => 40 + 11 * round;

/** Lease, takeover and all retries. */
const PATIENCE_MS = 90_000;

let backend: LedgerBackend;
let cluster: Cluster;
let onAccept: () => void;

beforeEach(async () => {
  onAccept = () => {};
  backend = await LedgerBackend.start({
    respond: ({ event }) => {
      if (event !== "connect") return orderly(204);
      onAccept();
      return orderly(200, ["X-ASRS-User-Id: user"]);
    },
  });
  cluster = await Cluster.start({ nodeCount: 1, urlTemplate: backend.urlTemplate });
});
afterEach(async () => {
  await cluster[Symbol.asyncDispose]();
  await backend.stop();
});

/** Starts a node, lets all clients come at once, and kills it in the middle. Resolves when it has ended, and its folder with it. */
async function runStorm(round: number): Promise<void> {
  const node = await cluster.add();
  let accepted = 0;
  onAccept = () => {
    if (++accepted === killAfter(round)) node.kill("SIGKILL");
  };
  const clients = Array.from({ length: CLIENTS }, () =>
    RawWebSocket.open({ port: node.port, path: "/ws/client/hubs/storm" }).catch(() => null),
  );
  await within(node.ended, "the killed node's end");
  rmSync(node.folder, { recursive: true, force: true });
  for (const client of await Promise.all(clients)) client?.destroy();
}

describe("a node that is killed in a storm of connects, and never comes back", () => {
  test(`${ROUNDS} times: no disconnect is lost`, async () => {
    for (let round = 0; round < ROUNDS; round++) await runStorm(round);
    const { ledger } = backend;
    await ledger.settled(PATIENCE_MS).catch(() => null);
    const { acceptedCount, duplicates, owed } = ledger;
    recordFigure(
      `kill -9 of a node in a storm of connects, its folder deleted, ${ROUNDS} times: connects accepted; lost; duplicates`,
      `${acceptedCount}; ${owed}; ${duplicates}`,
      "0 lost",
    );
    expect(acceptedCount).toBeGreaterThanOrEqual(ROUNDS * killAfter(0));
    expect(owed).toBe(0);
    expect(cluster.faults()).toEqual([]);
  });
});
