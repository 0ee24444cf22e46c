import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseRestPath } from "../protocol/rest-path.ts";
import { type CallNames, readNames } from "./call.ts";
import { routePath } from "./routes.ts";

const PATH = "/ws/api/hubs/chat/users/ann/groups/red";

/** What is read from a path and a query; `code target` where it is refused. */
function read(path: string, query = ""): CallNames | string {
  const parsed = parseRestPath(path, query);
  const routed = parsed === null ? null : routePath(parsed, "PUT");
  if (parsed === null || routed?.kind !== "route") throw new Error(`${path} takes no PUT`);
  const names = readNames(parsed, routed.names, query);
  return "refusal" in names ? `${names.refusal.status} ${names.refusal.code} ${names.refusal.target}` : names;
}

function userPath(encoded: string): string {
  return `/ws/api/hubs/chat/users/${encoded}/groups/red`;
}

test("a name absent from the path is empty, and a parameter absent from the query is null or empty", () => {
  const nothing = { excluded: [], ttlSeconds: null, reason: "" };
  expect(read(PATH)).toEqual({ hub: "chat", user: "ann", group: "red", connection: "", ...nothing });
  expect(read("/ws/api/connections/c1/groups/red")).toEqual({
    hub: "_default",
    user: "",
    group: "red",
    connection: "c1",
    ...nothing,
  });
});

describe("the hub", () => {
  const inPath = (hub: string) => `/ws/api/hubs/${hub}/users/ann/groups/red`;

  test.each(["chat", "Chat", "_default", "a", `a${"b".repeat(127)}`, "a.b,c[1]_", "%63hat"])("%s is one", (hub) => {
    expect(read(inPath(hub))).toMatchObject({ hub: decodeURIComponent(hub).toLowerCase() });
  });

  test.each(["", "1a", "_other", "a-b", `a${"b".repeat(128)}`, "a%20b", "a%2Fb", "%zz", "a%00"])("%p is 400", (hub) => {
    expect(read(inPath(hub))).toBe("400 bad_hub hub");
  });

  test("of the query may be empty, but neither repeated nor malformed", () => {
    const path = "/api/users/ann/groups/red";
    expect(read(path)).toMatchObject({ hub: "_default" });
    expect(read(path, "hub=")).toMatchObject({ hub: "_default" });
    expect(read(path, "hub=Chat")).toMatchObject({ hub: "chat" });
    for (const query of ["hub=a&hub=a", "hub=&hub=", "hub=%zz", "hub=a-b", "%68ub=a&hub=a"]) {
      expect(read(path, query)).toBe("400 bad_hub hub");
    }
  });

  test("is looked at before the names, the names before the query", () => {
    expect(read("/ws/api/hubs/1/users/%zz/groups/red", "ttl=0")).toBe("400 bad_hub hub");
    expect(read(userPath("%zz"), "ttl=0")).toBe("400 bad_name user");
  });
});

describe("a name", () => {
  test.each([
    ["one byte", "a"],
    ["512 bytes", "a".repeat(512)],
    ["512 bytes of two-byte characters", "ü".repeat(256)],
    ["511 bytes in three- and one-byte characters", `${"€".repeat(170)}a`],
    ["a slash", "a/b"],
    ["an inner space", "a b"],
    ["three dots", "..."],
  ])("of %s is one", (_what, name) => {
    expect(read(userPath(encodeURIComponent(name)))).toMatchObject({ user: name });
  });

  test.each([
    ["no byte", ""],
    ["513 bytes", "a".repeat(513)],
    ["513 bytes, 257 characters", `${"ü".repeat(256)}a`],
    ["2 kB", "x".repeat(2048)],
    ["a leading space", "%20a"],
    ["a trailing space", "a%20"],
    ["a no-break space at its end", "a%C2%A0"],
    ["CR and LF", "a%0D%0AX-ASRS-User-Id:%20b"],
    ["NUL", "a%00"],
    ["a C1 control", "a%C2%85b"],
    ["a malformed escape", "%zz"],
    ["an escape that is not UTF-8", "%FF"],
    ["one dot", "%2E"],
    ["two dots", "%2E%2E"],
  ])("of %s is 400", (_what, encoded) => {
    expect(read(userPath(encoded))).toBe("400 bad_name user");
  });

  test("is refused under what it names", () => {
    expect(read("/ws/api/users/ann/groups/%zz")).toBe("400 bad_name group");
    expect(read("/ws/api/groups/red/connections/%zz")).toBe("400 bad_name connection");
  });
});

