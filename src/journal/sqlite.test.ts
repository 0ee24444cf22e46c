import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { within } from "../../test/support/deadline.ts";
import { hearing } from "../../test/support/notices.ts";
import type { DueDisconnect, WaitingDisconnect } from "../core/ports/journal.ts";
import type { ConnectionFacts } from "../protocol/facts.ts";
import { JournalFile } from "./journal-file.ts";
import { SqliteJournal } from "./sqlite.ts";

const NOW_MS = 1_700_000_000_000;
const END = { code: 1006, reason: "gateway restarted" };
const ALL = 1_000_000;

let folder: string;
let dataDir: string;
let path: string;
let opened: SqliteJournal[];
let told: string[];
let writableAgain: PromiseWithResolvers<void>;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-journal-"));
  dataDir = join(folder, "data");
  path = join(dataDir, "journal.sqlite");
  opened = [];
  told = [];
  writableAgain = Promise.withResolvers();
});
afterEach(async () => {
  for (const journal of opened) await journal.close();
  rmSync(folder, { recursive: true, force: true });
});

async function open(synchronous: "normal" | "full" = "normal"): Promise<SqliteJournal> {
  const report = hearing({
    "journal-damaged": ({ movedTo }) => void told.push(`damaged: ${movedTo}`),
    "journal-lost": ({ reason }) => void told.push(`lost: ${reason}`),
    "journal-unwritable": () => void told.push("unwritable"),
    "journal-writable": () => {
      told.push("writable");
      writableAgain.resolve();
    },
  });
  const journal = await SqliteJournal.open({ dataDir, synchronous, report });
  opened.push(journal);
  return journal;
}

