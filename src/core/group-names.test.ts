import { expect, test } from "bun:test";
import fc from "fast-check";
import { GroupNames } from "./group-names.ts";

test("holds what a set would hold, in its order, however many they are", () => {
  const change = fc.tuple(fc.constantFrom("add", "delete"), fc.nat(40).map(String));
  fc.assert(
    fc.property(fc.array(fc.nat(40).map(String)), fc.array(change, { maxLength: 200 }), (first, changes) => {
      const names = new GroupNames(first);
      const expected = new Set(first);
      for (const [verb, name] of changes) {
        if (verb === "add") names.add(name);
        else names.delete(name);
        if (verb === "add") expected.add(name);
        else expected.delete(name);
        expect([names.size, names.has(name)]).toEqual([expected.size, expected.has(name)]);
      }
      expect([...names]).toEqual([...expected]);
    }),
  );
});

test("what is walked through stays as it is while names go", () => {
  for (const count of [3, 16, 17, 100]) {
    const names = new GroupNames(Array.from({ length: count }, (_unused, i) => `g${i}`));
    const seen: string[] = [];
    for (const name of names) {
      seen.push(name);
      names.delete(name);
    }
    expect([seen.length, names.size]).toEqual([count, 0]);
  }
});
