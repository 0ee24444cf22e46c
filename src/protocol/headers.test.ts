import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { decodeHeaderValue, headerValues } from "./headers.ts";

const latin1 = (octets: Iterable<number>) => String.fromCharCode(...octets);

describe("headerValues", () => {
  test("gives every value under a name, in order and in any case", () => {
    expect(
      headerValues(
        [
          ["X-A", "1"],
          ["x-b", "2"],
          ["x-a", "3"],
        ],
        "x-a",
      ),
    ).toEqual(["1", "3"]);
    expect(headerValues([], "x-a")).toEqual([]);
  });
});

describe("decodeHeaderValue", () => {
  test("ASCII stays", () => expect(decodeHeaderValue("a\tb~")).toBe("a\tb~"));

  test("bytes that are UTF-8 become their text, a byte order mark included", () => {
    expect(decodeHeaderValue(latin1(new TextEncoder().encode("zoë \u{1f600}")))).toBe("zoë \u{1f600}");
    expect(decodeHeaderValue(latin1([0xef, 0xbb, 0xbf, 0x61]))).toBe("\ufeffa");
  });

  test.each([[[0x65, 0xe9]], [[0xc3]], [[0xc0, 0x80]], [[0xed, 0xa0, 0x80]], [[0xff, 0x61]]])(
    "bytes %j are no UTF-8 and stay Latin-1",
    (octets) => expect(decodeHeaderValue(latin1(octets))).toBe(latin1(octets)),
  );

  test("gives back every text that went out as UTF-8", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        expect(decodeHeaderValue(latin1(new TextEncoder().encode(text)))).toBe(text);
      }),
    );
  });

  test("never throws", () => {
    fc.assert(
      fc.property(fc.uint8Array(), (octets) => {
        expect(typeof decodeHeaderValue(latin1(octets))).toBe("string");
      }),
    );
  });
});
