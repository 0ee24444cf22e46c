import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { within } from "../../test/support/deadline.ts";
import { JournalThreads } from "../../test/support/journal-threads.ts";
import { hearing } from "../../test/support/notices.ts";
import type { DueDisconnect } from "../core/ports/journal.ts";
import type { ConnectionFacts } from "../protocol/facts.ts";
import { SqliteJournal } from "./sqlite.ts";

const NOW_MS = 1_700_000_000_000;
const END = { code: 1006, reason: "gateway restarted" };

let folder: string;
let threads: JournalThreads;
let opened: SqliteJournal[];
let told: string[];
let writableAgain: PromiseWithResolvers<void>;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-journal-"));
  threads = new JournalThreads();
  opened = [];
  told = [];
  writableAgain = Promise.withResolvers();
});
afterEach(async () => {
  for (const journal of opened) await journal.close();
  threads[Symbol.dispose]();
  rmSync(folder, { recursive: true, force: true });
});

async function open(): Promise<SqliteJournal> {
  const report = hearing({
    "journal-damaged": () => void told.push("damaged"),
    "journal-lost": ({ reason }) => void told.push(`lost: ${reason}`),
    "journal-unwritable": ({ reason }) => void told.push(reason),
    "journal-writable": () => {
      told.push("writable");
      writableAgain.resolve();
    },
  });
  const journal = await SqliteJournal.open({ dataDir: join(folder, "data"), synchronous: "normal", report });
  opened.push(journal);
  return journal;
}

function factsOf(connectionId: string): ConnectionFacts {
  return { connectionId, hub: "chat", userId: "ann", claims: "", clientQuery: "", forwardedFor: "" };
}
function dueOf(connectionId: string): DueDisconnect {
  return {
    facts: factsOf(connectionId),
    end: END,
    connectOutcomeUnknown: false,
    dueSinceMs: NOW_MS,
    triedForMs: 0,
    refusedForMs: 0,
  };
}
async function refusalOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "not refused",
    (error: Error) => error.message,
  );
}

describe("the thread of SqliteJournal", () => {
  test("that copies the WAL may be refused by the system: accepted connections stay in the journal", async () => {
    const journal = await open();
    threads.refusal = "no thread to give";
    const ids = Array.from({ length: 5000 }, (_, index) => `c${index}`);
    await Promise.all(ids.map((id) => journal.connecting(factsOf(id))));
    threads.refusal = null;
    expect(told).toEqual([]);
    // All kept writes are written now.
    threads.kill();
    await within(writableAgain.promise, "the journal to be writable again");
    await journal.close();
    expect(await (await open()).recover(END, NOW_MS)).toBe(5000);
  });

  test("that hangs in a call of the system's keeps close for a few seconds only", async () => {
    const journal = await open();
    await journal.connecting(factsOf("c1"));
    threads.hang();
    const refused = refusalOf(journal.connecting(factsOf("c2")));
    const kept = journal.due(dueOf("c1"));
    await within(journal.close(), "the journal's end");
    expect(await within(refused, "the connect")).toContain("the journal's thread was ended");
    await within(kept, "the disconnect");
  });

  test("that hangs keeps no process from its end", async () => {
    const script = `
      import { JournalThreads } from ${JSON.stringify(join(import.meta.dir, "../../test/support/journal-threads.ts"))};
      import { SqliteJournal } from ${JSON.stringify(join(import.meta.dir, "sqlite.ts"))};
      const threads = new JournalThreads();
      const report = () => {};
      const dataDir = ${JSON.stringify(join(folder, "data"))};
      const journal = await SqliteJournal.open({ dataDir, synchronous: "normal", report });
      threads.hang();
      await journal.close();
    `;
    const child = Bun.spawn([process.execPath, "-e", script], {
      stdin: "ignore",
      stdout: "inherit",
      stderr: "inherit",
    });
    try {
      expect(await within(child.exited, "the end of the process")).toBe(0);
    } finally {
      child.kill("SIGKILL");
    }
  });
});
