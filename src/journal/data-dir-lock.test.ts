import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { within } from "../../test/support/deadline.ts";
import { canMount, SmallDisk } from "../../test/support/small-disk.ts";
import { type DataDirLock, lockDataDir } from "./data-dir-lock.ts";

const IN_USE = "is in use by another hubwire: stop that one, or give this one a dataDir of its own";

let folder: string;
let dataDir: string;
let held: DataDirLock[];
let children: Bun.Subprocess[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-lock-"));
  dataDir = join(folder, "deep", "data");
  held = [];
  children = [];
});
afterEach(async () => {
  for (const lock of held) lock.release();
  for (const child of children) child.kill("SIGKILL");
  await Promise.all(children.map((child) => child.exited));
  rmSync(folder, { recursive: true, force: true });
});

async function lock(waitMs = 0): Promise<DataDirLock> {
  const taken = await lockDataDir(dataDir, { waitMs });
  held.push(taken);
  return taken;
}

/** Locks the folder in a process of its own, which holds it until it ends. Resolves with what it prints: `held`, or why not. */
async function lockElsewhere(): Promise<{ child: Bun.Subprocess; said: string }> {
  const script = `
    import { lockDataDir } from ${JSON.stringify(join(import.meta.dir, "data-dir-lock.ts"))};
    try {
      globalThis.lock = await lockDataDir(${JSON.stringify(dataDir)}, { waitMs: 0 });
      console.log("held");
      setInterval(() => {}, 60_000);
    } catch (error) {
      console.log(error.message);
    }
  `;
  const child = Bun.spawn([process.execPath, "-e", script], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  children.push(child);
  const { value } = await within(child.stdout.getReader().read(), "the other process");
  return { child, said: new TextDecoder().decode(value).trim() };
}

describe("the lock of a data folder", () => {
  test("makes the folder and an empty file, both their owner's alone", async () => {
    await lock();
    expect(statSync(dataDir).mode & 0o777).toBe(0o700);
    expect(statSync(join(dataDir, "lock")).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(dataDir, "lock"))).toHaveLength(0);
  });

  test("keeps another process out, with a sentence that names the folder", async () => {
    await lock();
    expect((await lockElsewhere()).said).toBe(`${dataDir} ${IN_USE}`);
  });

  test("keeps another holder in the same process out, and is still held against other processes then", async () => {
    await lock();
    await expect(lockDataDir(dataDir, { waitMs: 0 })).rejects.toThrow(`${dataDir} ${IN_USE}`);
    expect((await lockElsewhere()).said).toContain(IN_USE);
  });

  test("is free at once when its holder was killed", async () => {
    const { child, said } = await lockElsewhere();
    expect(said).toBe("held");
    await expect(lockDataDir(dataDir, { waitMs: 0 })).rejects.toThrow(IN_USE);
    child.kill("SIGKILL");
    await child.exited;
    await lock();
  });

  test("is waited for while its holder stops, and the event loop goes on meanwhile", async () => {
    const { child } = await lockElsewhere();
    const waiting = lock(60_000);
    let turns = 0;
    const timer = setInterval(() => {
      turns++;
      if (turns === 3) child.kill("SIGTERM");
    }, 20);
    await within(waiting, "the lock");
    clearInterval(timer);
    expect(turns).toBeGreaterThanOrEqual(3);
  });

  test("may be released twice, and is free afterwards", async () => {
    const taken = await lock();
    taken.release();
    taken.release();
    const { child, said } = await lockElsewhere();
    expect(said).toBe("held");
    child.kill("SIGKILL");
    await child.exited;
    await lock();
  });

  test("of another folder is another lock", async () => {
    await lock();
    dataDir = join(folder, "other");
    await lock();
  });

  test.skipIf(!canMount())("is there on a full disk, for which it needs no byte", async () => {
    using disk = new SmallDisk();
    dataDir = join(disk.folder, "data");
    mkdirSync(dataDir);
    disk.fill();
    const taken = await lock();
    expect(readdirSync(dataDir)).toEqual(["lock"]);
    expect((await lockElsewhere()).said).toBe(`${dataDir} ${IN_USE}`);
    taken.release();
    expect((await lockElsewhere()).said).toBe("held");
  });

  test("says what is wrong where there can be none", async () => {
    await lock().then((taken) => taken.release());
    writeFileSync(join(dataDir, "lock"), "this is not a lock of hubwire".repeat(200));
    await expect(lockDataDir(dataDir)).rejects.toThrow(`${join(dataDir, "lock")} cannot be locked: `);
    dataDir = join(dataDir, "lock", "below-a-file");
    await expect(lockDataDir(dataDir)).rejects.toThrow("ENOTDIR");
  });
});
