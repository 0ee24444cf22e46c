import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { percentDecode, percentEncodeBytes, percentEncodeForHeader } from "./percent.ts";

describe("percentEncodeForHeader", () => {
  test.each([
    ["plain", "plain"],
    ["", ""],
    ["a,b", "a%2Cb"],
    ["50%", "50%25"],
    ["a: b", "a%3A b"],
    ["a:b", "a:b"],
    ["http://x/", "http://x/"],
    ["a:", "a:"],
    ["a: ", "a%3A%20"],
    [" a", "%20a"],
    ["a  ", "a%20%20"],
    ["   ", "%20%20%20"],
    ["a b", "a b"],
    ["\r\n\0\t", "%0D%0A%00%09"],
    ["\u007f", "%7F"],
    ["é", "%C3%A9"],
    ["\u{1f600}", "%F0%9F%98%80"],
    ["\ud800", "%EF%BF%BD"],
  ])("makes %j %j", (text, encoded) => expect(percentEncodeForHeader(text)).toBe(encoded));

  test("leaves nothing that breaks a header or the list, and loses nothing of well-formed text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        const encoded = percentEncodeForHeader(text);
        expect(encoded).toMatch(/^[\x20-\x7e]*$/);
        expect(encoded).not.toMatch(/,|: |^ | $/);
        expect(percentDecode(encoded)).toBe(text);
      }),
    );
  });
});

test("percentEncodeBytes encodes every byte, unreserved ones too", () => {
  expect(percentEncodeBytes("a\u0001ü")).toBe("%61%01%C3%BC");
});

describe("percentDecode", () => {
  test("decodes UTF-8 and leaves a plus alone", () => expect(percentDecode("a%20%C3%BC+")).toBe("a ü+"));

  test.each(["%", "%4", "%zz", "%ff", "%c3%28", "%ed%a0%80", "%c0%80"])("is null for %j", (text) => {
    expect(percentDecode(text)).toBeNull();
  });

  test("never throws", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const decoded = percentDecode(text);
        expect(decoded === null || typeof decoded === "string").toBe(true);
      }),
    );
  });
});
