import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { HeaderLine } from "../../protocol/headers.ts";
import { isName } from "../../protocol/names.ts";
import { parseConnectHeaders, parseSubprotocols } from "./connect-headers.ts";

describe("parseSubprotocols", () => {
  test.each([
    [null, []],
    ["", []],
    ["a", ["a"]],
    [" a ,b,, c ", ["a", "b", "c"]],
  ])("reads %j", (header, offered) => expect(parseSubprotocols(header)).toEqual(offered));
});

function reply(...headers: HeaderLine[]) {
  return parseConnectHeaders(headers, ["v1", "v2"]);
}

function malformedBy(word: string, ...headers: HeaderLine[]): void {
  const read = reply(...headers);
  if (read.kind !== "malformed") throw new Error("the reply was taken");
  expect(read.sentence).toContain(word);
}

test("an answer without any of the headers names nothing", () => {
  expect(reply(["Content-Type", "text/plain"])).toEqual({ kind: "reply", userId: null, groups: [], subprotocol: null });
});

describe("the user id", () => {
  test("is read under any case of the name, without the white space around it", () => {
    expect(reply(["x-Asrs-USER-id", " alice\t"])).toMatchObject({ userId: "alice" });
  });

  test("keeps commas and spaces inside, since it is no list", () => {
    expect(reply(["X-ASRS-User-Id", "Doe, Jane"])).toMatchObject({ userId: "Doe, Jane" });
  });

  test("counts as none where it is empty", () => {
    expect(reply(["X-ASRS-User-Id", ""])).toMatchObject({ kind: "reply", userId: null });
    expect(reply(["X-ASRS-User-Id", ""], ["X-ASRS-User-Id", "bob"])).toMatchObject({ userId: "bob" });
  });

  test("may be repeated, but not with two values", () => {
    expect(reply(["X-ASRS-User-Id", "bob"], ["X-ASRS-User-Id", "bob"])).toMatchObject({ userId: "bob" });
    malformedBy("two different", ["X-ASRS-User-Id", "bob"], ["X-ASRS-User-Id", "Bob"]);
  });

  test("takes 512 bytes and refuses 513", () => {
    expect(reply(["X-ASRS-User-Id", "ü".repeat(256)]).kind).toBe("reply");
    malformedBy("User-Id", ["X-ASRS-User-Id", `${"ü".repeat(256)}a`]);
  });

  test("with a control character is refused", () => malformedBy("User-Id", ["X-ASRS-User-Id", "a\u0085b"]));
});

describe("groups", () => {
  test("come from several lines and comma lists, trimmed, without empty ones and repeats, in order", () => {
    expect(
      reply(
        ["X-ASRS-Connection-Group", " b , a,,"],
        ["x-asrs-connection-group", "c,a"],
        ["X-ASRS-Connection-Group", ""],
      ),
    ).toMatchObject({ groups: ["b", "a", "c"] });
  });

  test("differ by case", () => expect(reply(["X-ASRS-Connection-Group", "a,A"])).toMatchObject({ groups: ["a", "A"] }));

  test("take 512 bytes and refuse 513", () => {
    expect(reply(["X-ASRS-Connection-Group", `${"g".repeat(512)},x`]).kind).toBe("reply");
    malformedBy("Group", ["X-ASRS-Connection-Group", `x,${"g".repeat(513)}`]);
  });
});

describe("the subprotocol", () => {
  test("is one of those offered", () =>
    expect(reply(["Sec-WebSocket-Protocol", " v2 "])).toMatchObject({ subprotocol: "v2" }));

  test.each(["", "  ", "v3", "V1", "v1, v2", "v1,"])("%j is refused", (value) =>
    malformedBy("Sec-WebSocket-Protocol", ["Sec-WebSocket-Protocol", value]),
  );

  test("in two lines is refused, even the same", () =>
    malformedBy("more than one", ["Sec-WebSocket-Protocol", "v1"], ["sec-websocket-protocol", "v1"]));
});

test("never throws; what it takes are names and an offered subprotocol", () => {
  const name = fc.constantFrom("X-ASRS-User-Id", "x-asrs-connection-group", "Sec-WebSocket-Protocol", "Date");
  const value = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("v1", "a,b", "a"));
  fc.assert(
    fc.property(fc.array(fc.tuple(name, value), { maxLength: 4 }), (headers) => {
      const read = parseConnectHeaders(headers, ["v1", "v2"]);
      if (read.kind === "malformed") return;
      expect(read.groups.every(isName)).toBe(true);
      expect(read.userId === null || isName(read.userId)).toBe(true);
      expect(read.subprotocol === null || ["v1", "v2"].includes(read.subprotocol)).toBe(true);
    }),
    { numRuns: 1000 },
  );
});

test("a space that no header parser trims is not trimmed away: it would make another user or group of it", () => {
  expect(parseConnectHeaders([["X-ASRS-User-Id", "\u00a0admin"]], []).kind).toBe("malformed");
  expect(parseConnectHeaders([["X-ASRS-User-Id", "admin\u3000"]], []).kind).toBe("malformed");
  expect(parseConnectHeaders([["X-ASRS-Connection-Group", "\u00a0admins"]], []).kind).toBe("malformed");
});

test("what is wrong elsewhere leaves the user that the answer names, for the disconnect", () => {
  const lines = [
    ["X-ASRS-User-Id", "bob"],
    ["Sec-WebSocket-Protocol", "not-offered"],
  ] as const;
  expect(parseConnectHeaders(lines, ["v1"])).toMatchObject({ kind: "malformed", userId: "bob" });
});
