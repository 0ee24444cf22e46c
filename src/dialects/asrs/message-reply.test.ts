import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { strictText } from "../../protocol/strict-text.ts";
import { readPayload } from "./message-reply.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
/** The data of the payload; its type is the one of the data. */
function dataOf(contentType: string, body: Uint8Array): string | Uint8Array | null {
  const payload = readPayload({ contentType, body, text: strictText(body) });
  if (payload !== null) expect(payload.type).toBe(typeof payload.data === "string" ? "text" : "binary");
  return payload?.data ?? null;
}

describe("readPayload", () => {
  test("an empty body is no message, with any type", () => {
    expect(dataOf("", new Uint8Array())).toBeNull();
    expect(dataOf("application/octet-stream", new Uint8Array())).toBeNull();
  });

  test.each(["", "text/plain", "application/json"])("UTF-8 under %j is text", (type) =>
    expect(dataOf(type, bytes("hällo"))).toBe("hällo"),
  );

  test.each([
    "application/octet-stream",
    "Application/OCTET-Stream",
    " application/octet-stream ",
    "application/octet-stream; charset=utf-8",
    "application/octet-stream ;x",
  ])("%j is binary", (type) => {
    const body = bytes("hello");
    expect(dataOf(type, body)).toBe(body);
  });

  test("a type that only begins alike is text", () => {
    expect(dataOf("application/octet-streams", bytes("a"))).toBe("a");
  });

  test.each([
    ["a byte that never occurs in UTF-8", [0xff]],
    ["a cut-off sequence", [0x61, 0xc3]],
    ["an overlong sequence", [0xc0, 0x80]],
    ["a surrogate", [0xed, 0xa0, 0x80]],
  ])("%s makes it binary, since a text frame must be UTF-8", (_what, octets) => {
    const body = Uint8Array.from(octets);
    expect(dataOf("text/plain", body)).toBe(body);
  });

  test("a byte order mark and NUL stay", () => {
    expect(dataOf("", bytes("\ufeffa\0b"))).toBe("\ufeffa\0b");
    expect(dataOf("", bytes("\ufeff"))).toBe("\ufeff");
    expect(dataOf("", bytes("\0"))).toBe("\0");
  });

  test("never changes a byte", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1 }), fc.string(), (body, type) => {
        const data = dataOf(type, body);
        expect(typeof data === "string" ? bytes(data) : data).toEqual(body);
      }),
    );
  });
});
