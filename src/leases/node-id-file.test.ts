import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readNodeId, writeNodeId } from "./node-id-file.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-node-id-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("gives back the last name that was written, in a folder and a file of the owner alone", () => {
  const dataDir = join(folder, "data");
  expect(readNodeId(dataDir)).toBeNull();
  for (const nodeId of ["AbC_-123", "zzzzzzzz"]) writeNodeId(dataDir, nodeId);
  expect(readNodeId(dataDir)).toBe("zzzzzzzz");
  expect([statSync(dataDir).mode & 0o777, statSync(join(dataDir, "node-id")).mode & 0o777]).toEqual([0o700, 0o600]);
});

test("takes nothing for a name that a subject could not have", () => {
  for (const text of ["", "\n", "a.b", "a b", ">", "ü", "x".repeat(65)]) {
    writeFileSync(join(folder, "node-id"), text);
    expect(readNodeId(folder)).toBeNull();
  }
});

test("writes through no symbolic link that others have put there", () => {
  const target = join(folder, "target");
  writeFileSync(target, "another's");
  for (const name of ["node-id", "node-id.draft"]) symlinkSync(target, join(folder, name));
  expect(() => readNodeId(folder)).toThrow("is not a regular file");
  writeNodeId(folder, "AbC_-123");
  expect(readNodeId(folder)).toBe("AbC_-123");
  expect(readFileSync(target, "utf8")).toBe("another's");
});

test("throws where the path cannot be read or written", () => {
  mkdirSync(join(folder, "node-id"));
  expect(() => readNodeId(folder)).toThrow();
  expect(() => writeNodeId(folder, "AbC_-123")).toThrow();
});
