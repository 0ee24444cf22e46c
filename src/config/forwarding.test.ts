import { describe, expect, test } from "bun:test";
import { faultsOf } from "../../test/support/config-faults.ts";
import { parseConfig } from "./load.ts";
import { findWarnings } from "./warnings.ts";

/** Headers that pass through hubwire: which names an entry may list, and what other options say against them. */

type Entry = Readonly<Record<string, unknown>>;

const entryOf = (over: Entry = {}): Entry => ({ urlTemplate: "http://h/", ...over });
const pathsOf = (raw: unknown) => faultsOf(raw).map((fault) => fault.slice(0, fault.indexOf(": ")));
const listed = (list: string, names: readonly unknown[]) =>
  pathsOf({ allowedOrigins: [], upstreams: [entryOf({ [list]: names })] });

const LISTS = ["forwardHeaders", "passResponseHeaders"];

describe.each(LISTS)("%s", (list) => {
  test("takes cookies, logins, origins and headers of a site's own", () => {
    const names = [
      "Cookie",
      "set-cookie",
      "origin",
      "User-Agent",
      "authorization",
      "accept-language",
      "X-Tenant",
      "x.y",
    ];
    expect(listed(list, names)).toEqual([]);
  });

  test.each([
    ...["Connection", "keep-alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection"],
    ...["TE", "Trailer", "Transfer-Encoding", "Upgrade"],
    ...["Host", "date", "Content-Type", "content-length", "Content-Anything", "Accept-Encoding", "EXPECT"],
    ...["Sec-WebSocket-Key", "sec-websocket-protocol", "Sec-WebSocket-Anything"],
    ...["X-ASRS-User-Id", "x-asrs-anything", "X-Hubwire-Event-Id", "x-hubwire-anything"],
    ...["X-Forwarded-For", "X-Forwarded-Host", "x-forwarded-anything", "X-Forwarded", "Forwarded", "X-Real-IP"],
    ...["Client-Cert", "Client-Cert-Chain", "client-cert-anything"],
    ...["x_asrs_user_id", "My_Header", "_", "X-ASRS_User-Id", "x.asrs.user.id", "X!Forwarded!For", "Transfer.Encoding"],
    ...["", "X Y", "X:", "é", "X\r\n", "*"],
  ])("refuses %j, at its place", (name) => {
    expect(listed(list, ["Origin", name, "X-Tenant"])).toEqual([`upstreams[0].${list}[1]`]);
  });

  test("refuses a name that is given twice, in any case", () => {
    expect(faultsOf({ upstreams: [entryOf({ [list]: ["Origin", "X-A", "oRIGIN", "ORIGIN"] })] })).toEqual(
      [2, 3].map((at) => `upstreams[0].${list}[${at}]: is given twice: the names of headers are case-insensitive`),
    );
  });

  test("refuses the header of clientCertHeader, and what backends may take for it", () => {
    const others = { trustedProxies: ["10.0.0.1"], clientCertHeader: "X-Cert_Sha1" };
    expect(faultsOf({ ...others, upstreams: [entryOf(), entryOf({ [list]: ["Origin", "x-cert-sha1"] })] })).toEqual([
      `upstreams[1].${list}[1]: is the clientCertHeader, which only a trusted proxy may set: remove it; backends get X-ASRS-Client-Cert-Thumbprint`,
    ]);
    expect(faultsOf({ upstreams: [entryOf({ [list]: ["x-cert-sha1"] })] })).toEqual([]);
  });

  test.each([["cookie"], [{ 0: "cookie" }], [5], [null]])("refuses %j, which is no list", (names) => {
    expect(pathsOf({ upstreams: [entryOf({ [list]: names })] })).toEqual([`upstreams[0].${list}`]);
  });

  test("refuses what is no text, at its place", () => {
    expect(listed(list, ["Origin", 5, null])).toEqual([`upstreams[0].${list}[1]`, `upstreams[0].${list}[2]`]);
  });
});

test("each kind of name has a sentence that says why", () => {
  const names = ["*", "X Y", "TE", "Host", "X-Real-IP", "a_b"];
  expect(
    faultsOf({ upstreams: [entryOf({ forwardHeaders: names })] }).map((fault) => fault.replace(/^.*?: /, "")),
  ).toEqual([
    "does not mean all headers: list the names of those that you need",
    "is not a valid header name",
    "is a hop-by-hop header, which concerns one connection only and is never passed on: remove it",
    "is a header that hubwire or the HTTP connection itself sets: remove it",
    "is a header that only proxies may set, and anybody can write anything into it: remove it; backends get X-Forwarded-For and X-ASRS-Client-Cert-Thumbprint",
    "contains `_`, which backends may take for `-`, and so for another header: remove it",
  ]);
});

