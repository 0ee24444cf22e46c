import { Database } from "bun:sqlite";
import { afterEach, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  bytesOf,
  EarlierDataDir,
  type Ending,
  makeNewer,
  VERSIONS,
  versionOf,
} from "../../test/support/earlier-versions.ts";
import { hearing } from "../../test/support/notices.ts";
import { MIGRATIONS } from "./journal-schema.ts";
import { SqliteJournal } from "./sqlite.ts";

const END = { code: 1006, reason: "gateway restarted" };
const ENDINGS: readonly Ending[] = ["closed", "killed"];

let told: string[] = [];
const opened: SqliteJournal[] = [];

afterEach(async () => {
  for (const journal of opened.splice(0)) await journal.close();
  told = [];
});

async function open(dataDir: string): Promise<SqliteJournal> {
  const report = hearing({
    "journal-damaged": ({ movedTo, reason }) => void told.push(`${movedTo}: ${reason}`),
    "journal-lost": ({ reason }) => void told.push(reason),
    "journal-unwritable": ({ reason }) => void told.push(reason),
    "journal-writable": () => {},
  });
  const journal = await SqliteJournal.open({ dataDir, synchronous: "normal", report });
  opened.push(journal);
  return journal;
}

async function expectEverything(journal: SqliteJournal): Promise<void> {
  expect(await journal.recover(END, 5)).toBe(2);
  const waiting = (await journal.waiting(0, 100)).map(({ connectionId }) => connectionId);
  expect(waiting).toEqual(["due-1", "due-2", "connecting-1", "connected-1"]);
  expect(await journal.read("connected-1")).toMatchObject({ facts: { userId: "ann" }, connectOutcomeUnknown: false });
  expect(await journal.read("connecting-1")).toMatchObject({ connectOutcomeUnknown: true });
  expect(await journal.read("due-1")).toMatchObject({
    facts: {
      connectionId: "due-1",
      hub: "Chat",
      userId: "user of due-1",
      claims: "sub: ann; ",
      clientQuery: "room=%C3%A4",
      forwardedFor: "10.0.0.1",
    },
    end: { code: 4001, reason: "bye" },
    dueSinceMs: 1_700_000_000_000,
  });
  const letters = await journal.deadLetters(0, 100);
  expect(letters).toMatchObject([
    { facts: { connectionId: "dead-1" }, diedAtMs: 1_700_003_600_000, cause: "answered with status 503" },
  ]);
}

describe.each(VERSIONS)("a journal of %s", (version) => {
  test.each(ENDINGS)("%s: has all that it had, in the form of this version", async (ending) => {
    using earlier = new EarlierDataDir(version, ending);
    const journal = await open(earlier.dataDir);
    await expectEverything(journal);
    expect(told).toEqual([]);
    await journal.close();
    expect(versionOf(join(earlier.dataDir, "journal.sqlite"))).toBe(MIGRATIONS.length);
    expect((await (await open(earlier.dataDir)).waiting(0, 100)).length).toBe(4);
  });

  test("that is damaged gives what can still be read of it to a new file", async () => {
    using earlier = new EarlierDataDir(version, "closed");
    const path = join(earlier.dataDir, "journal.sqlite");
    const bytes = readFileSync(path);
    // A page of an index: the table is whole, and SQLite finds the flaw at the start.
    const index = new Database(path, { readonly: true });
    const sql = "SELECT rootpage AS page FROM sqlite_schema WHERE name = 'waiting'";
    const page = index.query<{ page: number }, []>(sql).get()?.page ?? 0;
    index.close();
    bytes.fill(255, (page - 1) * 4096, page * 4096);
    writeFileSync(path, bytes);
    await expectEverything(await open(earlier.dataDir));
    expect(told).toEqual([expect.stringContaining("the new file has 5 connections of it")]);
  });

  test("whose first page is lost gives its rows to a new file", async () => {
    using earlier = new EarlierDataDir(version, "closed");
    const path = join(earlier.dataDir, "journal.sqlite");
    writeFileSync(path, readFileSync(path).fill(0, 0, 4096));
    await expectEverything(await open(earlier.dataDir));
    expect(told).toEqual([expect.stringContaining("the new file has 5 connections of it")]);
  });
});

test("a journal of version 2 has how long each event has been tried, and none of them was refused", async () => {
  using earlier = new EarlierDataDir("version-2", "killed");
  expect(await (await open(earlier.dataDir)).waiting(0, 9)).toMatchObject([
    { connectionId: "due-1", triedForMs: 5000, refusedForMs: 0 },
    { connectionId: "due-2", triedForMs: 0, refusedForMs: 0 },
  ]);
});

test("a journal of version 3 has how long each event was refused, and each is the only one", async () => {
  using earlier = new EarlierDataDir("version-3", "killed");
  const journal = await open(earlier.dataDir);
  expect(await journal.waiting(0, 9)).toMatchObject([
    { connectionId: "due-1", triedForMs: 5000, refusedForMs: 3000 },
    { connectionId: "due-2", triedForMs: 0, refusedForMs: 0 },
  ]);
  expect(await journal.read("due-1")).not.toHaveProperty("nth");
});

test("a journal of version 4 has the facts that a newer version stored, and the second of two events", async () => {
  using earlier = new EarlierDataDir("version-4", "killed");
  const journal = await open(earlier.dataDir);
  expect(await journal.read("due-1")).toMatchObject({
    facts: { claims: "sub: ann; ", forwardedFor: "10.0.0.1", rare: { userIdCoding: "latin1", news: [1, { a: null }] } },
    nth: "second",
  });
});

describe("a journal of a newer version", () => {
  test.each(ENDINGS)("%s: stops the start and keeps every byte of the folder", async (ending) => {
    using earlier = new EarlierDataDir("version-1", "closed");
    const path = join(earlier.dataDir, "journal.sqlite");
    await makeNewer(path, ending);
    const before = bytesOf(earlier.dataDir);
    await expect(open(earlier.dataDir)).rejects.toThrow(`${path} was written by a newer version of hubwire`);
    expect(bytesOf(earlier.dataDir)).toEqual(before);
    expect(told).toEqual([]);
  });
});
