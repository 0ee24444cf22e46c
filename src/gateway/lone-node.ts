import { randomBytes } from "node:crypto";
import { MemoryBroker } from "../broker/memory.ts";
import type { Config } from "../config/schema.ts";
import { combineReports } from "../core/combine-reports.ts";
import { findAbsence } from "../journal/absent-file.ts";
import { SqliteJournal } from "../journal/sqlite.ts";
import type { Report } from "../protocol/notices.ts";
import { SqliteRuleStore } from "../rules/sqlite.ts";
import type { NodeParts, StopStack } from "./wiring.ts";

/** 16 random bytes: 128 bits, 22 characters of base64url. Source: PROTOCOL.md, "Words". */
const CONNECTION_ID_BYTES = 16;

/** A new connection's own part of its id. */
export function randomConnectionId(): string {
  return randomBytes(CONNECTION_ID_BYTES).toString("base64url");
}

/** Builds what a gateway of one node has of its own: files in `dataDir`, and a broker that reaches this process only. */
export async function buildLoneNode(
  config: Config,
  { report, stack, wasUsed }: { report: Report; stack: StopStack; wasUsed: boolean },
): Promise<NodeParts> {
  // First: where a newer version wrote this file, the journal stays as it is too.
  const ruleStore = new SqliteRuleStore({ dataDir: config.dataDir, report });
  stack.push(() => ruleStore.close());
  const late: { onWritable: () => void } = { onWritable: () => {} };
  const journal = await openLocalJournal(config, { report, wasUsed, onWritable: () => late.onWritable() });
  stack.push(() => journal.close());
  return {
    journal,
    ruleStore,
    makeBroker: (handler) => new MemoryBroker(handler),
    newConnectionId: randomConnectionId,
    isOwn: () => true,
    isReady: () => {
      ruleStore.checkFile();
      return journal.checkFile();
    },
    renewCertificates: () => [],
    journalQueueLength: () => journal.queueLength,
    start: async (core) => {
      late.onWritable = () => core.redelivery.start();
      await core.rules.load();
    },
  };
}

/** Opens the journal in `dataDir`, and says so where an earlier one is gone. `onWritable`: it could be opened or written only later; what was there turns up now. */
export function openLocalJournal(
  { dataDir, journal: { synchronous } }: Config,
  on: { readonly report: Report; readonly wasUsed: boolean; readonly onWritable: () => void },
): Promise<SqliteJournal> {
  const absence = findAbsence(dataDir, on.wasUsed);
  if (absence !== null) on.report({ kind: "journal-absent", reason: absence });
  const report = combineReports(on.report, ({ kind }) => {
    if (kind === "journal-writable") on.onWritable();
  });
  return SqliteJournal.open({ dataDir, synchronous, report });
}
