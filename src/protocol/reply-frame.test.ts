import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { replyFrame } from "./reply-frame.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

describe("replyFrame", () => {
  test("an empty body is no message, whatever its type", () => {
    expect(replyFrame("", new Uint8Array())).toBeNull();
    expect(replyFrame("application/octet-stream", new Uint8Array())).toBeNull();
  });

  test.each(["", "text/plain", "application/json"])("UTF-8 under %j is text", (type) =>
    expect(replyFrame(type, bytes("hällo"))).toBe("hällo"),
  );

  test.each([
    "application/octet-stream",
    "Application/OCTET-Stream",
    " application/octet-stream ",
    "application/octet-stream; charset=utf-8",
    "application/octet-stream ;x",
  ])("%j is binary", (type) => {
    const body = bytes("hello");
    expect(replyFrame(type, body)).toBe(body);
  });

  test("a type that only begins alike is text", () => {
    expect(replyFrame("application/octet-streams", bytes("a"))).toBe("a");
  });

  test.each([
    ["a byte that never stands in UTF-8", [0xff]],
    ["a cut-off sequence", [0x61, 0xc3]],
    ["an overlong sequence", [0xc0, 0x80]],
    ["a surrogate", [0xed, 0xa0, 0x80]],
  ])("%s makes it binary, since a text frame must be UTF-8", (_what, octets) => {
    const body = Uint8Array.from(octets);
    expect(replyFrame("text/plain", body)).toBe(body);
  });

  test("a byte order mark and NUL stay", () => {
    expect(replyFrame("", bytes("\ufeffa\0b"))).toBe("\ufeffa\0b");
    expect(replyFrame("", bytes("\ufeff"))).toBe("\ufeff");
    expect(replyFrame("", bytes("\0"))).toBe("\0");
  });

  test("never changes a byte", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1 }), fc.string(), (body, type) => {
        const frame = replyFrame(type, body);
        expect(typeof frame === "string" ? bytes(frame) : frame).toEqual(body);
      }),
    );
  });
});
