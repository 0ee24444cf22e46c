import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findUnusedData, restartDelayMs, startWords } from "./processes.ts";

const folder = mkdtempSync(join(tmpdir(), "hubwire-unused-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("a process that has ended", () => {
  test("waits half a second, then twice as long each time, up to half a minute", () => {
    const waits: number[] = [];
    for (let count = 0; count < 9; count++) waits.push(restartDelayMs(waits.at(-1) ?? 0, 9999));
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  });

  test("waits as for the first time once it has lived for ten seconds", () => {
    expect(restartDelayMs(30_000, 9999)).toBe(30_000);
    expect(restartDelayMs(30_000, 10_000)).toBe(500);
    expect(restartDelayMs(0, 0)).toBe(500);
  });
});

describe("the words of a process", () => {
  test("are the flags of all, with its own folder and the port shared, even if they name others", () => {
    const flags = { "listen-port": "1", upstreams: '[{"a": "b c"}]', "data-dir": "x", "listen-reuse-port": "false" };
    const words = startWords({ dataDir: "/data", filePath: "/etc/a.yaml", flags }, 3);
    const own = ["--data-dir=/data/node-3", "--listen-reuse-port=true"];
    expect(words).toEqual(["start", "--config=/etc/a.yaml", "--listen-port=1", '--upstreams=[{"a": "b c"}]', ...own]);
    expect(startWords({ dataDir: "/data", filePath: null, flags: {} }, 3)).toEqual(["start", ...own]);
  });
});

describe("data that no process works with", () => {
  test("is that of one process alone, and of numbers from the count on", () => {
    for (const name of ["node-0", "node-1", "node-2", "node-10", "node-x", "other"]) mkdirSync(join(folder, name));
    writeFileSync(join(folder, "journal.sqlite"), "");
    expect(findUnusedData(folder, 2)).toEqual(["journal.sqlite", "node-10", "node-2"]);
    expect(findUnusedData(folder, 11)).toEqual(["journal.sqlite"]);
  });

  test("is empty without a data folder", () => expect(findUnusedData(join(folder, "none"), 1)).toEqual([]));
});
