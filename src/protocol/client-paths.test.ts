import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { findClientEndpoint } from "./client-endpoint.ts";
import { ClientPaths, clientPathOf, covers, parsePattern } from "./client-paths.ts";

function hubOf(path: string, ...patterns: readonly string[]): string | null {
  return new ClientPaths(patterns.map((pattern, position) => ({ pattern, hub: `h${position}` }))).hubOf(path);
}

describe("a pattern matches", () => {
  test.each([
    ["/ocpp/{id}", "/ocpp/CP1"],
    ["/ocpp/{id}", "/ocpp/CP1/"],
    ["/ocpp/{id}", "/ocpp/a%2Fb"],
    ["/ocpp/{id}", "/ocpp/a b"],
    ["/ocpp/{id}", "/ocpp/{id}"],
    ["/ocpp/{id}", "/ocpp/..."],
    ["/{a}/x/{b}", "/1/x/2"],
    ["/{a}", "/wsx"],
    ["/{a}", "/clients"],
    ["/socket.io", "/socket.io"],
    ["/socket.io", "/socket.io/"],
    ["/caf%C3%A9", "/caf%C3%A9"],
    ["/", "/"],
  ])("%s: %s", (pattern, path) => expect(hubOf(path, pattern)).toBe("h0"));

  test.each([
    ["/ocpp/{id}", "/ocpp"],
    ["/ocpp/{id}", "/ocpp/"],
    ["/ocpp/{id}", "/ocpp//"],
    ["/ocpp/{id}", "/ocpp/a/b"],
    ["/ocpp/{id}", "/ocpp/a//"],
    ["/ocpp/{id}", "//ocpp/a"],
    ["/ocpp/{id}", "/OCPP/a"],
    ["/ocpp/{id}", "/%6Fcpp/a"],
    ["/{a}", "/"],
    ["/{a}", "//"],
    ["/caf%C3%A9", "/caf%c3%a9"],
    ["/", "//"],
    ["/", "/a"],
  ])("not %s: %s", (pattern, path) => expect(hubOf(path, pattern)).toBeNull());

  test("the first of several wins, and their hubs are in the form in which hubs compare", () => {
    const patterns = ["/a/b", "/a/{x}", "/{x}/b", "/{x}/{y}"];
    expect(["/a/b", "/a/c", "/c/b", "/c/d", "/c"].map((path) => hubOf(path, ...patterns))).toEqual([
      "h0",
      "h1",
      "h2",
      "h3",
      null,
    ]);
    expect(new ClientPaths([{ pattern: "/a", hub: "OCPP" }]).hubOf("/a")).toBe("ocpp");
  });

  test.each(["/ws", "/ws/x", "/client", "/client/x", "/api", "/api/health", "/.well-known", "/.well-known/x", "/ws/"])(
    "nothing under hubwire's own paths: %s",
    (path) => expect(hubOf(path, "/{a}", "/{a}/{b}")).toBeNull(),
  );

  test("no path where there are no patterns, and a path of many segments is not taken apart to its end", () => {
    expect(hubOf("/a")).toBeNull();
    expect(hubOf("/x".repeat(8000), "/{a}", "/a/b")).toBeNull();
  });
});

test("a pattern that covers another one matches every path of it", () => {
  const segment = fc.constantFrom("a", "b", "{x}", "{y}");
  const pattern = fc.array(segment, { maxLength: 3 }).map((segments) => `/${segments.join("/")}`);
  const path = fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 3 }).map((segments) => `/${segments.join("/")}`);
  fc.assert(
    fc.property(pattern, pattern, path, (earlier, later, written) => {
      if (!covers(parsePattern(earlier), parsePattern(later)) || hubOf(written, later) === null) return;
      expect(hubOf(written, earlier, later)).toBe("h0");
    }),
  );
  expect(covers(parsePattern("/a/{x}"), parsePattern("/{x}/a"))).toBe(false);
});

test("the client endpoint's own URLs come before patterns, and the query of a pattern's path names no hub", () => {
  const paths = new ClientPaths([{ pattern: "/{a}", hub: "ocpp" }]);
  expect(findClientEndpoint("/client", "hub=chat", paths)).toEqual({ kind: "endpoint", hub: "chat", clientPath: null });
  expect(findClientEndpoint("/client", "hub=9", paths).kind).toBe("bad-hub");
  expect(findClientEndpoint("/a", "hub=chat&hub=9", paths)).toEqual({
    kind: "endpoint",
    hub: "ocpp",
    clientPath: "/a",
  });
  expect(findClientEndpoint("/a/b", "", paths)).toEqual({ kind: "elsewhere" });
});

test("of what a file or another node has for the path of a connection, only a path counts", () => {
  expect(clientPathOf({})).toBeNull();
  expect(clientPathOf({ rare: {} })).toBeNull();
  expect(clientPathOf({ rare: { clientPath: "/ocpp/CP%201" } })).toBe("/ocpp/CP%201");
  const odd: readonly unknown[] = ["", "ocpp", "/a\r\nX-ASRS-User-Id: eve", "/a\u0000", "/é", "/a b", 5, null, ["/a"]];
  for (const clientPath of odd) {
    const rare: Readonly<Record<string, unknown>> = { clientPath };
    expect(clientPathOf({ rare })).toBeNull();
  }
});
