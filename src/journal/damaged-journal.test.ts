import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import {
  ALL,
  contentOf,
  DamagedJournalStage,
  dueOf,
  expectAlmostAll,
  FOREIGN_PAGE,
  factsOf,
  NOW_MS,
  PAGE_BYTES,
} from "../../test/support/damaged-journal.ts";
import { checkpointFile, JournalFile } from "./journal-file.ts";

const END = { code: 1006, reason: "gateway restarted" };

let stage: DamagedJournalStage;

beforeEach(() => {
  stage = new DamagedJournalStage();
});
afterEach(async () => {
  await stage[Symbol.asyncDispose]();
});

describe("a damaged journal", () => {
  test("that lacks its end has the rows in front of it", async () => {
    await stage.writeFilled();
    truncateSync(stage.path, stage.rowPageOf("owed-0250"));
    const { orphans, waiting, dead } = await contentOf(await stage.open());
    expect(stage.told).toHaveLength(1);
    expect(waiting).toContain("owed-0200");
    expect(Math.min(orphans, waiting.length - orphans, dead.length)).toBeGreaterThan(200);
  });

  test("that is nothing of the kind is moved aside, and a new one begun", async () => {
    mkdirSync(stage.dataDir, { mode: 0o700 });
    writeFileSync(stage.path, "no database".repeat(5000));
    const before = readFileSync(stage.path);
    const journal = await stage.open();
    expect(stage.told).toEqual([expect.stringContaining("the new file has 0 connections of it")]);
    expect(readFileSync(`${stage.path}.damaged-1`)).toEqual(before);
    expect(await contentOf(journal)).toEqual({ orphans: 0, waiting: [], dead: [] });
    await journal.connecting(factsOf("new"));
    await journal.close();
    expect((await contentOf(await stage.open())).waiting).toEqual(["new"]);
  });

  test("whose WAL alone is damaged is valid for SQLite, and has what was committed before the flaw", async () => {
    await stage.writeFilled();
    const journal = await stage.open();
    await journal.due(dueOf("before"));
    await journal.due(dueOf("behind"));
    leaveAsKilled();
    stage.overwrite(statSync(`${stage.path}-wal`).size - 100, Buffer.alloc(64, 255), `${stage.path}-wal`);
    const again = await stage.open();
    expect(stage.told).toEqual([]);
    expect(await again.read("behind")).toBeNull();
    expect(await again.read("before")).toEqual(dueOf("before"));
    await again.settled("before");
    await expectAlmostAll(again, 0);
  });

  test("has also what only its log has", async () => {
    const first = await stage.open();
    await stage.fill(first);
    // Begins a page, so that the next row needs none: a new page would change the first one, and the log would have that too.
    await first.due(dueOf("begins a page"));
    await first.close();
    const journal = await stage.open();
    // Connected, by the file, and due only by the log.
    await journal.due(dueOf("live-0001"));
    leaveAsKilled();
    stage.overwrite(stage.rowPageOf("owed-0250"), FOREIGN_PAGE);
    const again = await stage.open();
    expect(stage.told).toHaveLength(1);
    expect((await contentOf(again)).waiting).toContain("live-0001");
  });

  test("without its first page has what only its log has", async () => {
    const first = await stage.open();
    await stage.fill(first);
    // Begins a page, so that the next row needs none: a new page would change the first one, and the log would have that too.
    await first.due(dueOf("begins a page"));
    await first.close();
    const journal = await stage.open();
    // Connected, by the file, and due only by the log.
    await journal.due(dueOf("live-0001"));
    leaveAsKilled();
    stage.overwrite(0, FOREIGN_PAGE);
    const again = await stage.open();
    expect(stage.told).toHaveLength(1);
    expect((await contentOf(again)).waiting).toContain("live-0001");
  });

  test("found so while at work costs nobody on the other pages, nor the batch that met it", async () => {
    await stage.writeFilled();
    const journal = await stage.open();
    damageAtWork(() => stage.rowPageOf("owed-0250"));
    await Promise.all([journal.due(dueOf("new")), journal.settled("owed-0250"), journal.waiting(0, ALL)]);
    expect(stage.told).toHaveLength(1);
    expect(await journal.read("new")).toEqual(dueOf("new"));
    await journal.settled("new");
    await expectAlmostAll(journal, 31);
  });

  test("that loses its first page while at work has what only its log has", async () => {
    await stage.writeFilled();
    const journal = await stage.open();
    damageAtWork(() => 0);
    await journal.due(dueOf("new"));
    expect(stage.told).toHaveLength(1);
    expect((await journal.read("owed-0010"))?.end.reason).toBe("changed");
    await journal.settled("new");
    await expectAlmostAll(journal, 0);
  });

  test("that was moved away while its log was being played costs the new one's log nothing", async () => {
    const journal = await stage.open();
    await journal.due(dueOf("new"));
    leaveAsKilled();
    // The last connection to close a file deletes the WAL by its name, which by then is the WAL of the new file.
    checkpointFile(stage.path);
    expect(existsSync(`${stage.path}-wal`)).toBe(true);
  });

  test("whose counter of places is gone gives none twice, not even after one more restart", async () => {
    await stage.writeFilled();
    const first = await stage.open();
    const place = await first.due(dueOf("last"));
    await first.settled("last");
    await first.close();
    stage.overwrite(stage.rootPageOf("journal"), FOREIGN_PAGE);
    await (await stage.open()).close();
    expect(stage.told).toHaveLength(1);
    const journal = await stage.open();
    const lastWaiting = (await journal.waiting(0, ALL)).at(-1)?.place ?? 0;
    expect(place).toBeGreaterThan(lastWaiting);
    expect(await journal.due(dueOf("next"))).toBeGreaterThan(lastWaiting);
  });

  test("whose counter of places is gone while at work gives none twice after a restart", async () => {
    await stage.writeFilled();
    const journal = await stage.open();
    await journal.recover(END, NOW_MS);
    damageAtWork(
      () => stage.rootPageOf("journal"),
      () => stage.rowPageOf("owed-0250"),
    );
    await journal.settled("owed-0250");
    expect(stage.told).toHaveLength(1);
    const place = await journal.due(dueOf("after"));
    await journal.close();
    expect(await (await stage.open()).due(dueOf("next"))).toBeGreaterThan(place);
  });

  test("has no row that no event could be made of", async () => {
    await stage.writeFilled();
    const whole = readFileSync(stage.path);
    for (const [id, broken] of [
      ["user of owed-0100", "user of \r\nd-0100"],
      ["user of dead-0100", "user of \0ead-0100"],
    ] as const) {
      whole.write(broken, whole.indexOf(id), "latin1");
    }
    // In the text of the facts a line break is an escape of JSON.
    const query = whole.indexOf('"clientQuery":"a=b"', whole.indexOf("user of owed-0102"));
    whole.write('"clientQuery":"\\nb"', query, "latin1");
    // A byte that is no UTF-8 is read as a character that no header has.
    whole.write("\xff", whole.indexOf("sub: ann", whole.indexOf("user of owed-0103")), "latin1");
    const id = whole.lastIndexOf("owed-0104", whole.indexOf("user of owed-0104"));
    whole.write("\xffwed-9999", id, "latin1");
    writeFileSync(stage.path, whole);
    stage.overwrite(stage.rowPageOf("owed-0400"), FOREIGN_PAGE);
    const { waiting, dead } = await contentOf(await stage.open());
    expect(waiting).not.toContain("owed-0100");
    expect(waiting).not.toContain("owed-0102");
    expect(waiting).not.toContain("owed-0103");
    expect(waiting).not.toContain("\ufffdwed-9999");
    expect(dead.map(({ facts }) => facts.connectionId)).not.toContain("dead-0100");
    expect(waiting).toContain("owed-0101");
  });

  test("with places that no journal gives out goes on counting from the others", async () => {
    const journal = await stage.open();
    await journal.due(dueOf("owed"));
    await journal.close();
    const database = new Database(stage.path);
    for (const [id, place] of [
      ["far", 2 ** 60],
      ["below", -5],
    ] as const) {
      database.run(
        `INSERT INTO connections (id, state, hub, user_id, claims, client_query, forwarded_for, place)
         VALUES (?, 2, 'chat', '', '', '', '', ?)`,
        [id, place],
      );
    }
    database.run("UPDATE journal SET places = ?", [2 ** 60]);
    database.close();
    stage.overwrite(stage.rootPageOf("waiting"), FOREIGN_PAGE);
    const again = await stage.open();
    expect(stage.told).toHaveLength(1);
    expect((await again.waiting(0, ALL)).map(({ connectionId }) => connectionId)).toEqual(["owed"]);
    expect(await again.due(dueOf("next"))).toBeLessThan(2 ** 40);
  });

  test("with a row's number out of order keeps nobody from the start", async () => {
    await stage.writeFilled();
    const page = stage.rowPageOf("owed-0250");
    setNumberOfLastRow(page, 130);
    stage.overwrite(nextRowPage(page), FOREIGN_PAGE);
    await expectAlmostAll(await stage.open(), 61);
    expect(stage.told).toHaveLength(1);
  });

  test("with any bytes flipped, the journal opens, takes a batch, and opens again", async () => {
    await stage.writeFilled();
    const { dataDir } = stage;
    const whole = readFileSync(stage.path);
    for (let seed = 1; seed <= 150; seed++) {
      const random = randomFrom(seed);
      const flipped = Buffer.from(whole);
      for (let count = 1 + random(30); count > 0; count--) {
        // Heads of pages are what SQLite trips over.
        const at = random(random(2) === 0 ? 40 : PAGE_BYTES);
        flipped[random(flipped.length / PAGE_BYTES) * PAGE_BYTES + at] = random(256);
      }
      rmSync(stage.dataDir, { recursive: true });
      mkdirSync(stage.dataDir, { mode: 0o700 });
      writeFileSync(stage.path, flipped);
      for (const id of [`${seed}-a`, `${seed}-b`]) {
        const file = new JournalFile({ dataDir, synchronous: "normal", onDamaged: () => {} });
        expect([seed, file.open() < 2 ** 51]).toEqual([seed, true]);
        const { failure } = file.apply([
          ["recover", 1, 1006, "gateway restarted", NOW_MS],
          ["waiting", 0, ALL],
          ["deadLetters", 0, ALL],
          ["connecting", [id, "", "", "{}"]],
        ]);
        expect([seed, failure]).toEqual([seed, null]);
        file.close();
      }
    }
  }, 120_000);
});

