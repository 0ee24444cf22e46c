import { Database } from "bun:sqlite";
import { expect, setDefaultTimeout } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SqliteJournal } from "../../src/journal/sqlite.ts";
import { type ConnectionFacts, parseFacts, type RareFacts } from "../../src/protocol/facts.ts";
import { Cluster } from "../support/cluster.ts";
import { until, within } from "../support/deadline.ts";
import { EVERY_FACT } from "../support/facts.ts";
import { needs } from "../support/programs.ts";
import { acknowledge, RawBackend } from "../support/raw-backend.ts";
import { ofConnection } from "../support/stack.ts";

const { test } = needs("nats-server");

setDefaultTimeout(180_000);

const CONNECTION_ID = "AAAAAAAAAAAAAAAAAAAAAA";
const PATIENCE_MS = 60_000;

/** The record with every fact. Its user shows whether the bytes of the id are kept. */
const FACTS = { ...EVERY_FACT, connectionId: CONNECTION_ID, userId: "j\u00f6rg" };

/** Facts by name; `RareFacts` also has those of newer versions, which have none. */
type FactName =
  | Exclude<keyof ConnectionFacts, "rare">
  | keyof { [Name in keyof RareFacts as string extends Name ? never : Name]: 0 };

/** How the disconnect event shows each fact. The type makes it complete: `tsc` asks for a fact that is added. */
const HEADERS: Readonly<Record<FactName, readonly [name: string, value: string]>> = {
  connectionId: ["X-ASRS-Connection-Id", CONNECTION_ID],
  hub: ["X-ASRS-Hub", FACTS.hub],
  userId: ["X-ASRS-User-Id", "j\u00f6rg"],
  // In UTF-8 the same user would be other bytes.
  userIdCoding: ["X-ASRS-User-Id", "j\u00f6rg"],
  claims: ["X-ASRS-User-Claims", FACTS.claims],
  clientQuery: ["X-ASRS-Client-Query", FACTS.clientQuery],
  forwardedFor: ["X-Forwarded-For", FACTS.forwardedFor],
  clientPath: ["X-Hubwire-Client-Path", FACTS.rare.clientPath],
  dialect: ["X-ASRS-Event", "disconnect"],
  // No header shows it: the facts in the journal do, below.
  encoding: ["X-ASRS-Event", "disconnect"],
};

/** The facts of the connection that a node's journal has in one text; null without a row. */
function factsIn(dataDir: string): unknown {
  using database = new Database(join(dataDir, "journal.sqlite"), { readonly: true });
  const row = database
    .query<{ facts: string }, [string]>("SELECT facts FROM connections WHERE id = ?")
    .get(CONNECTION_ID);
  return row === null ? null : parseFacts(row.facts);
}

async function writeJournal(dataDir: string): Promise<void> {
  const journal = await SqliteJournal.open({ dataDir, synchronous: "normal", report: () => {} });
  await journal.connecting(FACTS);
  await journal.connected(CONNECTION_ID, FACTS.userId);
  await journal.close();
}

test("every fact of a connection goes through the file, the replica, a takeover and a restart to the disconnect event", async () => {
  const dataDir = mkdtempSync(join(tmpdir(), "hubwire-facts-"));
  try {
    await writeJournal(dataDir);
    await using backend = await RawBackend.start();
    backend.onDisconnect = (exchange) => exchange.reply(503);
    await using cluster = await Cluster.start({ nodeCount: 0, urlTemplate: `${backend.url}/{hub}/api/{event}` });

    const gone = await cluster.add({ dataDir });
    await cluster.copied([CONNECTION_ID]);
    const heir = await cluster.add();
    gone.kill("SIGKILL");
    await within(gone.ended, "the killed node's end");
    await until(() => factsIn(heir.dataDir) !== null, "the takeover", PATIENCE_MS);
    heir.kill("SIGKILL");
    await within(heir.ended, "the end of the node that took over");
    const { connectionId: _id, hub: _hub, userId: _user, ...others } = FACTS;
    expect(factsIn(heir.dataDir)).toEqual(others);

    const before = backend.of("disconnect", ofConnection(CONNECTION_ID)).length;
    backend.onDisconnect = acknowledge;
    await cluster.add({ dataDir: heir.dataDir });
    const events = () => backend.of("disconnect", ofConnection(CONNECTION_ID));
    await until(() => events().length > before, "the disconnect event, after the restart", PATIENCE_MS);
    const last = events().at(-1);
    for (const [name, value] of Object.values(HEADERS)) expect([name, last?.head.header(name)]).toEqual([name, value]);
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
});
