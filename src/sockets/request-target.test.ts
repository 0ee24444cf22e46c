import { expect, test } from "bun:test";
import { connect } from "node:net";
import { isOneHost, RequestTargets } from "./request-target.ts";

const HOSTS = [
  "h",
  "H.EXAMPLE:80",
  "h:8080",
  "a%41b",
  "[::1]:80",
  "1.2.3.4",
  "1.2.3.4.5",
  "256.1.1.1",
  "h:99999",
  "xn--a",
];
const NO_AUTHORITIES = ["", "u:p@h", "h/x", "h?x", "h#x", "h\\x"];
const TARGETS = [
  ...[
    "/",
    "/a/b",
    "/a/b/",
    "//a//b",
    "/a/../b",
    "/a/./b",
    "/a/b/..",
    "/a/%2e%2E/b",
    "/a/.%2e/b",
    "/../..",
    "/%zz/../q",
  ],
  ...[
    "/a\\..\\b",
    '/a|b^`{}"<>',
    "/a%20b",
    "/a%2Fb",
    "/a%23b",
    "/é",
    "/a;b=c",
    "/ws/api/hubs/_default/users/u-1/messages",
  ],
  ...[
    "/a?",
    "/a?b=c",
    "/a?b?c",
    "/a?b=/../c",
    "/a#b",
    "/a#b?c",
    "/a?b#c",
    "/a?b#c?d",
    "/a#",
    "/a?b=%zz&c='{}",
    "/a/..?b",
  ],
  ...["http://other/x/../y", "http://other"],
];

/** The URL that Bun makes of a request. */
async function urlOf(port: number, host: string, target: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let answer = "";
  const socket = connect(port, "127.0.0.1", () => {
    socket.end(Buffer.from(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`, "latin1"));
  });
  socket.setEncoding("utf8").on("data", (chunk: string) => {
    answer += chunk;
  });
  socket.on("close", () => resolve(answer.slice(answer.indexOf("\r\n\r\n") + 4)));
  socket.on("error", reject);
  return await promise;
}

test("after any earlier request, a URL is read as a URL parser does, and its query stays as it came", async () => {
  await using server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: ({ url }) => new Response(url) });
  const port = server.port ?? 0;
  const targets = new RequestTargets();
  let refusedCount = 0;
  for (const host of [...HOSTS, ...NO_AUTHORITIES, "h"]) {
    for (const target of TARGETS) {
      const url = await urlOf(port, host, target);
      const parsed = URL.parse(url);
      if (parsed === null) refusedCount++;
      const path = parsed?.pathname ?? "";
      const query = url.includes("?") ? url.slice(url.indexOf("?") + 1) : "";
      // Twice: the first may have to parse, the second knows the origin.
      for (const _time of [1, 2])
        expect([url, targets.read(url)]).toEqual([url, parsed === null ? null : { path, query }]);
    }
  }
  expect(refusedCount).toBeGreaterThan(TARGETS.length);
});

test("an origin that only begins like the last one is another", () => {
  const targets = new RequestTargets();
  expect(targets.read("http://h/a?b")).toEqual({ path: "/a", query: "b" });
  expect(targets.read("http://h:99999/a")).toBeNull();
  expect(targets.read("http://h.example/a")).toEqual({ path: "/a", query: "" });
  expect(targets.read("http://h/a")).toEqual({ path: "/a", query: "" });
  expect(targets.read("https://h/a")).toEqual({ path: "/a", query: "" });
  expect(targets.read("/a")).toBeNull();
});

test.each([
  [null, true],
  ["", true],
  ["h:8080", true],
  ["[::1]:80", true],
  ["a".repeat(260), true],
  ["a".repeat(261), false],
  ["a, a", false],
  ["a, ", false],
  [", a", false],
] as const)("Host %j is one host or none: %p", (line, isOne) => expect(isOneHost(line)).toBe(isOne));
