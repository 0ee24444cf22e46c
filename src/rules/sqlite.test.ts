import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  cpSync,
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
import { hearing } from "../../test/support/notices.ts";
import type { GroupRule, RuleKey } from "../core/rule-store.ts";
import { SqliteRuleStore } from "./sqlite.ts";

const RULE: GroupRule = { hub: "chat", userId: "ann", group: "red", expiresAtMs: 1_700_000_000_000 };

let folder: string;
let dataDir: string;
let path: string;
let damaged: string[];
let lost: string[];
let opened: SqliteRuleStore[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-rules-"));
  dataDir = join(folder, "data");
  path = join(dataDir, "rules.sqlite");
  damaged = [];
  lost = [];
  opened = [];
});
afterEach(async () => {
  for (const store of opened) await store.close();
  rmSync(folder, { recursive: true, force: true });
});

function openStore(): SqliteRuleStore {
  const store = new SqliteRuleStore({
    dataDir,
    report: hearing({
      "rules-damaged": ({ movedTo }) => void damaged.push(movedTo),
      "rules-lost": ({ reason }) => void lost.push(reason),
    }),
  });
  opened.push(store);
  return store;
}

/** What a store holds, as a start would hear of it. */
async function allOf(store: SqliteRuleStore): Promise<RuleKey[]> {
  const rules: RuleKey[] = [];
  await store.watch(({ revision: _revision, ...rule }) => void rules.push(rule));
  return rules;
}

function modeOf(file: string): number {
  return statSync(file).mode & 0o777;
}

/** A file that a store has written and closed. */
async function writeRules(...rules: readonly GroupRule[]): Promise<void> {
  const store = openStore();
  for (const rule of rules) await store.put(rule);
  await store.close();
}

