import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseClientEndpoint } from "./client-endpoint.ts";
import { isHubName } from "./names.ts";

const longest = `a${"b".repeat(127)}`;

describe.each(["/ws/client", "/client"])("under %s", (root) => {
  test.each([
    ["", "", "_default"],
    ["/", "", "_default"],
    ["", "x=1", "_default"],
    ["/hubs/chat", "", "chat"],
    ["/hubs/chat/", "", "chat"],
    ["/hubs/ChaT", "", "chat"],
    ["/hubs/_DEFAULT", "", "_default"],
    ["", "hub=%43HAT", "chat"],
    ["/hubs/_default", "", "_default"],
    ["/hubs/a%5Bb%5d", "", "a[b]"],
    ["/hubs/a,b.c", "", "a,b.c"],
    [`/hubs/${longest}`, "", longest],
    ["", "hub=chat", "chat"],
    ["", "hubs=chat", "chat"],
    ["/", "hub=chat&x=1", "chat"],
    ["", "x=1&h%75b=ch%61t", "chat"],
    ["", "hub=", "_default"],
    ["", "hubs", "_default"],
    ["/hubs/chat", "hub=other", "chat"],
    ["/hubs/chat", "hub=other&hub=more", "chat"],
  ])("%s?%s is hub %s", (path, query, hub) => {
    expect(parseClientEndpoint(root + path, query)).toEqual({ kind: "endpoint", hub, clientPath: null });
  });

  test.each([
    ["/hubs", ""],
    ["/hubs/", ""],
    ["/hubs", "hub=chat"],
    ["/hubs/9", ""],
    ["/hubs/a%2Fb", ""],
    ["/hubs/a%0d%0ab", ""],
    ["/hubs/a%00", ""],
    ["/hubs/%zz", ""],
    ["/hubs/%ff", ""],
    ["/hubs/a b", ""],
    [`/hubs/${longest}c`, ""],
    ["", "hub=9"],
    ["", "hub=a%0aX-ASRS-User-Id:b"],
    ["", "hub=%zz"],
    ["", "hub=a&hub=a"],
    ["", "hub=a&hubs=a"],
    ["", "hub=&hub="],
    ["", `hub=${longest}c`],
  ])("%s?%s names no hub", (path, query) => {
    const endpoint = parseClientEndpoint(root + path, query);
    expect(endpoint.kind).toBe("bad-hub");
  });

  test.each(["x", "/x", "//", "/hubs/a/b", "/hubs/a//", "/hub/a", "/HUBS/a", "/../x"])("%s is another path", (path) => {
    expect(parseClientEndpoint(root + path, "")).toEqual({ kind: "elsewhere" });
  });
});

test.each(["", "/", "/ws", "/ws/", "/ws/ws/client", "/Client", "/WS/client", "//client", "/x/client"])(
  "%j is another path",
  (path) => expect(parseClientEndpoint(path, "hub=chat")).toEqual({ kind: "elsewhere" }),
);

test("never throws, and an endpoint always has a hub's name", () => {
  const piece = fc.oneof(fc.constantFrom("/ws", "/client", "/hubs", "/", "%", "%2f", "?", "a"), fc.string());
  fc.assert(
    fc.property(fc.array(piece), fc.string({ unit: "binary" }), (pieces, query) => {
      const endpoint = parseClientEndpoint(pieces.join(""), query);
      if (endpoint.kind === "endpoint") expect(isHubName(endpoint.hub)).toBe(true);
    }),
    { numRuns: 1000 },
  );
});
