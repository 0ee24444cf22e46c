import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatClaims, MAX_CLAIMS_BYTES, parseClaims } from "./claims.ts";

function format(json: string): string {
  const formatted = formatClaims(parseClaims(json) ?? []);
  if (formatted === null) throw new Error("they are too long");
  return formatted;
}

test("8 KiB is the longest that the claims may become", () => expect(MAX_CLAIMS_BYTES).toBe(8192));

describe("parseClaims", () => {
  test.each(["", "[]", "null", '"a"', "1", "true", "{", '{"a":}', "{'a':1}", '{"a":1,}', "{}x", "not json"])(
    "is null for %j",
    (json) => expect(parseClaims(json)).toBeNull(),
  );

  test("an empty object has no claims, with any white space in it", () => {
    expect(parseClaims("{}")).toEqual([]);
    expect(parseClaims(" {\r\n\t } ")).toEqual([]);
  });

  test("keeps the token's order where JSON.parse would move integer-like names to the front", () => {
    expect(parseClaims('{"b":1,"2":2,"a":3,"1":4}')?.map(({ type }) => type)).toEqual(["b", "2", "a", "1"]);
  });

  test("keeps repeated names where JSON.parse would drop all but the last", () => {
    expect(parseClaims('{"role":"a","x":1,"role":"b"}')?.map(({ type, value }) => [type, value])).toEqual([
      ["role", "a"],
      ["x", 1],
      ["role", "b"],
    ]);
  });

  test("a name that JavaScript's objects know already is a claim like any other", () => {
    expect(parseClaims('{"__proto__":{"a":1},"constructor":2}')?.map(({ type }) => type)).toEqual([
      "__proto__",
      "constructor",
    ]);
  });

  test("a name in escapes is the decoded name", () => {
    expect(parseClaims('{"\\u0073ub":"a\\"\\\\","\\"":1}')?.map(({ type, value }) => [type, value])).toEqual([
      ["sub", 'a"\\'],
      ['"', 1],
    ]);
  });

  test("says the same as JSON.parse, with any spacing", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue()), fc.nat(3), (object, indent) => {
        const json = JSON.stringify(object, null, indent);
        const claims = parseClaims(json) ?? [];
        const parsed = JSON.parse(json) as Record<string, unknown>;
        expect(claims).toHaveLength(Object.keys(parsed).length);
        for (const { type, value, json: own } of claims) {
          expect(value).toEqual(parsed[type]);
          expect(JSON.parse(own)).toEqual(parsed[type]);
          expect(own).toBe(JSON.stringify(JSON.parse(own)));
        }
      }),
    );
  });

  test("never throws, and is null just where JSON.parse finds no object", () => {
    const pieces = fc.constantFrom(
      "{",
      "}",
      "[",
      "]",
      '"',
      "\\",
      ",",
      ":",
      " ",
      "1",
      "-",
      "e",
      "true",
      "null",
      "a",
      '"a"',
    );
    const junk = fc.oneof(
      fc.array(pieces, { maxLength: 12 }).map((all) => all.join("")),
      fc.string(),
    );
    fc.assert(
      fc.property(junk, (text) => {
        let whole: unknown = null;
        try {
          whole = JSON.parse(text);
        } catch {}
        const isObject = typeof whole === "object" && whole !== null && !Array.isArray(whole);
        expect(parseClaims(text) !== null).toBe(isObject);
      }),
      { numRuns: 3000 },
    );
  });

  test("nesting as deep as a request head can hold ends in an answer", () => {
    const deep = `{"a":${"[".repeat(8000)}${"]".repeat(8000)}}`;
    expect(() => parseClaims(deep)).not.toThrow();
  });
});

describe("formatClaims", () => {
  test("joins pairs by comma and space, in the token's order", () => {
    expect(format('{"sub":"alice","iss":"me"}')).toBe("sub: alice, iss: me");
    expect(format("{}")).toBe("");
  });

  test("numbers are as the token wrote them", () => {
    expect(format('{"a":12345678901234567890,"b":1.0,"c":1e3,"d":-0,"e":0.10}')).toBe(
      "a: 12345678901234567890, b: 1.0, c: 1e3, d: -0, e: 0.10",
    );
  });

  test("booleans, null and objects are JSON without white space between tokens", () => {
    expect(format('{"a":true,"b":null,"o":{ "x y" : [ 1 , "p  q" ] }}')).toBe(
      'a: true, b: null, o: {"x y":[1%2C"p  q"]}',
    );
    expect(format('{"a":{\n"b":1\r\n}}')).toBe('a: {"b":1}');
  });

  test("a colon before a space inside an object's string is encoded, so that a split at `: ` finds the pair's own", () => {
    expect(format('{"o":{"k":"a: b"}}')).toBe('o: {"k":"a%3A b"}');
  });

  test("an array of scalars is one pair an element, each spelt as in the token", () => {
    expect(format('{"role":["a","b,c","d\\"]",1.0,12345678901234567890,true,null]}')).toBe(
      'role: a, role: b%2Cc, role: d"], role: 1.0, role: 12345678901234567890, role: true, role: null',
    );
    expect(format('{"role":[],"a":1}')).toBe("a: 1");
    expect(format('{"role":[""]}')).toBe("role: ");
  });

  test("an array that holds an object or an array is one value", () => {
    expect(format('{"a":[1,{"b":2}],"c":[[1]]}')).toBe('a: [1%2C{"b":2}], c: [[1]]');
  });

  test("what would break the header or the list is percent-encoded as UTF-8, in names too", () => {
    expect(format('{"a: b,c":"x\\r\\ny\\u0000","ü":"é 50%"}')).toBe("a%3A b%2Cc: x%0D%0Ay%00, %C3%BC: %C3%A9 50%25");
  });

  test("is null past its bound, at the first pair that is over it", () => {
    const fits = { type: "a", value: "x".repeat(MAX_CLAIMS_BYTES - 3), json: "" };
    expect(formatClaims([fits])).toHaveLength(MAX_CLAIMS_BYTES);
    expect(formatClaims([{ ...fits, value: `${fits.value}x` }])).toBeNull();
    let readCount = 0;
    const elements = Array.from({ length: 1000 }, (_empty, index) => index);
    const name = {
      json: JSON.stringify(elements),
      value: elements,
      get type() {
        readCount++;
        return "n".repeat(3000);
      },
    };
    const later = {
      ...fits,
      get type(): string {
        throw new Error("read though it no longer matters");
      },
    };
    expect(formatClaims([name, later])).toBeNull();
    expect(readCount).toBe(1);
  });

  test("splits back into its pairs, and stays one printable line", () => {
    const value = fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc.integer(),
      fc.boolean(),
      fc.array(fc.string(), { minLength: 1 }),
    );
    fc.assert(
      fc.property(fc.dictionary(fc.string({ unit: "grapheme", minLength: 1 }), value, { minKeys: 1 }), (object) => {
        const line = format(JSON.stringify(object));
        expect(line).toMatch(/^[\x20-\x7e]*$/);
        const pairs = line.split(",").map((pair) => {
          const colon = pair.indexOf(": ");
          return [decodeURIComponent(pair.slice(0, colon).trim()), decodeURIComponent(pair.slice(colon + 2))];
        });
        const expected = Object.entries(object).flatMap(([type, entry]) =>
          (Array.isArray(entry) ? entry : [entry]).map((one) => [type, String(one)]),
        );
        expect(pairs).toEqual(expected);
      }),
    );
  });
});