describe("the file of SqliteRuleStore", () => {
  test("is made with the first rule, not before", async () => {
    const store = openStore();
    await allOf(store);
    await store.remove([{ ...RULE, userId: "ann" }]);
    expect(existsSync(dataDir)).toBe(false);
    await store.put(RULE);
    expect(existsSync(path)).toBe(true);
  });

  test("is its owner's alone, and so are its folder and the files of SQLite next to it", async () => {
    await openStore().put(RULE);
    expect(modeOf(dataDir)).toBe(0o700);
    const modes = readdirSync(dataDir).map((name) => [name, modeOf(join(dataDir, name))]);
    expect(modes.sort()).toEqual([
      ["rules.sqlite", 0o600],
      ["rules.sqlite-shm", 0o600],
      ["rules.sqlite-wal", 0o600],
    ]);
  });

  test("that others could read is closed to them", async () => {
    await writeRules(RULE);
    const bytes = readFileSync(path);
    rmSync(path);
    writeFileSync(path, bytes, { mode: 0o644 });
    expect(await allOf(openStore())).toEqual([RULE]);
    expect(modeOf(path)).toBe(0o600);
  });

  test("brings the rules back after a restart", async () => {
    await writeRules(RULE, { ...RULE, hub: "News", group: "blue" });
    expect(await allOf(openStore())).toHaveLength(2);
    expect(damaged).toEqual([]);
  });

  test("holds what was put and what was removed when the process is killed right after", async () => {
    await writeRules({ ...RULE, userId: "gone" });
    const script = `
      import { SqliteRuleStore } from ${JSON.stringify(join(import.meta.dir, "sqlite.ts"))};
      const store = new SqliteRuleStore({ dataDir: ${JSON.stringify(dataDir)}, report: () => {} });
      await store.put(${JSON.stringify(RULE)});
      await store.remove([${JSON.stringify({ ...RULE, userId: "gone" })}]);
      process.kill(process.pid, "SIGKILL");
    `;
    const child = Bun.spawn([process.execPath, "-e", script], { stdin: "ignore", stdout: "ignore", stderr: "inherit" });
    await child.exited;
    expect(child.signalCode).toBe("SIGKILL");
    expect(await allOf(openStore())).toEqual([RULE]);
  });

  test("no longer holds a removed user's name once it is closed", async () => {
    await writeRules(RULE, { ...RULE, userId: "somebody-in-particular" });
    expect(readFileSync(path).includes("somebody-in-particular")).toBe(true);
    const store = openStore();
    await store.remove([{ ...RULE, userId: "somebody-in-particular" }]);
    await store.close();
    expect(readdirSync(dataDir)).toEqual(["rules.sqlite"]);
    expect(readFileSync(path).includes("somebody-in-particular")).toBe(false);
  });

  test("that another process holds takes no change and says so; afterwards it does", async () => {
    const store = openStore();
    await store.put(RULE);
    const other = new Database(path);
    other.run("BEGIN EXCLUSIVE");
    await expect(store.put({ ...RULE, group: "blue" })).rejects.toThrow("locked");
    await expect(store.remove([{ ...RULE, userId: "ann" }])).rejects.toThrow("locked");
    other.run("ROLLBACK");
    other.close();
    expect(await allOf(store)).toEqual([RULE]);
    await store.put({ ...RULE, group: "blue" });
    expect(await allOf(store)).toHaveLength(2);
  });

  test("cannot be used after it was closed", async () => {
    const store = openStore();
    await store.put(RULE);
    await store.close();
    for (const use of [() => store.put(RULE), () => allOf(store), () => store.remove([RULE])]) {
      await expect(use()).rejects.toThrow("closed");
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
    test(`that ${what} is moved aside whole, told about, and the store goes on empty`, async () => {
      await writeRules(...Array.from({ length: 500 }, (_, index) => ({ ...RULE, userId: `user-${index}` })));
      damage();
      const before = readFileSync(path);
      const store = openStore();
      expect(await allOf(store)).toEqual([]);
      expect(damaged).toEqual([`${path}.damaged-1`]);
      expect(readFileSync(`${path}.damaged-1`)).toEqual(before);
      await store.put(RULE);
      await store.close();
      expect(await allOf(openStore())).toEqual([RULE]);
      expect(damaged).toHaveLength(1);
    });
  }

  test("does not take the place of one that was moved before", async () => {
    mkdirSync(dataDir, { mode: 0o700 });
    writeFileSync(`${path}.damaged-1`, "the first");
    writeFileSync(path, "the second");
    await allOf(openStore());
    expect(damaged).toEqual([`${path}.damaged-2`]);
    expect(readFileSync(`${path}.damaged-1`, "utf8")).toBe("the first");
    expect(readFileSync(`${path}.damaged-2`, "utf8")).toBe("the second");
  });

  test.each([
    ["removed with its log", () => ["", "-wal", "-shm"].forEach((end) => void rmSync(path + end)), "was removed"],
    ["removed", () => rmSync(path), "was removed"],
    ["emptied", () => truncateSync(path), "was emptied"],
  ] as const)(
    "a file that is %s while it is open is written anew, and a kill then loses nothing",
    async (_what, lose, why) => {
      await writeRules(RULE);
      const store = openStore();
      await store.watch(() => {});
      await store.put({ ...RULE, group: "blue" });
      await store.put({ ...RULE, group: "ended" });
      await store.remove([{ ...RULE, group: "ended" }]);
      lose();
      store.checkFile();
      expect(lost).toEqual([`rules.sqlite ${why}`]);
      await store.put({ ...RULE, group: "green" });
      const image = join(folder, "image");
      cpSync(dataDir, image, { recursive: true });
      dataDir = image;
      const found = await allOf(openStore());
      expect(found.map(({ group }) => group).sort()).toEqual(["blue", "green", "red"]);
      expect([lost.length, damaged]).toEqual([1, []]);
    },
  );

  test("a file that is removed is noticed by the next write", async () => {
    const store = openStore();
    await store.watch(() => {});
    await store.put(RULE);
    rmSync(path);
    await store.put({ ...RULE, group: "blue" });
    await store.close();
    expect(await allOf(openStore())).toHaveLength(2);
    expect(lost).toEqual(["rules.sqlite was removed"]);
  });

  test("a file without bytes next to a WAL is moved aside, since SQLite would delete the WAL", async () => {
    mkdirSync(dataDir);
    writeFileSync(path, "");
    writeFileSync(`${path}-wal`, "frames");
    expect(await allOf(openStore())).toEqual([]);
    expect(damaged).toEqual([`${path}.damaged-1`]);
    expect(readFileSync(`${path}.damaged-1-wal`, "utf8")).toBe("frames");
  });
});
