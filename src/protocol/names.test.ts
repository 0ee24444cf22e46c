import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { DEFAULT_HUB, hubKey, isHubName, isName, MAX_NAME_BYTES, spellHub } from "./names.ts";

describe("isHubName", () => {
  const longest = `a${"b".repeat(127)}`;
  test.each([DEFAULT_HUB, "a", "Z", "chat", "a_b.c,d[e]9", longest])("takes %j", (name) => {
    expect(isHubName(name)).toBe(true);
  });

  test.each([
    "",
    "9a",
    "_other",
    "_defaultx",
    ".a",
    "a-b",
    "a b",
    "a/b",
    "é",
    "a\n",
    "a\0",
    "\u212aelvin",
    "a\u017f",
    `${longest}c`,
  ])("refuses %j", (name) => expect(isHubName(name)).toBe(false));
});

describe("a hub is written", () => {
  test.each([
    ["as the configuration writes it", "chat", "ChaT"],
    ["so in any case in which it comes", "CHAT", "ChaT"],
    ["in lower case where the configuration does not name it", "NEWS", "news"],
    ["in lower case where its name is one of an object's own", "constructor", "constructor"],
  ])("%s", (_how, hub, written) => {
    const spellings: Record<string, string> = Object.assign(Object.create(null), { chat: "ChaT" });
    expect(spellHub(hub, spellings)).toBe(written);
  });
});

test("hubKey makes names that differ in case equal", () => {
  expect(hubKey("ChaT")).toBe(hubKey("CHAt"));
  expect(hubKey("chat")).not.toBe(hubKey("chat2"));
});

describe("isName", () => {
  test.each(["a", "Zoë", "a b", "a,b: c", "名前", "a\u00a0b"])("takes %j", (name) => expect(isName(name)).toBe(true));

  test("takes 512 bytes and refuses 513, counted in UTF-8", () => {
    expect(MAX_NAME_BYTES).toBe(512);
    expect(isName("a".repeat(512))).toBe(true);
    expect(isName("a".repeat(513))).toBe(false);
    expect(isName("ü".repeat(256))).toBe(true);
    expect(isName(`${"ü".repeat(256)}a`)).toBe(false);
    expect(isName("\u{1f600}".repeat(128))).toBe(true);
    expect(isName(`${"\u{1f600}".repeat(128)}a`)).toBe(false);
  });

  test.each([
    "",
    " ",
    " a",
    "a ",
    "\ta",
    "a\t",
    "a\n",
    "a\0b",
    "a\rb",
    "a\u007f",
    "a\u0085b",
    "a\u009fb",
    "\ud800",
    "a\udc00",
  ])("refuses %j, which a header would change or lose", (name) => expect(isName(name)).toBe(false));

  test("never throws; what it takes survives a header parser's trimming and UTF-8", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        if (!isName(text)) return;
        expect(text.trim()).toBe(text);
        expect(new TextDecoder("utf-8", { ignoreBOM: true }).decode(new TextEncoder().encode(text))).toBe(text);
        expect(text).not.toMatch(/[\r\n\0]/);
      }),
    );
  });
});
