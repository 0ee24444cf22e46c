import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readKeptKey, readOrMakeKey } from "./key-file.ts";

let parent = "";
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), "hubwire-key-"));
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);

describe("readOrMakeKey", () => {
  test("makes a key of 32 random bytes in a folder that only its owner may enter, and keeps it", () => {
    const dataDir = join(parent, "deep", "data");
    const made = readOrMakeKey(dataDir);
    expect(Buffer.from(made.key, "base64")).toHaveLength(32);
    expect(made.path).toBe(join(dataDir, "access-key"));
    expect([modeOf(dataDir), modeOf(made.path)]).toEqual(["700", "600"]);
    expect(readFileSync(made.path, "utf8")).toBe(`${made.key}\n`);
    expect(readOrMakeKey(dataDir)).toEqual(made);
    expect(readdirSync(dataDir)).toEqual(["access-key"]);
  });

  test("leaves a folder that is there as it is; the file is the owner's alone, whatever the umask", () => {
    const dataDir = join(parent, "data");
    mkdirSync(dataDir);
    chmodSync(dataDir, 0o755);
    const before = process.umask(0);
    try {
      const { path } = readOrMakeKey(dataDir);
      expect([modeOf(dataDir), modeOf(path)]).toEqual(["755", "600"]);
    } finally {
      process.umask(before);
    }
  });

  test("reads a key that somebody wrote, without the white space around it", () => {
    writeFileSync(join(parent, "access-key"), " my own key \r\n");
    expect(readOrMakeKey(parent).key).toBe("my own key");
  });

  test("two folders have two keys", () => {
    expect(readOrMakeKey(join(parent, "a")).key).not.toBe(readOrMakeKey(join(parent, "b")).key);
  });

  test("refuses an empty file with a sentence that names it", () => {
    for (const text of ["", " \n"]) {
      writeFileSync(join(parent, "access-key"), text);
      expect(() => readOrMakeKey(parent)).toThrow(`${join(parent, "access-key")} is empty`);
    }
  });

  test("throws where the folder cannot be made", () => {
    writeFileSync(join(parent, "file"), "");
    expect(() => readOrMakeKey(join(parent, "file", "data"))).toThrow();
  });

  test("processes that start at once end with the same key, and leave one file", async () => {
    // Many folders, each contended for anew: one race alone would be lost by chance only.
    const script = `import { readOrMakeKey } from "./key-file.ts";
      const [parent, startAt] = process.argv.slice(-2);
      while (Date.now() < Number(startAt));
      const keys = [];
      for (let i = 0; i < 300; i++) keys.push(readOrMakeKey(parent + "/data" + i).key);
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
      expect(readOrMakeKey(dataDir).key).toBe(key);
      expect(readdirSync(dataDir)).toEqual(["access-key"]);
    }
  }, 30_000);
});

describe("readKeptKey", () => {
  test("gives the kept key, and makes neither key nor folder where there is none", () => {
    const dataDir = join(parent, "data");
    expect(readKeptKey(dataDir)).toBeNull();
    expect(readdirSync(parent)).toEqual([]);
    const made = readOrMakeKey(dataDir);
    expect(readKeptKey(dataDir)).toEqual(made);
  });

  test("refuses an empty file with a sentence that names it", () => {
    writeFileSync(join(parent, "access-key"), "");
    expect(() => readKeptKey(parent)).toThrow(`${join(parent, "access-key")} is empty`);
  });
});
