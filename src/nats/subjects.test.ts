import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isName } from "../protocol/names.ts";
import { encodeToken, memberSubject } from "./subjects.ts";

const name = fc
  .oneof(
    fc.string({ unit: "grapheme", minLength: 1, maxLength: 512 }),
    fc.string({
      unit: fc.constantFrom("a", ".", "*", ">", "=", " ", "/", "ä", "🙂", "\\"),
      minLength: 1,
      maxLength: 80,
    }),
  )
  .filter(isName);

describe("a name as a token", () => {
  test("has only characters that a subject and a key may have, and is short", () => {
    fc.assert(
      fc.property(name, (text) => {
        const token = encodeToken(text);
        expect(token).toMatch(/^[A-Za-z0-9_=-]+$/);
        expect(token.length).toBeLessThanOrEqual(192);
      }),
    );
  });

  test("is another one for another name", () => {
    fc.assert(
      fc.property(name, name, (one, other) => {
        expect(encodeToken(one) === encodeToken(other)).toBe(one === other);
      }),
    );
    const close = [
      "a.b",
      "a=2Eb",
      "a=2eb",
      "A.b",
      "==",
      "=3D=3D",
      "x".repeat(64),
      "x".repeat(65),
      "ä".repeat(32),
      "ä".repeat(33),
    ];
    expect(new Set(close.map(encodeToken)).size).toBe(close.length);
  });

  test("is the name itself where that is plain, its hash past 64 bytes, and no name's plain token looks like a hash", () => {
    expect(encodeToken("plain_Name-1")).toBe("plain_Name-1");
    expect(encodeToken("x".repeat(64))).toBe("x".repeat(64));
    expect(encodeToken("x".repeat(65))).toMatch(/^==[A-Za-z0-9_-]{43}$/);
    expect(encodeToken("ä".repeat(32))).toBe("=C3=A4".repeat(32));
    expect(encodeToken("ä".repeat(33))).toMatch(/^==/);
    expect(encodeToken("==abc")).toBe("=3D=3Dabc");
  });
});

test("subjects tell hubs, groups and users apart, and hubs not by case", () => {
  const subjects = [
    memberSubject("p", { kind: "hub", hub: "Chat" }),
    memberSubject("p", { kind: "group", hub: "CHAT", name: "a" }),
    memberSubject("p", { kind: "user", hub: "chat", name: "a" }),
    memberSubject("p", { kind: "user", hub: "chat", name: "A" }),
    memberSubject("p", { kind: "user", hub: "a.b,[c]", name: "*" }),
  ];
  expect(subjects).toEqual([
    "p.hub.chat",
    "p.group.chat.a",
    "p.user.chat.a",
    "p.user.chat.A",
    "p.user.a=2Eb=2C=5Bc=5D.=2A",
  ]);
});
