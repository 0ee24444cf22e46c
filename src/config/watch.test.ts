import { afterEach, beforeEach, expect, jest, test } from "bun:test";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigWatch } from "./watch.ts";

let folder: string;
let path: string;
let watch: ConfigWatch;
let changes: number;

beforeEach(() => {
  jest.useFakeTimers();
  folder = mkdtempSync(join(tmpdir(), "hubwire-watch-"));
  path = join(folder, "hubwire.yaml");
  changes = 0;
});
afterEach(() => {
  watch.stop();
  jest.useRealTimers();
  rmSync(folder, { recursive: true, force: true });
});

function start(): void {
  watch = new ConfigWatch(path, () => changes++);
}

/** Counts the calls within so many rounds. */
function changesIn(rounds: number): number {
  changes = 0;
  for (let round = 0; round < rounds; round++) jest.advanceTimersByTime(500);
  return changes;
}

/** Writes with a time of its own: two writes of a test may fall into one tick of the file system's clock. */
function write(text: string, seconds: number, file = path): void {
  writeFileSync(file, text);
  utimesSync(file, seconds, seconds);
}

test("a write in place is told once, when the file has not changed for a round", () => {
  write("a: 1", 1);
  start();
  expect(changesIn(5)).toBe(0);
  write("a: 2", 2);
  expect([changesIn(1), changesIn(1), changesIn(5)]).toEqual([0, 1, 0]);
});

test("what is still being written is waited for", () => {
  write("a: 1", 1);
  start();
  const told: number[] = [];
  for (const seconds of [2, 3, 4, 5]) {
    write(`a: ${"x".repeat(seconds)}`, seconds);
    told.push(changesIn(1));
  }
  expect([told, changesIn(1), changesIn(5)]).toEqual([[0, 0, 0, 0], 1, 0]);
});

test("a replacement by rename is told, as editors do it", () => {
  write("a: 1", 1);
  start();
  const draft = join(folder, ".hubwire.yaml.swp");
  write("a: 2", 1, draft);
  renameSync(draft, path);
  expect(changesIn(2)).toBe(1);
});

test("an exchanged link to a folder is told, as Kubernetes does it", () => {
  for (const name of ["..one", "..two"]) mkdirSync(join(folder, name));
  write("a: 1", 1, join(folder, "..one", "hubwire.yaml"));
  write("a: 2", 1, join(folder, "..two", "hubwire.yaml"));
  symlinkSync("..one", join(folder, "..data"));
  symlinkSync(join("..data", "hubwire.yaml"), path);
  start();
  expect(changesIn(3)).toBe(0);
  symlinkSync("..two", join(folder, "..data_tmp"));
  renameSync(join(folder, "..data_tmp"), join(folder, "..data"));
  rmSync(join(folder, "..one"), { recursive: true });
  expect([changesIn(2), changesIn(5)]).toEqual([1, 0]);
});

test("the same content is no change, however it came", () => {
  write("a: 1", 1);
  start();
  write("a: 1", 2);
  expect(changesIn(5)).toBe(0);
  const draft = join(folder, "draft");
  write("a: 1", 3, draft);
  renameSync(draft, path);
  expect(changesIn(5)).toBe(0);
  write("a: 2", 4);
  expect(changesIn(5)).toBe(1);
});

test("a file that is gone is waited for", () => {
  write("a: 1", 1);
  start();
  rmSync(path);
  expect(changesIn(5)).toBe(0);
  write("a: 1", 2);
  expect(changesIn(5)).toBe(0);
  rmSync(path);
  expect(changesIn(5)).toBe(0);
  write("a: 2", 3);
  expect(changesIn(5)).toBe(1);
});

test("read takes the content of now for what it was", () => {
  write("a: 1", 1);
  start();
  write("a: 2", 2);
  expect(changesIn(1)).toBe(0);
  expect(watch.read()).toBe("a: 2");
  expect(changesIn(5)).toBe(0);
  write("a: 1", 3);
  expect(changesIn(5)).toBe(1);
});

test("nothing is told after stop, which may be called twice", () => {
  write("a: 1", 1);
  start();
  write("a: 2", 2);
  expect(changesIn(1)).toBe(0);
  watch.stop();
  watch.stop();
  expect(changesIn(5)).toBe(0);
});
