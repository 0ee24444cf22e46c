import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DataDirGuard } from "../src/gateway/data-dir-guard.ts";
import { type DataDirLock, lockDataDir } from "../src/journal/data-dir-lock.ts";
import { hearing } from "./support/notices.ts";

let folder: string;
let told: string[];
let lock: DataDirLock;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-guard-"));
  told = [];
  lock = await lockDataDir(folder);
});
afterEach(() => {
  lock.release();
  rmSync(folder, { recursive: true, force: true });
});

function guard(...files: readonly string[]): DataDirGuard {
  const report = hearing({
    "file-restored": ({ name, reason }) => void told.push(`${name} restored: ${reason}`),
    "file-lost": ({ name, reason }) => void told.push(`${name} lost: ${reason}`),
  });
  const paths = files.map((name) => join(folder, name));
  return new DataDirGuard({ dataDir: folder, lock, files: paths, report });
}

describe("files in dataDir", () => {
  test("a key file that is removed or emptied is written again, and an operator's new one stays", () => {
    const path = join(folder, "access-key");
    writeFileSync(path, "secret\n", { mode: 0o600 });
    const watching = guard("access-key", "access-key-secondary");
    try {
      watching.look();
      expect(told).toEqual([]);
      rmSync(path);
      watching.look();
      expect(readFileSync(path, "utf8")).toBe("secret\n");
      truncateSync(path);
      watching.look();
      expect(readFileSync(path, "utf8")).toBe("secret\n");
      writeFileSync(path, "rotated\n");
      watching.look();
      expect(readFileSync(path, "utf8")).toBe("rotated\n");
      expect(told).toEqual([
        "access-key restored: access-key was removed",
        "access-key restored: access-key was emptied",
      ]);
    } finally {
      watching.stop();
    }
  });

  test("a lock whose file is removed is taken again, so that no other process finds the folder free", async () => {
    const watching = guard();
    try {
      rmSync(join(folder, "lock"));
      watching.look();
      expect(told).toEqual(["lock restored: lock was removed"]);
      expect(await lockDataDir(folder, { waitMs: 0 }).catch((error: Error) => error.message)).toContain("is in use");
    } finally {
      watching.stop();
    }
  });

  test("a lock that another process took meanwhile is said once", async () => {
    const watching = guard();
    try {
      rmSync(join(folder, "lock"));
      const other = await lockDataDir(folder, { waitMs: 0 });
      watching.look();
      watching.look();
      expect(told).toEqual(["lock lost: lock was replaced by another file, and another process has the new one"]);
      other.release();
      watching.look();
      expect(told.at(-1)).toBe("lock restored: lock was replaced by another file");
    } finally {
      watching.stop();
    }
  });

  test("only a folder that has a lock was used before", async () => {
    expect(lock.wasUsed).toBeFalse();
    lock.release();
    lock = await lockDataDir(folder);
    expect(lock.wasUsed).toBeTrue();
  });
});
