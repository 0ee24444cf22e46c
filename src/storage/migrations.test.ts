import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Migration, migrate, NewerFile, refuseNewer } from "./migrations.ts";

let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-migrations-"));
  path = join(folder, "store.sqlite");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const FIRST: Migration = (database) => void database.run("CREATE TABLE things (name TEXT NOT NULL) STRICT");
const SECOND: Migration = (database) =>
  void database.run("ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 7");

function run(migrations: readonly Migration[]): unknown {
  const database = new Database(path);
  try {
    migrate(database, { path, migrations });
    return database.query("PRAGMA user_version").get();
  } finally {
    database.close();
  }
}

describe("migrations", () => {
  test("are each run once, in order, from any version that a file begins with", () => {
    expect(run([FIRST])).toEqual({ user_version: 1 });
    expect(run([FIRST])).toEqual({ user_version: 1 });
    expect(run([FIRST, SECOND])).toEqual({ user_version: 2 });
    expect(run([FIRST, SECOND])).toEqual({ user_version: 2 });
  });

  test("leave the file as it was where one of them fails", () => {
    run([FIRST]);
    const fails: Migration = () => {
      throw new Error("the disk is full");
    };
    expect(() => run([FIRST, SECOND, fails])).toThrow("the disk is full");
    const database = new Database(path);
    expect(database.query("PRAGMA user_version").get()).toEqual({ user_version: 1 });
    expect(database.query("SELECT name FROM pragma_table_info('things')").all()).toEqual([{ name: "name" }]);
    database.close();
  });

  test("refuse a file that has had more of them", () => {
    run([FIRST, SECOND]);
    expect(() => run([FIRST])).toThrow(NewerFile);
  });
});

describe("refuseNewer", () => {
  test("takes the version that a file has, and refuses one more", () => {
    run([FIRST, SECOND]);
    expect(() => refuseNewer(path, 2)).not.toThrow();
    expect(() => refuseNewer(path, 1)).toThrow(NewerFile);
  });

  test("counts what was committed to the WAL, and neither what was not nor an earlier life of it", () => {
    const database = new Database(path);
    database.run("PRAGMA journal_mode = WAL");
    database.run("PRAGMA user_version = 1");
    expect(() => refuseNewer(path, 1)).not.toThrow();
    database.run("PRAGMA user_version = 2");
    expect(() => refuseNewer(path, 1)).toThrow(NewerFile);
    database.run("PRAGMA user_version = 1");
    expect(() => refuseNewer(path, 1)).not.toThrow();
    // What does not fit into the cache goes to the WAL before it is committed.
    database.run("CREATE TABLE rows (text TEXT)");
    database.run("PRAGMA cache_size = 2");
    database.run("BEGIN");
    database.run("PRAGMA user_version = 3");
    for (let row = 0; row < 50; row++) database.run("INSERT INTO rows VALUES (?)", ["x".repeat(3000)]);
    expect(() => refuseNewer(path, 1)).not.toThrow();
    database.run("COMMIT");
    expect(() => refuseNewer(path, 1)).toThrow(NewerFile);
    database.run("PRAGMA user_version = 1");
    database.run("PRAGMA wal_checkpoint(RESTART)");
    database.run("INSERT INTO rows VALUES ('y')");
    expect(() => refuseNewer(path, 1)).not.toThrow();
    database.close();
  });

  test.each([
    ["missing", () => {}],
    ["empty", () => writeFileSync(path, "")],
    ["something else", () => writeFileSync(path, "no database".repeat(500))],
    ["a symbolic link", () => symlinkSync("/dev/zero", path)],
    ["cut short", () => writeFileSync(path, "SQLite format 3\0")],
  ])("leaves a file that is %s to SQLite", (_what, make) => {
    make();
    writeFileSync(`${path}-wal`, Buffer.concat([Buffer.from("377f0682", "hex"), Buffer.alloc(60, 1)]));
    expect(() => refuseNewer(path, 0)).not.toThrow();
  });
});