describe("ttl", () => {
  test.each([
    ["1", 1],
    ["31536000", 31_536_000],
    ["00000007", 7],
    ["%31", 1],
  ])("%s is one", (text, seconds) => {
    expect(read(PATH, `ttl=${text}`)).toMatchObject({ ttlSeconds: seconds });
  });

  test.each(["0", "31536001", "99999999", "", "-1", "+1", "1.5", "1e3", "0x1", "%201", "1%0A", "NaN", "%zz", "١"])(
    "%p is 400",
    (text) => {
      expect(read(PATH, `ttl=${text}`)).toBe("400 bad_query ttl");
    },
  );

  test("twice is 400, under any spelling", () => {
    expect(read(PATH, "ttl=1&ttl=1")).toBe("400 bad_query ttl");
    expect(read(PATH, "ttl=1&%74tl=1")).toBe("400 bad_query ttl");
    expect(read(PATH, "ttl")).toBe("400 bad_query ttl");
  });
});

describe("reason", () => {
  const reasonOf = (text: string): string => {
    const names = read(PATH, `reason=${encodeURIComponent(text)}`);
    if (typeof names === "string") throw new Error(names);
    return names.reason;
  };

  test.each([
    ["123 bytes", "a".repeat(123), 123],
    ["124 bytes", "a".repeat(124), 123],
    ["61 characters of two bytes and one", `${"ü".repeat(61)}a`, 123],
    ["62 characters of two bytes", "ü".repeat(62), 122],
    ["41 characters of three bytes", "€".repeat(41), 123],
    ["a three-byte character that ends one byte too late", `aa${"€".repeat(41)}`, 122],
    ["characters of four bytes", "🙂".repeat(40), 120],
    ["three bytes and characters of four", `aaa${"🙂".repeat(31)}`, 123],
  ])("of %s is cut to 123 bytes at most, at the end of a whole character", (_what, text, byteCount) => {
    const cut = reasonOf(text);
    expect(Buffer.byteLength(cut)).toBe(byteCount);
    expect(text.startsWith(cut)).toBe(true);
    expect(cut.isWellFormed()).toBe(true);
  });

  test("of any text is cut to its longest beginning that fits", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 200 }), (text) => {
        const cut = reasonOf(text);
        expect(text.startsWith(cut)).toBe(true);
        expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(123);
        const next = String.fromCodePoint(text.codePointAt(cut.length) ?? 0);
        if (cut !== text) expect(Buffer.byteLength(cut + next)).toBeGreaterThan(123);
      }),
    );
  });

  test("may be empty, and a plus is a space; twice or malformed is 400", () => {
    expect(read(PATH, "reason=")).toMatchObject({ reason: "" });
    expect(read(PATH, "reason=see+you")).toMatchObject({ reason: "see you" });
    expect(read(PATH, "reason=a&reason=b")).toBe("400 bad_query reason");
    expect(read(PATH, "reason=%zz")).toBe("400 bad_query reason");
  });
});

describe("excluded", () => {
  test("may be repeated, in order, and may name what is no connection", () => {
    expect(read(PATH, "excluded=c1&x=y&excluded=c%2F2&excluded=")).toMatchObject({ excluded: ["c1", "c/2", ""] });
  });

  test("may be repeated 10,000 times", () => {
    const ids = Array.from({ length: 10_000 }, (_empty, index) => `c${index}`);
    expect(read(PATH, ids.map((id) => `excluded=${id}`).join("&"))).toMatchObject({ excluded: ids });
  });

  test("malformed is 400", () => {
    expect(read(PATH, "excluded=c1&excluded=%zz")).toBe("400 bad_query excluded");
  });
});

test("reading any path and query throws nothing, and accepted ones keep the rules", () => {
  const query = fc.array(
    fc.tuple(fc.constantFrom("ttl", "reason", "excluded", "hub", "x"), fc.oneof(fc.string(), fc.nat().map(String))),
    { maxLength: 4 },
  );
  fc.assert(
    fc.property(fc.string(), fc.string(), query, (hub, user, pairs) => {
      const text = pairs.map(([name, value]) => `${name}=${value}`).join("&");
      const path = `/ws/api/hubs/${hub.replaceAll("/", "")}/users/${user.replaceAll("/", "")}/groups/red`;
      const names = read(path, text);
      if (typeof names === "string") {
        expect(names).toMatch(/^400 bad_(?:hub|name|query) \w+$/);
        return;
      }
      expect(names.user.trim()).toBe(names.user);
      expect(Buffer.byteLength(names.reason)).toBeLessThanOrEqual(123);
      expect(names.ttlSeconds === null || names.ttlSeconds >= 1).toBe(true);
    }),
  );
});
