import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GroupRule } from "../core/ports.ts";
import { SqliteRuleStore } from "./sqlite.ts";

const RULE: GroupRule = { hub: "chat", userId: "ann", group: "red", expiresAtMs: 1_700_000_000_000 };

let folder: string;
let dataDir: string;
let path: string;
let damaged: string[];
let opened: SqliteRuleStore[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-rules-"));
  dataDir = join(folder, "data");
  path = join(dataDir, "rules.sqlite");
  damaged = [];
  opened = [];
});
afterEach(() => {
  for (const store of opened) store.close();
  rmSync(folder, { recursive: true, force: true });
});

function openStore(): SqliteRuleStore {
  const store = new SqliteRuleStore({ dataDir, onDamaged: (movedTo) => void damaged.push(movedTo) });
  opened.push(store);
  return store;
}

function modeOf(file: string): number {
  return statSync(file).mode & 0o777;
}

/** A file that a store has written and closed. */
function writeRules(...rules: readonly GroupRule[]): void {
  const store = openStore();
  for (const rule of rules) store.put(rule);
  store.close();
}

describe("the file of SqliteRuleStore", () => {
  test("is made with the first rule, not before", () => {
    const store = openStore();
    store.all();
    store.remove("chat", "ann", null);
    expect(existsSync(dataDir)).toBe(false);
    store.put(RULE);
    expect(existsSync(path)).toBe(true);
  });

  test("is its owner's alone, and so are its folder and what SQLite keeps beside it", () => {
    openStore().put(RULE);
    expect(modeOf(dataDir)).toBe(0o700);
    const modes = readdirSync(dataDir).map((name) => [name, modeOf(join(dataDir, name))]);
    expect(modes.sort()).toEqual([
      ["rules.sqlite", 0o600],
      ["rules.sqlite-shm", 0o600],
      ["rules.sqlite-wal", 0o600],
    ]);
  });

  test("that others could read is closed to them", () => {
    writeRules(RULE);
    const bytes = readFileSync(path);
    rmSync(path);
    writeFileSync(path, bytes, { mode: 0o644 });
    expect(openStore().all()).toEqual([RULE]);
    expect(modeOf(path)).toBe(0o600);
  });

  test("brings the rules back after a restart", () => {
    writeRules(RULE, { ...RULE, hub: "News", group: "blue" });
    expect(openStore().all()).toHaveLength(2);
    expect(damaged).toEqual([]);
  });

  test("holds what was put and what was removed when the process is killed right after", async () => {
    writeRules({ ...RULE, userId: "gone" });
    const script = `
      import { SqliteRuleStore } from ${JSON.stringify(join(import.meta.dir, "sqlite.ts"))};
      const store = new SqliteRuleStore({ dataDir: ${JSON.stringify(dataDir)}, onDamaged: () => {} });
      store.put(${JSON.stringify(RULE)});
      store.remove("chat", "gone", "red");
      process.kill(process.pid, "SIGKILL");
    `;
    const child = Bun.spawn([process.execPath, "-e", script], { stdin: "ignore", stdout: "ignore", stderr: "inherit" });
    await child.exited;
    expect(child.signalCode).toBe("SIGKILL");
    expect(openStore().all()).toEqual([RULE]);
  });

  test("no longer holds a removed user's name once it is closed", () => {
    writeRules(RULE, { ...RULE, userId: "somebody-in-particular" });
    expect(readFileSync(path).includes("somebody-in-particular")).toBe(true);
    const store = openStore();
    store.remove("chat", "somebody-in-particular", "red");
    store.close();
    expect(readdirSync(dataDir)).toEqual(["rules.sqlite"]);
    expect(readFileSync(path).includes("somebody-in-particular")).toBe(false);
  });

  test("of a newer version is left alone, with a sentence that names it", () => {
    writeRules(RULE);
    const database = new Database(path);
    database.run("PRAGMA user_version = 2");
    database.close();
    const before = readFileSync(path);
    expect(() => openStore().all()).toThrow(`${path} was written by a newer version of hubwire`);
    expect(() => openStore().put(RULE)).toThrow("newer version");
    expect(readFileSync(path)).toEqual(before);
    expect(damaged).toEqual([]);
  });

  test("that another process holds takes no change and says so; afterwards it does", () => {
    const store = openStore();
    store.put(RULE);
    const other = new Database(path);
    other.run("BEGIN EXCLUSIVE");
    expect(() => store.put({ ...RULE, group: "blue" })).toThrow("locked");
    expect(() => store.remove("chat", "ann", null)).toThrow("locked");
    other.run("ROLLBACK");
    other.close();
    expect(store.all()).toEqual([RULE]);
    store.put({ ...RULE, group: "blue" });
    expect(store.all()).toHaveLength(2);
  });

  test("cannot be used after it was closed", () => {
    const store = openStore();
    store.put(RULE);
    store.close();
    for (const use of [() => store.put(RULE), () => store.all(), () => store.remove("chat", "ann", null)]) {
      expect(use).toThrow("closed");
    }
  });
});

describe("a damaged file", () => {
  /** Every kind of damage that a disk or a hand can do, applied to a file with 500 rules. */
  const damages: readonly (readonly [string, () => void])[] = [
    ["is no database", () => writeFileSync(path, "no database".repeat(500))],
    ["lacks its end", () => truncateSync(path, 8192)],
    ["has a page of something else in its middle", () => overwrite(8192, Buffer.alloc(4096, 0xff))],
    ["has lost its first bytes", () => overwrite(0, Buffer.alloc(100))],
  ];

  function overwrite(offset: number, bytes: Buffer): void {
    const whole = readFileSync(path);
    bytes.copy(whole, offset);
    writeFileSync(path, whole);
  }

  for (const [what, damage] of damages) {
    test(`that ${what} is moved aside whole, told about, and the store goes on empty`, () => {
      writeRules(...Array.from({ length: 500 }, (_, index) => ({ ...RULE, userId: `user-${index}` })));
      damage();
      const before = readFileSync(path);
      const store = openStore();
      expect(store.all()).toEqual([]);
      expect(damaged).toEqual([`${path}.damaged-1`]);
      expect(readFileSync(`${path}.damaged-1`)).toEqual(before);
      store.put(RULE);
      store.close();
      expect(openStore().all()).toEqual([RULE]);
      expect(damaged).toHaveLength(1);
    });
  }

  test("does not take the place of one that was moved before", () => {
    mkdirSync(dataDir, { mode: 0o700 });
    writeFileSync(`${path}.damaged-1`, "the first");
    writeFileSync(path, "the second");
    openStore().all();
    expect(damaged).toEqual([`${path}.damaged-2`]);
    expect(readFileSync(`${path}.damaged-1`, "utf8")).toBe("the first");
    expect(readFileSync(`${path}.damaged-2`, "utf8")).toBe("the second");
  });
});
