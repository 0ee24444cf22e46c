import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseMessageType, readMessage } from "./message.ts";

const utf8 = new TextEncoder();

describe("the type of a message", () => {
  test.each([
    ["text/plain", "text"],
    ["TEXT/Plain", "text"],
    ["application/json", "text"],
    ["application/octet-stream", "binary"],
    ["text/plain; charset=utf-8", "text"],
    ["text/plain;charset=UTF8", "text"],
    ['application/json ; charset="utf-8"', "text"],
    ["text/plain; format=flowed; Charset=Utf-8", "text"],
    ["application/octet-stream;charset=utf-8", "binary"],
    [" text/plain ;", "text"],
  ] as const)("%p is %s", (type, expected) => {
    expect(parseMessageType(type)).toBe(expected);
  });

  test.each([
    null,
    "",
    ";",
    "text",
    "text/html",
    "text/plain2",
    "text/plain, text/plain",
    "application/json5",
    "application/problem+json",
    "multipart/form-data; boundary=x",
    "constructor",
    "text/plain; charset=latin1",
    "text/plain; charset=utf-16",
    "text/plain; charset=",
    'text/plain; charset="utf-8',
    "text/plain; charset=utf-8; charset=iso-8859-1",
    "application/octet-stream; charset=latin1",
  ])("%p cannot be sent", (type) => {
    expect(parseMessageType(type)).toBeNull();
  });

  test("reading any content type throws nothing", () => {
    fc.assert(
      fc.property(fc.string(), (type) => {
        expect(parseMessageType(type)).toBeOneOf(["text", "binary", null]);
      }),
    );
  });
});

describe("the body of a message", () => {
  test("is text for any UTF-8, byte for byte, a byte order mark and NUL included", () => {
    for (const text of ["", "grüße 🙂", "\ufeffmarked", "a\0b", "\r\n", "{"]) {
      expect(readMessage("text", utf8.encode(text))).toEqual({ type: "text", data: text });
    }
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        fc.pre(text.isWellFormed());
        expect(readMessage("text", utf8.encode(text))).toEqual({ type: "text", data: text });
      }),
    );
  });

  test.each([
    ["a byte that UTF-8 never uses", [0xff]],
    ["a character cut off", [0x61, 0xc3]],
    ["an overlong form", [0xc0, 0xaf]],
    ["half of a surrogate pair", [0xed, 0xa0, 0x80]],
    ["a code point beyond the last", [0xf4, 0x90, 0x80, 0x80]],
  ])("that is to be text is refused for %s", (_what, bytes) => {
    expect(readMessage("text", Uint8Array.from(bytes))).toMatchObject({
      status: 400,
      code: "bad_text",
      target: "body",
    });
  });

  test("is binary for any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        expect(readMessage("binary", bytes)).toEqual({ type: "binary", data: bytes });
      }),
    );
  });
});