function factsOf(connectionId: string): ConnectionFacts {
  const facts = { hub: "chat", userId: "ann", claims: "sub: ann; ".repeat(20), clientQuery: "", forwardedFor: "" };
  return { connectionId, ...facts };
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
function idsOf(found: readonly WaitingDisconnect[]): string[] {
  return found.map(({ connectionId }) => connectionId);
}
function modeOf(file: string): number {
  return statSync(file).mode & 0o777;
}

/** Transactions in the log: frames whose head says how large the file is after them. Source: sqlite.org/fileformat2, section 4. */
function countCommits(): number {
  const log = readFileSync(`${path}-wal`);
  const frameSize = 24 + log.readUInt32BE(8);
  let commits = 0;
  for (let at = 32; at + frameSize <= log.length; at += frameSize) {
    const isCurrent = log.readUInt32BE(at + 8) === log.readUInt32BE(16);
    if (isCurrent && log.readUInt32BE(at + 4) > 0) commits++;
  }
  return commits;
}

describe("the file of SqliteJournal", () => {
  test("is its owner's alone, and so are its folder and the files of SQLite next to it", async () => {
    await (await open()).connecting(factsOf("c1"));
    expect(modeOf(dataDir)).toBe(0o700);
    const modes = readdirSync(dataDir).map((name): [string, number] => [name, modeOf(join(dataDir, name))]);
    expect(Object.fromEntries(modes)).toEqual({
      "journal.sqlite": 0o600,
      "journal.sqlite-shm": 0o600,
      "journal.sqlite-wal": 0o600,
    });
  });

  test("no longer holds a settled user's name once it is closed", async () => {
    const journal = await open();
    await journal.connecting(factsOf("c1"));
    await journal.connected("c1", "somebody-in-particular");
    await journal.close();
    expect(readFileSync(path).includes("somebody-in-particular")).toBe(true);
    const again = await open();
    await again.settled("c1");
    await again.close();
    expect(readdirSync(dataDir)).toEqual(["journal.sqlite"]);
    expect(readFileSync(path).includes("somebody-in-particular")).toBe(false);
  });

  test("has everything again after a restart, and never gives a place twice", async () => {
    const journal = await open();
    await journal.connecting(factsOf("c1"));
    await journal.due(dueOf("waits"));
    await journal.due(dueOf("dies"));
    await journal.died("dies", { diedAtMs: NOW_MS, cause: "none", keptForMs: 0 });
    const place = await journal.due(dueOf("gone"));
    await journal.settled("gone");
    await journal.close();
    const again = await open();
    expect(await again.recover(END, NOW_MS)).toBe(1);
    expect(idsOf(await again.waiting(0, ALL))).toEqual(["waits", "c1"]);
    expect((await again.waiting(0, ALL))[1]?.place).toBeGreaterThan(place);
    expect((await again.deadLetters(0, ALL))[0]).toMatchObject({ ...dueOf("dies"), cause: "none", diedAtMs: NOW_MS });
    expect(await again.due(dueOf("c2"))).toBeGreaterThan(place);
  });

  test("cannot be where a file is in the place of its folder", async () => {
    writeFileSync(dataDir, "");
    await expect(open()).rejects.toThrow("the journal cannot be opened");
  });

  test("takes what was called before it was closed, and nothing afterwards", async () => {
    const journal = await open();
    const last = journal.due(dueOf("c1"));
    await journal.close();
    await last;
    await journal.settled("c1");
    await expect(journal.connecting(factsOf("c2"))).rejects.toThrow("closed");
    expect(idsOf(await (await open()).waiting(0, ALL))).toEqual(["c1"]);
  });

  test("that another process holds takes no connection, keeps the rest and shows it, and has it afterwards", async () => {
    const journal = await open();
    await journal.connecting(factsOf("c1"));
    const other = new Database(path);
    other.run("BEGIN IMMEDIATE");
    const refused = await Promise.allSettled([journal.connecting(factsOf("c2")), journal.connected("c1", "ann")]);
    expect(refused.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect([journal.isWritable, told]).toEqual([false, ["unwritable"]]);
    await journal.due(dueOf("c1"));
    expect(await journal.read("c1")).toEqual(dueOf("c1"));
    other.run("ROLLBACK");
    other.close();
    await within(writableAgain.promise, "the journal to be writable again");
    await journal.connecting(factsOf("c3"));
    expect([journal.isWritable, told]).toEqual([true, ["unwritable", "writable"]]);
    expect(idsOf(await journal.waiting(0, ALL))).toEqual(["c1"]);
  });
});

/** Source: sqlite.org/pragma.html#pragma_synchronous: with a log, NORMAL (1) leaves a commit to the kernel, FULL (2) waits for the disk. */
test.each([
  ["normal", 1],
  ["full", 2],
] as const)("synchronous: %s is what SQLite holds on the connection that writes", (synchronous, value) => {
  const run = spyOn(Database.prototype, "run");
  const file = new JournalFile({ dataDir, synchronous, onDamaged: (movedTo) => void told.push(movedTo) });
  file.open();
  const databases = new Set(run.mock.contexts as Database[]);
  run.mockRestore();
  const held = [...databases].map((database) => database.query("PRAGMA synchronous").values());
  file.close();
  expect([held, told]).toEqual([[[[value]]], []]);
});

describe("the batches of SqliteJournal", () => {
  test("a thousand calls of one turn are one transaction", async () => {
    const journal = await open();
    await journal.connecting(factsOf("first"));
    const before = countCommits();
    await Promise.all(Array.from({ length: 1000 }, (_, index) => journal.connecting(factsOf(`c${index}`))));
    expect(countCommits() - before).toBe(1);
  });

  test("what is called while a batch is under way is one more, however many turns that takes", async () => {
    const journal = await open();
    await journal.connecting(factsOf("first"));
    const before = countCommits();
    const calls = Array.from({ length: 5000 }, (_, index) => journal.connecting(factsOf(`c${index}`)));
    for (let turn = 0; turn < 10; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
      calls.push(journal.connecting(factsOf(`turn${turn}`)));
    }
    await Promise.all(calls);
    expect(countCommits() - before).toBeLessThanOrEqual(3);
  });

  test("fifty thousand connections that came and went leave a small file and a bounded log", async () => {
    const journal = await open();
    for (let round = 0; round < 25; round++) {
      const ids = Array.from({ length: 2000 }, (_, index) => `${round}-${index}`);
      await Promise.all(ids.map((id) => journal.connecting(factsOf(id))));
      await Promise.all(ids.map((id) => journal.connected(id, `user-${id}`)));
      await Promise.all(ids.map((id) => journal.settled(id)));
    }
    expect(statSync(path).size).toBeLessThan(8 * 1024 * 1024);
    expect(statSync(`${path}-wal`).size).toBeLessThan(70 * 1024 * 1024);
    await journal.close();
    expect(statSync(path).size).toBeLessThan(8 * 1024 * 1024);
  });
});
