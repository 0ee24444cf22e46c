import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { within } from "../../test/support/deadline.ts";
import { hearing } from "../../test/support/notices.ts";
import type { DueDisconnect } from "../core/ports/journal.ts";
import type { ConnectionFacts } from "../protocol/facts.ts";
import { findAbsence } from "./absent-file.ts";
import { SqliteJournal } from "./sqlite.ts";

const NOW_MS = 1_700_000_000_000;
const END = { code: 1006, reason: "gateway restarted" };

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

async function open(where = dataDir): Promise<SqliteJournal> {
  const report = hearing({
    "journal-damaged": ({ movedTo }) => void told.push(`moved to ${movedTo.slice(movedTo.lastIndexOf("/") + 1)}`),
    "journal-lost": ({ reason }) => void told.push(reason),
    "journal-unwritable": () => void told.push("unwritable"),
    "journal-writable": () => {
      told.push("writable");
      writableAgain.resolve();
    },
  });
  const journal = await SqliteJournal.open({ dataDir: where, synchronous: "normal", report });
  opened.push(journal);
  return journal;
}

function factsOf(connectionId: string): ConnectionFacts {
  return { connectionId, hub: "chat", userId: "ann", claims: "sub: ann", clientQuery: "?q=1", forwardedFor: "::1" };
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

/** One connection in each state that owes a disconnect: of an earlier process, connecting, connected, waiting. */
async function fill(): Promise<SqliteJournal> {
  const earlier = await open();
  await earlier.connecting(factsOf("earlier"));
  await earlier.close();
  const journal = await open();
  await journal.recover(END, NOW_MS);
  await journal.connecting(factsOf("begun"));
  await journal.connecting(factsOf("connected"));
  await journal.connected("connected", "bob");
  await journal.connecting(factsOf("left"));
  await journal.settled("left");
  await journal.due(dueOf("waiting"));
  return journal;
}

/** What the next process finds, were this one killed now: id and user of each disconnect that it owes. */
async function foundAfterCrash(): Promise<string[]> {
  const image = join(folder, "image");
  cpSync(dataDir, image, { recursive: true });
  const next = await open(image);
  await next.recover(END, NOW_MS);
  const waiting = await next.waiting(0, 100);
  const found = await Promise.all(waiting.map(({ connectionId }) => next.read(connectionId)));
  return found.map((due) => `${due?.facts.connectionId} ${due?.facts.userId}`).sort();
}

const OWED = ["begun ann", "connected bob", "earlier ann", "waiting ann"];

function remove(...companions: readonly string[]): void {
  for (const companion of companions) rmSync(path + companion);
}

const LOSSES: readonly (readonly [string, () => void, string])[] = [
  ["file and log are removed", () => remove("", "-wal", "-shm"), "journal.sqlite was removed"],
  ["the file alone is removed", () => remove(""), "journal.sqlite was removed"],
  ["the log alone is removed", () => remove("-wal"), "journal.sqlite-wal was removed"],
  ["the log's index is removed", () => remove("-shm"), "journal.sqlite-shm was removed"],
  ["the folder is removed", () => rmSync(dataDir, { recursive: true }), "journal.sqlite was removed"],
  ["the file is emptied", () => truncateSync(path), "journal.sqlite was emptied"],
  [
    "file and log are emptied",
    () => {
      // The file last: the journal's thread watches it.
      truncateSync(`${path}-wal`);
      truncateSync(path);
    },
    "journal.sqlite was emptied",
  ],
  [
    "another file is in its place",
    () => {
      remove("", "-wal", "-shm");
      writeFileSync(path, "a backup");
    },
    "journal.sqlite was replaced by another file",
  ],
  ["the file is cut", () => truncateSync(path, 4096), "journal.sqlite was cut from"],
];

describe("SqliteJournal whose file is lost while it is open", () => {
  test.each(LOSSES)(
    "when %s, a new one has all that is owed, and a kill then loses nothing",
    async (_what, lose, why) => {
      const journal = await fill();
      lose();
      // As a health check does.
      expect([journal.checkFile(), journal.isWritable]).toEqual([false, false]);
      expect(told[0]).toStartWith(why);
      const refused = await journal.connecting(factsOf("new")).catch((error: Error) => error.message);
      expect(refused).toContain(why);
      await within(writableAgain.promise, "the journal to be written again");
      expect(told.filter((line) => !line.startsWith("moved to"))).toEqual([told[0] ?? "", "unwritable", "writable"]);
      expect([journal.checkFile(), journal.isWritable]).toEqual([true, true]);
      await journal.connecting(factsOf("later"));
      expect(await foundAfterCrash()).toEqual([...OWED, "later ann"].sort());
    },
  );

  test("it is noticed within a second where nobody asks", async () => {
    await fill();
    remove("");
    await within(writableAgain.promise, "the journal to be written again");
    expect(told).toEqual(["journal.sqlite was removed", "unwritable", "moved to journal.sqlite.damaged-1", "writable"]);
    expect(await foundAfterCrash()).toEqual(OWED);
  });

  test("what ends, waits and dies while it is written anew is in the new one as it ended", async () => {
    const journal = await fill();
    remove("", "-wal", "-shm");
    journal.checkFile();
    await Promise.all([
      journal.settled("begun"),
      journal.due(dueOf("connected")),
      journal.died("waiting", { diedAtMs: NOW_MS, cause: "refused", keptForMs: 0 }),
    ]);
    await within(writableAgain.promise, "the journal to be written again");
    expect(await foundAfterCrash()).toEqual(["connected ann", "earlier ann"]);
    expect((await journal.deadLetters(0, 10)).map(({ facts }) => facts.connectionId)).toEqual(["waiting"]);
  });

  test("it is lost twice, and again nothing of what is owed is", async () => {
    const journal = await fill();
    remove("");
    journal.checkFile();
    await within(writableAgain.promise, "the journal to be written again");
    writableAgain = Promise.withResolvers();
    truncateSync(path);
    journal.checkFile();
    await within(writableAgain.promise, "the journal to be written again");
    expect(await foundAfterCrash()).toEqual(OWED);
  });

  test("thousands of connections of which nothing can be read any more are written from memory", async () => {
    const journal = await fill();
    const ids = Array.from({ length: 3500 }, (_empty, index) => `many-${index}`);
    // More than SQLite keeps of a file in memory.
    const claims = "sub: ann; ".repeat(300);
    await Promise.all(ids.map((id) => journal.connecting({ ...factsOf(id), claims })));
    await Promise.all(ids.map((id) => journal.connected(id, "bob")));
    // In this order: the journal's thread watches the file, and may replace both as soon as it is empty.
    truncateSync(`${path}-wal`);
    truncateSync(path);
    journal.checkFile();
    await within(writableAgain.promise, "the journal to be written again");
    const image = join(folder, "image");
    cpSync(dataDir, image, { recursive: true });
    const next = await open(image);
    await next.recover(END, NOW_MS);
    const found = await next.waiting(0, 10_000);
    expect(found.filter(({ connectionId }) => connectionId.startsWith("many-"))).toHaveLength(ids.length);
    expect((await next.read("many-0"))?.facts).toEqual({ ...factsOf("many-0"), claims, userId: "bob" });
  });
});

describe("a journal that is missing at a start", () => {
  test.each([
    ["a new folder", false, () => {}, null],
    ["a folder that was used", true, () => {}, "the folder was used before, and journal.sqlite is missing"],
    [
      "an empty file in a folder that was used",
      true,
      () => writeFileSync(path, ""),
      "the folder was used before, and journal.sqlite has no bytes",
    ],
    [
      "an empty file next to a WAL",
      false,
      () => {
        writeFileSync(path, "");
        writeFileSync(`${path}-wal`, "frames");
      },
      "journal.sqlite has no bytes and its WAL has some: moved to ",
    ],
    [
      "a log alone",
      false,
      () => writeFileSync(`${path}-wal`, "frames"),
      "journal.sqlite is missing and its WAL is there: moved to ",
    ],
  ] as const)("%s", (_what, wasUsed, make, sentence) => {
    mkdirSync(dataDir);
    make();
    const found = findAbsence(dataDir, wasUsed);
    if (sentence === null) expect(found).toBeNull();
    else expect(found).toStartWith(sentence);
    if (existsSync(`${path}.damaged-1-wal`)) expect(existsSync(`${path}-wal`)).toBeFalse();
  });

  test("one that is there is no absence, and neither is one that a salvage is about to put there", async () => {
    await (await open()).close();
    expect(findAbsence(dataDir, true)).toBeNull();
    rmSync(path);
    writeFileSync(`${path}.new`, "");
    expect(findAbsence(dataDir, true)).toBeNull();
  });
});
