import { expect, test } from "bun:test";
import { ownCopy } from "./own-copy.ts";

test("says the same as the text", () => {
  for (const text of ["", "alice", "\ufeffü€😀", "a".repeat(100_000)]) expect(ownCopy(text)).toBe(text);
});

test("does not keep what the text was cut out of", () => {
  const usedBytes = () => {
    Bun.gc(true);
    return process.memoryUsage.rss();
  };
  const before = usedBytes();
  const kept = Array.from({ length: 200 }, () => ownCopy(Buffer.alloc(1_000_000, "x").toString("latin1").slice(7, 27)));
  expect(usedBytes() - before).toBeLessThan(100_000_000);
  expect(kept).toHaveLength(200);
});
