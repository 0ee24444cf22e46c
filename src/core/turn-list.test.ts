import { expect, test } from "bun:test";
import { TurnList } from "./turn-list.ts";

function listOf(...items: string[]): TurnList<string> {
  const list = new TurnList<string>();
  for (const item of items) list.add(item);
  return list;
}

function drained(list: TurnList<string>): string[] {
  const items: string[] = [];
  list.drain((item) => items.push(item));
  return items;
}

test("hands out what was added, in its order and once, turn after turn", () => {
  const list = new TurnList<string>();
  expect(drained(list)).toEqual([]);
  for (let turn = 0; turn < 5; turn++) {
    const items = Array.from({ length: [3, 200, 0, 1, 50][turn] ?? 0 }, (_empty, index) => `${turn}.${index}`);
    for (const item of items) list.add(item);
    expect(list.count).toBe(items.length);
    expect(drained(list)).toEqual(items);
    expect(list.count).toBe(0);
  }
});

test("what is added while it is drained waits for the next time", () => {
  const list = listOf("a", "b");
  const seen: string[] = [];
  list.drain((item) => {
    seen.push(item);
    list.add(`after ${item}`);
  });
  expect([seen, list.count]).toEqual([["a", "b"], 2]);
  expect(drained(list)).toEqual(["after a", "after b"]);
});

test("may be drained while it is drained", () => {
  const list = listOf("a", "b");
  const seen: string[] = [];
  list.drain((item) => {
    seen.push(item);
    if (item !== "a") return;
    list.add("inner");
    list.drain((inner) => seen.push(inner));
  });
  expect(seen).toEqual(["a", "inner", "b"]);
  list.add("c");
  expect(drained(list)).toEqual(["c"]);
});

test("where one of them throws, the others are handed out the next time, in front of what came meanwhile", () => {
  const list = listOf("a", "b", "c", "d");
  const throwing = () =>
    list.drain((item) => {
      list.add(`after ${item}`);
      if (item === "b") throw new Error("a bug");
    });
  expect(throwing).toThrow("a bug");
  expect(drained(list)).toEqual(["c", "d", "after a", "after b"]);
  expect(list.count).toBe(0);
});

test.each([-1, 0, 50])("keeps nothing alive that was handed out, where number %d throws", async (failing) => {
  const list = new TurnList<object>();
  let collected = 0;
  const registry = new FinalizationRegistry(() => collected++);
  const fill = () => {
    for (let i = 0; i < 100; i++) {
      const item = { i };
      registry.register(item, null);
      list.add(item);
    }
    const each = (item: object) => {
      if ("i" in item && item.i === failing) throw new Error("a bug");
    };
    try {
      list.drain(each);
    } catch {
      list.drain(each);
    }
  };
  fill();
  for (let i = 0; i < 50 && collected < 90; i++) {
    Bun.gc(true);
    await new Promise((resolve) => setImmediate(resolve));
  }
  // A few may still be seen on the stack.
  expect(collected).toBeGreaterThanOrEqual(90);
  expect(list.count).toBe(0);
});
