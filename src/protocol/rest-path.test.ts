import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isSamePath, parseRestPath, type RestPath } from "./rest-path.ts";

function parse(target: string): RestPath {
  const [path = "", query = ""] = target.split("?");
  const parsed = parseRestPath(path, query);
  if (parsed === null) throw new Error(`${target} is not a path of the API`);
  return parsed;
}

function isSame(one: string, other: string): boolean {
  const there = isSamePath(parse(one), parse(other));
  expect(isSamePath(parse(other), parse(one))).toBe(there);
  return there;
}

describe("the families of paths", () => {
  test.each([
    ["/ws/api/messages", "ws", "_default", ["messages"]],
    ["/ws/api/hubs/Chat/users/ann", "ws", "Chat", ["users", "ann"]],
    ["/ws/api/hubs/_default/messages", "ws", "_default", ["messages"]],
    ["/ws/api", "ws", "_default", []],
    ["/ws/api/", "ws", "_default", []],
    ["/ws/api/v1", "v1", "_default", []],
    ["/ws/api/v1/", "v1", "_default", []],
    ["/ws/api/v1/hubs/chat", "v1", "chat", []],
    ["/ws/api/v1/hubs/chat/groups/red/", "v1", "chat", ["groups", "red"]],
    ["/ws/api/v10/users/ann", "ws", "_default", ["v10", "users", "ann"]],
    ["/api/messages", "plain", "_default", ["messages"]],
    ["/api/messages?hub=chat", "plain", "chat", ["messages"]],
    ["/api/messages?hub=", "plain", "_default", ["messages"]],
    ["/api/hubs/chat/messages", "plain", "_default", ["hubs", "chat", "messages"]],
    ["/ws/api/messages?hub=chat", "ws", "_default", ["messages"]],
  ] as const)("%s is of the form %s, for the hub %s", (target, form, hub, parts) => {
    expect(parse(target)).toMatchObject({ form, hub, parts: [...parts], hubRepeated: false });
  });

  test.each(["", "/", "/ws", "/ws/client", "/ws/apis", "/apix/messages", "/API/messages", "/ws/ap%69/messages", "api"])(
    "%p is not a path of the API",
    (path) => {
      expect(parseRestPath(path, "")).toBeNull();
    },
  );
});

describe("parts", () => {
  test("are split first and decoded then, so that an escaped slash stays in its part", () => {
    expect(parse("/ws/api/groups/a%2Fb%2525/messages").parts).toEqual(["groups", "a/b%25", "messages"]);
  });

  test("are null where an escape is malformed or is not UTF-8", () => {
    expect(parse("/ws/api/users/%zz/groups/%FF").parts).toEqual(["users", null, "groups", null]);
    expect(parse("/ws/api/hubs/%zz/messages").hub).toBeNull();
    expect(parse("/api/messages?hub=%zz").hub).toBeNull();
  });

  test("are as many as the longest operation has and two more; a path with more is not a path of the API", () => {
    for (const hub of ["", "/hubs/chat"]) {
      const most = "/a".repeat(hub === "" ? 8 : 6);
      expect(parseRestPath(`/ws/api${hub}${most}/`, "")).not.toBeNull();
      expect(parseRestPath(`/ws/api${hub}${most}/a`, "")).toBeNull();
      expect(parseRestPath(`/ws/api${hub}${"/%".repeat(8000)}`, "")).toBeNull();
    }
  });

  test("may be empty; one slash at the end is left out and no more", () => {
    expect(parse("/ws/api/users//messages/").parts).toEqual(["users", "", "messages"]);
    expect(parse("/ws/api/messages//").parts).toEqual(["messages", ""]);
    for (const root of ["/ws/api", "/ws/api/v1", "/api"]) {
      expect(parse(`${root}/`).parts).toEqual([]);
      expect(parse(`${root}//`).parts).toEqual([""]);
    }
    expect(parse("/ws/api/hubs//messages").hub).toBe("");
    expect(parse("/ws/api/hubs").hub).toBe("");
  });

  test("a plus is a plus in a path and a space in a query", () => {
    expect(parse("/ws/api/users/a+b").parts).toEqual(["users", "a+b"]);
    expect(parse("/api/messages?hub=a+b").hub).toBe("a b");
  });
});

test("a hub that the query names twice is told, under any spelling", () => {
  for (const query of ["hub=a&hub=b", "hub=a&hub=a", "hub=&hub=", "%68ub=a&hub=b"]) {
    expect(parse(`/api/messages?${query}`).hubRepeated).toBe(true);
  }
  expect(parse("/ws/api/messages?hub=a&hub=b").hubRepeated).toBe(false);
});

describe("two paths are the same", () => {
  test.each([
    ["/ws/api/messages", "/ws/api/messages/"],
    ["/ws/api/messages", "/ws/api/hubs/_default/messages"],
    ["/ws/api/messages", "/ws/api/hubs/_DEFAULT/messages"],
    ["/ws/api/hubs/chat/messages", "/ws/api/hubs/CHAT/messages?hub=news"],
    ["/ws/api/users/gr%C3%B6%C3%9Fe", "/ws/api/users/gr%c3%b6%c3%9fe"],
    ["/ws/api/users/%61nn", "/ws/api/users/ann"],
    ["/api/messages?hub=chat", "/api/messages?excluded=c1&hub=Chat"],
    ["/api/messages", "/api/messages?hub="],
    ["/ws/api/users/%zz", "/ws/api/users/%zz"],
  ])("%s and %s", (one, other) => {
    expect(isSame(one, other)).toBe(true);
  });

  test.each([
    ["/ws/api/messages", "/api/messages"],
    ["/ws/api/v1/users/ann", "/ws/api/users/ann"],
    ["/ws/api/hubs/chat/messages", "/ws/api/messages"],
    ["/ws/api/hubs/chat/messages", "/ws/api/hubs/news/messages"],
    ["/api/messages?hub=chat", "/api/messages"],
    ["/api/messages?hub=chat", "/api/messages?hub=chat&hub=chat"],
    ["/ws/api/users/ann", "/ws/api/users/Ann"],
    ["/ws/api/users/a%2Fb", "/ws/api/users/a/b"],
    ["/ws/api/users/ann", "/ws/api/users/ann/messages"],
    ["/ws/api/messages", "/ws/api/messages//"],
    ["/ws/api/v1", "/ws/api/v1//"],
    ["/ws/api/users/ann/groups/red", "/ws/api/groups/red/users/ann"],
    ["/ws/api/hubs/%zz/messages", "/ws/api/messages"],
    ["/ws/api/v1/%zz", "/ws/api/v1"],
  ])("but not %s and %s", (one, other) => {
    expect(isSame(one, other)).toBe(false);
  });
});

test("taking any path apart throws nothing, and names come back as they were", () => {
  const name = fc.string({ unit: "binary", minLength: 1 }).filter((text) => text.isWellFormed());
  fc.assert(
    fc.property(name, (text) => {
      expect(parse(`/ws/api/users/${encodeURIComponent(text)}/groups`).parts).toEqual(["users", text, "groups"]);
    }),
  );
  fc.assert(
    fc.property(
      fc.constantFrom("/ws/api/", "/api/", "/ws/api/v1/"),
      fc.string(),
      fc.string(),
      (prefix, path, query) => {
        const parsed = parseRestPath(prefix + path, query);
        expect(parsed).not.toBeNull();
        if (parsed !== null) expect(isSamePath(parsed, parsed)).toBe(true);
      },
    ),
  );
});
