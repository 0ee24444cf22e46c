import { expect, test } from "bun:test";
import fc from "fast-check";
import { subjectOf, type Target } from "./envelope.ts";
import { hubKey, isHubName, isName } from "./names.ts";

test("the subject is the same for every spelling of the hub and keeps the case of names", () => {
  expect(subjectOf({ kind: "hub", hub: "Chat" })).toBe(subjectOf({ kind: "hub", hub: "chat" }));
  expect(subjectOf({ kind: "group", hub: "CHAT", name: "Red" })).toBe(
    subjectOf({ kind: "group", hub: "chat", name: "Red" }),
  );
  expect(subjectOf({ kind: "group", hub: "chat", name: "Red" })).not.toBe(
    subjectOf({ kind: "group", hub: "chat", name: "red" }),
  );
});

test("a hub, and a user, a group and a connection of one name, have subjects of their own", () => {
  const targets: Target[] = [
    { kind: "hub", hub: "chat" },
    { kind: "user", hub: "chat", name: "chat" },
    { kind: "group", hub: "chat", name: "chat" },
    { kind: "connection", hub: "chat", name: "chat" },
    { kind: "group", hub: "news", name: "chat" },
  ];
  expect(new Set(targets.map(subjectOf)).size).toBe(targets.length);
});

test("two targets have one subject only where kind, hub and name are the same, with any characters in the names", () => {
  const hub = fc.constantFrom("a", "A", "ab", "a.b", "a[", "_default", "hub", "user").filter(isHubName);
  const name = fc
    .string({ unit: fc.constantFrom("a", "b", ".", " ", "[", "/", "\\", "hub", "é", "🙂"), minLength: 1, maxLength: 4 })
    .filter(isName);
  const target: fc.Arbitrary<Target> = fc.oneof(
    hub.map((value): Target => ({ kind: "hub", hub: value })),
    fc.record({ kind: fc.constantFrom("user", "group", "connection"), hub, name }),
  );
  const keyOf = (one: Target): string =>
    JSON.stringify([one.kind, hubKey(one.hub), one.kind === "hub" ? null : one.name]);
  fc.assert(
    fc.property(target, target, (one, other) => {
      expect(subjectOf(one) === subjectOf(other)).toBe(keyOf(one) === keyOf(other));
    }),
  );
});
