import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { DamagedJournalStage, expectAlmostAll, FOREIGN_PAGE, PAGE_BYTES } from "../../test/support/damaged-journal.ts";
import { within } from "../../test/support/deadline.ts";
import { canMount, SmallDisk } from "../../test/support/small-disk.ts";
import { moveAside } from "../storage/database-file.ts";
import { salvage } from "./salvage.ts";

/** On a page, at most. */
const ROWS = 14;

let stage: DamagedJournalStage;

beforeEach(() => {
  stage = new DamagedJournalStage();
});
afterEach(async () => {
  await stage[Symbol.asyncDispose]();
});

describe("what can still be read of a damaged journal", () => {
  const damages: readonly (readonly [string, number, () => void])[] = [
    [
      "has a page of something else in its middle",
      ROWS,
      () => stage.overwrite(stage.rowPageOf("owed-0250"), FOREIGN_PAGE),
    ],
    [
      "has a page of zeros in its middle",
      ROWS,
      () => stage.overwrite(stage.rowPageOf("owed-0250"), Buffer.alloc(PAGE_BYTES)),
    ],
    [
      "has flipped bytes in a page's head",
      ROWS,
      () => stage.overwrite(stage.rowPageOf("owed-0250") + 1, Buffer.from("deadbeef", "hex")),
    ],
    ["has lost its first page", 0, () => stage.overwrite(0, Buffer.alloc(PAGE_BYTES))],
    ["somebody wrote over from its start", 0, () => stage.overwrite(0, Buffer.from("a line of some log\n".repeat(9)))],
    [
      "names other tables",
      0,
      () =>
        stage.overwrite(
          0,
          Buffer.from(
            readFileSync(stage.path)
              .subarray(0, PAGE_BYTES)
              .toString("latin1")
              .replaceAll("connections", "connektions"),
            "latin1",
          ),
        ),
    ],
    [
      "has three bad pages",
      3 * ROWS,
      () => {
        for (const id of ["owed-0100", "owed-0250", "owed-0400"]) stage.overwrite(stage.rowPageOf(id), FOREIGN_PAGE);
      },
    ],
    [
      "has lost its first row's page and its last's",
      2 * ROWS,
      () => {
        for (const id of ["owed-0000", "owed-0499"]) stage.overwrite(stage.rowPageOf(id), FOREIGN_PAGE);
      },
    ],
    [
      "has a bad page in the index of ids",
      0,
      () => {
        stage.overwrite(stage.indexPageOf("owed-0250"), FOREIGN_PAGE);
      },
    ],
  ];

  for (const [what, lostAtMost, damage] of damages) {
    test(`of one that ${what} goes to the new file, and the old one is kept whole`, async () => {
      await stage.writeFilled();
      damage();
      const before = readFileSync(stage.path);
      const journal = await stage.open();
      expect(stage.told).toEqual([
        expect.stringMatching(/journal\.sqlite\.damaged-1: .*; the new file has \d+ connections/s),
      ]);
      await expectAlmostAll(journal, lostAtMost);
      expect(readFileSync(`${stage.path}.damaged-1`)).toEqual(before);
      const modes = readdirSync(stage.dataDir).map((name) => statSync(join(stage.dataDir, name)).mode & 0o777);
      expect(new Set(modes)).toEqual(new Set([0o600]));
      await journal.close();
      await (await stage.open()).close();
      expect(stage.told).toHaveLength(1);
    });
  }
});

test("a copy of a damaged journal is written through no symbolic link that others have put there", async () => {
  await stage.writeFilled();
  stage.overwrite(0, Buffer.alloc(PAGE_BYTES));
  const outside = join(stage.folder, "outside");
  for (const name of [".copy", ".copy-wal", ".new"]) symlinkSync(outside, stage.path + name);
  const journal = await stage.open();
  await expectAlmostAll(journal, 0);
  expect(existsSync(outside)).toBe(false);
  await journal.close();
});

describe("a process that was killed while it made a new file of a damaged one", () => {
  beforeEach(async () => {
    await stage.writeFilled();
    stage.overwrite(stage.rowPageOf("owed-0250"), FOREIGN_PAGE);
  });

  const steps: readonly (readonly [string, number, () => void])[] = [
    [
      "before the new file was whole",
      1,
      () => writeFileSync(`${stage.path}.new`, readFileSync(stage.path).subarray(0, 5000)),
    ],
    ["when it was whole", 1, () => void salvage(stage.path, 1, null)],
    [
      "while a copy was read",
      1,
      () => {
        for (const suffix of ["", "-wal", "-shm"]) writeFileSync(`${stage.path}.copy${suffix}`, "half of it");
      },
    ],
    [
      "when the damaged file was moved away, but not its log",
      0,
      () => {
        const log = logOfAnother();
        salvage(stage.path, 1, null);
        moveAside(stage.path);
        writeFileSync(`${stage.path}-wal`, log);
      },
    ],
    [
      "when all of it was moved away",
      0,
      () => {
        salvage(stage.path, 1, null);
        moveAside(stage.path);
      },
    ],
  ];

  for (const [when, times, kill] of steps) {
    test(`${when} leaves a start that has it all`, async () => {
      kill();
      const journal = await stage.open();
      expect(stage.told).toHaveLength(times);
      await expectAlmostAll(journal, ROWS);
      await journal.close();
      expect(readdirSync(stage.dataDir).filter((name) => !name.includes("damaged"))).toEqual(["journal.sqlite"]);
      expect(existsSync(`${stage.path}.damaged-1`)).toBe(true);
    });
  }

  test("leaves nothing behind even where the file is good", async () => {
    await (await stage.open()).close();
    for (const name of [".new", ".copy", ".copy-wal", ".copy-shm"]) writeFileSync(stage.path + name, "names of people");
    await (await stage.open()).close();
    expect(readdirSync(stage.dataDir).filter((name) => !name.includes("damaged"))).toEqual(["journal.sqlite"]);
  });

  /** A WAL that SQLite would play into any file next to it. */
  function logOfAnother(): Buffer {
    const other = join(stage.folder, "other.sqlite");
    const database = new Database(other);
    database.run("PRAGMA journal_mode = WAL");
    database.run("CREATE TABLE something_else (a)");
    const log = readFileSync(`${other}-wal`);
    database.close();
    return log;
  }
});

describe.skipIf(!canMount())("a damaged journal on a full disk", () => {
  test("lets the journal start, takes nobody, and is salvaged once there is space", async () => {
    using disk = new SmallDisk();
    await stage.writeFilled();
    stage.overwrite(stage.rowPageOf("owed-0250"), FOREIGN_PAGE);
    const file = stage.path;
    stage.dataDir = join(disk.folder, "data");
    mkdirSync(stage.dataDir, { mode: 0o700 });
    copyFileSync(file, stage.path);
    disk.fill();
    const journal = await stage.open();
    expect(journal.isWritable).toBe(false);
    expect(stage.told).toEqual([]);
    expect(readdirSync(stage.dataDir).filter((name) => name.includes(".new") || name.includes(".copy"))).toEqual([]);
    disk.free();
    await within(stage.writableAgain.promise, "the journal to be writable again");
    expect(stage.told).toHaveLength(1);
    await expectAlmostAll(journal, ROWS);
    await journal.close();
  });
});
