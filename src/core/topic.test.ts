import { expect, test } from "bun:test";
import fc from "fast-check";
import { type Encoding, FIRST_ENCODING } from "../protocol/client-protocol.ts";
import type { Target } from "../protocol/envelope.ts";
import { hubKey, isHubName, isName } from "../protocol/names.ts";
import { topicOf } from "./topic.ts";

const topic = (target: Target): string => topicOf(target, FIRST_ENCODING);

test("the topic is the same for every spelling of the hub and keeps the case of names", () => {
  expect(topic({ kind: "hub", hub: "Chat" })).toBe(topic({ kind: "hub", hub: "chat" }));
  expect(topic({ kind: "group", hub: "CHAT", name: "Red" })).toBe(topic({ kind: "group", hub: "chat", name: "Red" }));
  expect(topic({ kind: "group", hub: "chat", name: "Red" })).not.toBe(
    topic({ kind: "group", hub: "chat", name: "red" }),
  );
});

test("the members of a target have a topic for each encoding", () => {
  const other = "other" as Encoding;
  expect(topicOf({ kind: "hub", hub: "chat" }, other)).not.toBe(topic({ kind: "hub", hub: "chat" }));
  const target = { kind: "group", hub: "chat", name: "red" } as const;
  expect(topicOf(target, other)).not.toBe(topic(target));
});

test("a hub, and a user, a group and a connection of one name, have topics of their own", () => {
  const targets: Target[] = [
    { kind: "hub", hub: "chat" },
    { kind: "user", hub: "chat", name: "chat" },
    { kind: "group", hub: "chat", name: "chat" },
    { kind: "connection", hub: "chat", name: "chat" },
    { kind: "group", hub: "news", name: "chat" },
  ];
  expect(new Set(targets.map(topic)).size).toBe(targets.length);
});

test("two targets have one topic only where kind, hub and name are the same, with any characters in the names", () => {
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
      expect(topic(one) === topic(other)).toBe(keyOf(one) === keyOf(other));
    }),
  );
});