/** Numbers from 0 to below the limit, the same for a seed each time. Source: Numerical Recipes' LCG. */
function randomFrom(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** Goes on with the files as `kill -9` leaves them: the log was not played. */
function leaveAsKilled(): void {
  const from = stage.path;
  stage.dataDir = join(stage.folder, "left");
  mkdirSync(stage.dataDir, { mode: 0o700 });
  for (const suffix of ["", "-wal"]) copyFileSync(from + suffix, stage.path + suffix);
}

/** Overwrites pages of a file that is in use, and has SQLite forget what it remembers of them. */
function damageAtWork(...pages: readonly (() => number)[]): void {
  const other = new Database(stage.path);
  other.run("PRAGMA wal_checkpoint(TRUNCATE)");
  // Looked for now: what was in the log alone may have moved a row.
  for (const page of pages.map((find) => find())) stage.overwrite(page, FOREIGN_PAGE);
  other.run("UPDATE connections SET close_reason = 'changed' WHERE id = 'owed-0010'");
  other.close();
}

/** Gives a leaf's last row another number. Source: sqlite.org/fileformat2, 1.6: cells begin with two varints, size and number. */
function setNumberOfLastRow(page: number, number: number): void {
  const whole = readFileSync(stage.path);
  const cells = whole.readUInt16BE(page + 3);
  let at = page + whole.readUInt16BE(page + 8 + 2 * (cells - 1));
  while ((whole[at] ?? 0) >= 128) at++;
  stage.overwrite(at + 1, Buffer.from([128 + (number >> 7), number & 127]));
}

/** The leaf behind another, where rows were added one behind the other. */
function nextRowPage(page: number): number {
  const whole = readFileSync(stage.path);
  for (let at = page + PAGE_BYTES; at < whole.length; at += PAGE_BYTES) if (whole[at] === 13) return at;
  throw new Error("no such page");
}
