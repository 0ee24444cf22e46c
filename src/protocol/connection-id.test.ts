import { expect, test } from "bun:test";
import { nodeOf } from "./connection-id.ts";

test("the first eight of thirty characters name the node", () => {
  expect(nodeOf(`AbC_-123${"x".repeat(22)}`)).toBe("AbC_-123");
});

test("an id that no node of a cluster made names none", () => {
  for (const id of ["", "x".repeat(22), "x".repeat(29), "x".repeat(31), `${"x".repeat(29)}.`, `a.b${"x".repeat(27)}`]) {
    expect(nodeOf(id)).toBeNull();
  }
});
