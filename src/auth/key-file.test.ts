import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readKeptKey, readOrMakeKeys } from "./key-file.ts";

let parent = "";
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), "hubwire-key-"));
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);

describe("readOrMakeKeys", () => {
  test("makes two keys of 32 random bytes in a folder that only its owner may enter, and keeps them", () => {
    const dataDir = join(parent, "deep", "data");
    const made = readOrMakeKeys(dataDir);
    const { primary, secondary } = made.keys;
    expect(primary).not.toBe(secondary ?? "");
    for (const key of [primary, secondary]) expect(Buffer.from(key ?? "", "base64")).toHaveLength(32);
    expect(made.path).toBe(join(dataDir, "access-key"));
    const second = join(dataDir, "access-key-secondary");
    expect([dataDir, made.path, second].map(modeOf)).toEqual(["700", "600", "600"]);
    expect(readFileSync(made.path, "utf8")).toBe(`${primary}\n`);
    expect(readFileSync(second, "utf8")).toBe(`${secondary}\n`);
    expect(readOrMakeKeys(dataDir)).toEqual(made);
    expect(readdirSync(dataDir).sort()).toEqual(["access-key", "access-key-secondary"]);
  });

  test("leaves a folder that is there as it is; the file is the owner's alone, with any umask", () => {
    const dataDir = join(parent, "data");
    mkdirSync(dataDir);
    chmodSync(dataDir, 0o755);
    const before = process.umask(0);
    try {
      const { path } = readOrMakeKeys(dataDir);
      expect([modeOf(dataDir), modeOf(path)]).toEqual(["755", "600"]);
    } finally {
      process.umask(before);
    }
  });

  test("reads a key that somebody wrote, without the white space around it", () => {
    writeFileSync(join(parent, "access-key"), " my own key \r\n");
    expect(readOrMakeKeys(parent).keys.primary).toBe("my own key");
  });

  test("a folder with one key keeps it, and gets the second", () => {
    writeFileSync(join(parent, "access-key"), "the first\n", { mode: 0o600 });
    const { keys } = readOrMakeKeys(parent);
    expect(keys.primary).toBe("the first");
    expect(Buffer.from(keys.secondary ?? "", "base64")).toHaveLength(32);
    expect(readFileSync(join(parent, "access-key"), "utf8")).toBe("the first\n");
    expect(readOrMakeKeys(parent).keys).toEqual(keys);
  });

  test("two folders have two keys", () => {
    expect(readOrMakeKeys(join(parent, "a")).keys.primary).not.toBe(readOrMakeKeys(join(parent, "b")).keys.primary);
  });

  test("refuses an empty file with a sentence that names it", () => {
    for (const name of ["access-key-secondary", "access-key"]) {
      for (const text of ["", " \n"]) {
        writeFileSync(join(parent, name), text);
        expect(() => readOrMakeKeys(parent)).toThrow(`${join(parent, name)} is empty`);
      }
    }
  });

  test("throws where the folder cannot be made", () => {
    writeFileSync(join(parent, "file"), "");
    expect(() => readOrMakeKeys(join(parent, "file", "data"))).toThrow();
  });

  test("processes that start at once end with the same key, and leave two files", async () => {
    // Many folders, each contended for anew: one race alone would be lost by chance only.
    const script = `import { readOrMakeKeys } from "./key-file.ts";
      const [parent, startAt] = process.argv.slice(-2);
      while (Date.now() < Number(startAt));
      const keys = [];
      for (let i = 0; i < 300; i++) keys.push(Object.values(readOrMakeKeys(parent + "/data" + i).keys).join(" "));
      console.log(keys.join());`;
    const startAt = String(Date.now() + 1500);
    const run = () =>
      Bun.spawn([process.execPath, "-e", script, "--", parent, startAt], {
        cwd: import.meta.dir,
        stdout: "pipe",
        stderr: "inherit",
      });
    const outputs = await Promise.all(Array.from({ length: 4 }, () => new Response(run().stdout).text()));
    expect(new Set(outputs).size).toBe(1);
    const keys = outputs[0]?.trim().split(",") ?? [];
    expect(new Set(keys).size).toBe(300);
    for (const [i, key] of keys.entries()) {
      const dataDir = join(parent, `data${i}`);
      expect(Object.values(readOrMakeKeys(dataDir).keys).join(" ")).toBe(key);
      expect(readdirSync(dataDir).sort()).toEqual(["access-key", "access-key-secondary"]);
    }
  }, 30_000);
});

describe("readKeptKey", () => {
  test("gives the kept key, and makes neither key nor folder if they are missing", () => {
    const dataDir = join(parent, "data");
    expect(readKeptKey(dataDir)).toBeNull();
    expect(readdirSync(parent)).toEqual([]);
    const { keys, path } = readOrMakeKeys(dataDir);
    expect(readKeptKey(dataDir)).toEqual({ key: keys.primary, path });
  });

  test("refuses an empty file with a sentence that names it", () => {
    writeFileSync(join(parent, "access-key"), "");
    expect(() => readKeptKey(parent)).toThrow(`${join(parent, "access-key")} is empty`);
  });
});
