import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { replyFrame } from "./reply-frame.ts";
import { strictText } from "./strict-text.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const frameOf = (contentType: string, body: Uint8Array) => replyFrame({ contentType, body, text: strictText(body) });

describe("replyFrame", () => {
  test("an empty body is no message, whatever its type", () => {
    expect(frameOf("", new Uint8Array())).toBeNull();
    expect(frameOf("application/octet-stream", new Uint8Array())).toBeNull();
  });

  test.each(["", "text/plain", "application/json"])("UTF-8 under %j is text", (type) =>
    expect(frameOf(type, bytes("hällo"))).toBe("hällo"),
  );

  test.each([
    "application/octet-stream",
    "Application/OCTET-Stream",
    " application/octet-stream ",
    "application/octet-stream; charset=utf-8",
    "application/octet-stream ;x",
  ])("%j is binary", (type) => {
    const body = bytes("hello");
    expect(frameOf(type, body)).toBe(body);
  });

  test("a type that only begins alike is text", () => {
    expect(frameOf("application/octet-streams", bytes("a"))).toBe("a");
  });

  test.each([
    ["a byte that never stands in UTF-8", [0xff]],
    ["a cut-off sequence", [0x61, 0xc3]],
    ["an overlong sequence", [0xc0, 0x80]],
    ["a surrogate", [0xed, 0xa0, 0x80]],
  ])("%s makes it binary, since a text frame must be UTF-8", (_what, octets) => {
    const body = Uint8Array.from(octets);
    expect(frameOf("text/plain", body)).toBe(body);
  });

  test("a byte order mark and NUL stay", () => {
    expect(frameOf("", bytes("\ufeffa\0b"))).toBe("\ufeffa\0b");
    expect(frameOf("", bytes("\ufeff"))).toBe("\ufeff");
    expect(frameOf("", bytes("\0"))).toBe("\0");
  });

  test("never changes a byte", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1 }), fc.string(), (body, type) => {
        const frame = frameOf(type, body);
        expect(typeof frame === "string" ? bytes(frame) : frame).toEqual(body);
      }),
    );
  });
});
