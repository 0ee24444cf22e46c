import { describe, expect, spyOn, test } from "bun:test";
import fc from "fast-check";
import { formatClientQuery, queryTokens, queryValues } from "./client-query.ts";

/** Spellings that all decode to `access_token`. */
const SPELLINGS = [
  "access_token",
  "access%5Ftoken",
  "access%5ftoken",
  "%61ccess_token",
  "%61%63%63%65%73%73%5F%74%6F%6B%65%6E",
];

/** As a form's part is decoded; null where its escapes are malformed. */
function decoded(part: string): string | null {
  try {
    return decodeURIComponent(part.replaceAll("+", " "));
  } catch {
    return null;
  }
}

describe("queryValues", () => {
  test("finds every pair of the name, in order, decoded", () => {
    expect(queryValues("hub=a&x=1&h%75b=b+c%2B", "hub")).toEqual(["a", "b c+"]);
    expect(queryValues("", "hub")).toEqual([]);
    expect(queryValues("x=1", "hub")).toEqual([]);
  });

  test("a pair without a value is an empty one; a value may hold equals signs", () => {
    expect(queryValues("hub&hub=&hub=a=b", "hub")).toEqual(["", "", "a=b"]);
  });

  test("a malformed escape in the value is null, and in the name names nothing else", () => {
    expect(queryValues("hub=%zz&hub=%ff", "hub")).toEqual([null, null]);
    expect(queryValues("hub%=a", "hub")).toEqual([]);
    expect(queryValues("%=a&h%=b&hu%6=c&hu%6", "hub")).toEqual([]);
  });

  test("names compare with their case", () => expect(queryValues("HUB=a", "hub")).toEqual([]));

  test("finds what decoding each pair finds, and no more than are asked for", () => {
    const octet = fc.integer({ min: 0x60, max: 0x80 }).map((byte) => `%${byte.toString(16)}`);
    const piece = fc.oneof(fc.constantFrom("hub", "h", "u", "b", "&", "=", "+", "%"), octet);
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        const query = pieces.join("");
        const expected = query.split("&").filter((pair) => decoded(pair.split("=")[0] ?? "") === "hub");
        const values = expected.map((pair) => (pair.includes("=") ? decoded(pair.slice(pair.indexOf("=") + 1)) : ""));
        expect(queryValues(query, "hub")).toEqual(values);
        expect(queryValues(query, "hub", 2)).toEqual(values.slice(0, 2));
      }),
      { numRuns: 5000 },
    );
  });

  test("thousands of names and values that are malformed are not decoded one by one", () => {
    using decode = spyOn(globalThis, "decodeURIComponent");
    for (const pair of ["%", "%zz", "h%", "%ff", "a=%", "access%5Ftoken%", "hub=%"]) {
      const query = `${pair}&`.repeat(4000);
      queryValues(query, "hub", 2);
      queryTokens(query);
      formatClientQuery(query);
    }
    expect(decode.mock.calls.length).toBeLessThan(10);
  });

  test("never throws", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.constantFrom("hub", "ttl"), (query, name) => {
        expect(Array.isArray(queryValues(query, name))).toBe(true);
      }),
    );
  });
});

describe("queryTokens", () => {
  test.each(SPELLINGS)("sees the token under %s", (name) =>
    expect(queryTokens(`a=1&${name}=t.o.k`)).toEqual(["t.o.k"]),
  );

  test("repeats are all counted, in any spelling", () => {
    expect(queryTokens("access_token=a&access%5Ftoken=b")).toEqual(["a", "b"]);
  });

  test("an empty, missing or malformed value still is a token, so that nobody becomes anonymous by it", () => {
    expect(queryTokens("access_token")).toEqual([""]);
    expect(queryTokens("access_token=")).toEqual([""]);
    expect(queryTokens("access_token=%zz")).toEqual([""]);
  });

  test("a name that only looks similar does not count", () => {
    expect(queryTokens("access+token=a&xaccess_token=b&access%255Ftoken=c&access_token%20=d")).toEqual([]);
  });
});

describe("formatClientQuery", () => {
  test("keeps the query as the client wrote it", () => {
    const query = "a=1&b=%0d%0a&b=2&&c&=d&e=%zz&f=[1]&g=a+b;'()*!/?:@$,";
    expect(formatClientQuery(query)).toBe(query);
    expect(formatClientQuery("")).toBe("");
  });

  test.each(SPELLINGS)("leaves the token out under %s, in any place", (name) => {
    expect(formatClientQuery(`${name}=secret&a=1`)).toBe("a=1");
    expect(formatClientQuery(`a=1&${name}=secret&b=2&${name}=secret2`)).toBe("a=1&b=2");
    expect(formatClientQuery(`a=1&${name}`)).toBe("a=1");
    expect(formatClientQuery(`${name}=secret`)).toBe("");
  });

  test("re-encodes what no URL may hold", () => {
    expect(formatClientQuery('a= "<>\\^`{|}#')).toBe("a=%20%22%3C%3E%5C%5E%60%7B%7C%7D%23");
    expect(formatClientQuery("a=\r\n\0\u007f")).toBe("a=%0D%0A%00%7F");
    expect(formatClientQuery("ü=\u{1f600}")).toBe("%C3%BC=%F0%9F%98%80");
  });

  test("for any query, the line is printable ASCII and has no spelling of the token", () => {
    const octet = fc.integer({ min: 0, max: 255 }).map((byte) => `%${byte.toString(16).padStart(2, "0")}`);
    const piece = fc.oneof(
      fc.constantFrom(...SPELLINGS, "&", "=", "+", "#", "%", "a"),
      octet,
      fc.string({ unit: "binary" }),
    );
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        const line = formatClientQuery(pieces.join(""));
        expect(line).toMatch(/^[\x21-\x7e]*$/);
        expect(queryTokens(line)).toEqual([]);
        expect(formatClientQuery(line)).toBe(line);
      }),
      { numRuns: 1000 },
    );
  });
});