describe("cookies and logins, where pages of every origin get in", () => {
  const COOKIES = entryOf({ forwardHeaders: ["Origin", "Cookie"] });
  const AT = "upstreams[0].forwardHeaders[1]";
  const APP = ["https://app.example"];

  test("are refused with the reason and the option to change", () => {
    expect(faultsOf({ upstreams: [COOKIES] })).toEqual([
      `${AT}: must not be forwarded while allowedOrigins lets in the pages of every origin (\`*\`, the default, or \`null\`): browsers send cookies and HTTP logins along, so any web page could open a WebSocket in the name of the user who visits it (cross-site WebSocket hijacking). List the origins of your own pages there`,
    ]);
    const hubs = { "a.b": { allowedOrigins: ["*"] } };
    expect(faultsOf({ allowedOrigins: APP, hubs, upstreams: [COOKIES] })).toEqual([
      expect.stringMatching(
        /^upstreams\[0\]\.forwardHeaders\[1\]: must not .* while hubs\["a\.b"\]\.allowedOrigins lets/,
      ),
    ]);
  });

  test.each([
    ["by default", {}],
    ["by `*`", { allowedOrigins: ["*"] }],
    ["by `*` next to others", { allowedOrigins: [...APP, "*"] }],
    ["by `null`, the origin of a sandboxed frame", { allowedOrigins: [...APP, "null"] }],
    ["in a hub of its own", { allowedOrigins: APP, hubs: { chat: { allowedOrigins: ["*"] } } }],
    ["in any hub but one", { hubs: { chat: { allowedOrigins: APP } } }],
    ["in a hub with other settings only", { hubs: { chat: { anonymous: "deny" } } }],
  ])("are refused: %s", (_how, options) => {
    expect(pathsOf({ ...options, upstreams: [COOKIES] })).toEqual([AT]);
    expect(pathsOf({ ...options, upstreams: [entryOf({ forwardHeaders: ["x-a", "AUTHORIZATION"] })] })).toEqual([AT]);
    expect(pathsOf({ ...options, upstreams: [entryOf({ forwardHeaders: ["x-a", "Origin"] })] })).toEqual([]);
  });

  test.each([
    ["origins are listed", { allowedOrigins: APP }],
    ["no origin is allowed", { allowedOrigins: [] }],
    ["origins are listed for all and for a hub", { allowedOrigins: APP, hubs: { chat: { allowedOrigins: APP } } }],
  ])("are taken where %s", (_how, options) => {
    expect(faultsOf({ ...options, upstreams: [COOKIES] })).toEqual([]);
  });

  describe("by the entry that takes the connect event of a hub", () => {
    const hubs = { Chat: { allowedOrigins: ["*"] }, shop: { allowedOrigins: APP } };
    const withHubs = (...upstreams: readonly Entry[]) => pathsOf({ allowedOrigins: APP, hubs, upstreams });
    const cookies = (over: Entry) => ({ ...COOKIES, ...over });

    test.each([
      ["of a pattern with the hub's name in another case", [cookies({ hubPattern: "Chat" })], ["upstreams[0]"]],
      ["of a pattern with several hubs", [cookies({ hubPattern: ["shop", "Chat"] })], ["upstreams[0]"]],
      ["of connections", [cookies({ categoryPattern: "connections", eventPattern: "connect" })], ["upstreams[0]"]],
      ["of another hub", [cookies({ hubPattern: "shop" })], []],
      ["of messages", [cookies({ categoryPattern: "messages" })], []],
      ["of disconnect events", [cookies({ eventPattern: "message,disconnect" })], []],
      ["behind one that takes the hub", [entryOf({ hubPattern: "Chat" }), COOKIES], []],
      ["behind one that takes the hub's messages", [entryOf({ eventPattern: "message" }), COOKIES], ["upstreams[1]"]],
      ["in front of others", [COOKIES, entryOf({ hubPattern: "Chat" })], ["upstreams[0]"]],
    ])("%s", (_which, upstreams, entries) => {
      expect(withHubs(...upstreams)).toEqual(entries.map((entry) => `${entry}.forwardHeaders[1]`));
    });

    test("of a hub that only a pattern names, by the general option", () => {
      const upstreams = [entryOf({ hubPattern: "a" }), cookies({ hubPattern: "a, b" })];
      expect(pathsOf({ upstreams })).toEqual(["upstreams[1].forwardHeaders[1]"]);
      expect(pathsOf({ upstreams: [entryOf({ hubPattern: "a" }), cookies({ hubPattern: "a" })] })).toEqual([]);
    });

    test("of _default", () => {
      const open = { allowedOrigins: APP, hubs: { _default: { allowedOrigins: ["*"] } } };
      expect(pathsOf({ ...open, upstreams: [COOKIES] })).toEqual([AT]);
      expect(pathsOf({ ...open, upstreams: [cookies({ hubPattern: "chat" })] })).toEqual([]);
    });
  });

  test("may be passed to the client: they are not the client's", () => {
    expect(faultsOf({ upstreams: [entryOf({ passResponseHeaders: ["Set-Cookie", "Cookie"] })] })).toEqual([]);
  });

  test("under the name `templates` too", () => {
    expect(pathsOf({ templates: [COOKIES] })).toEqual(["templates[0].forwardHeaders[1]"]);
  });

  test("together with wrong types elsewhere", () => {
    const wrong = { listen: { port: "x" }, upstreams: [5, { hubPattern: 5 }, COOKIES] };
    expect(pathsOf(wrong)).toContain("upstreams[2].forwardHeaders[1]");
  });
});

test("an entry that takes no connect event is warned of lists that do nothing", () => {
  const lists = { forwardHeaders: ["Origin"], passResponseHeaders: ["Set-Cookie"] };
  const warningsOf = (over: Entry) =>
    findWarnings(parseConfig({ publicUrls: ["https://h"], upstreams: [entryOf({ ...lists, ...over })] }));
  const both = ["forwardHeaders", "passResponseHeaders"].map(
    (list) => `upstreams[0].${list} is not used: its patterns take no connect event`,
  );
  expect(warningsOf({ eventPattern: "message, disconnect" })).toEqual(both);
  expect(warningsOf({ categoryPattern: "messages", passResponseHeaders: [] })).toEqual(both.slice(0, 1));
  expect(warningsOf({ categoryPattern: "connections", eventPattern: "connect" })).toEqual([]);
  expect(warningsOf({})).toEqual([]);
});
