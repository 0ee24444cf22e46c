import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { hostOf, isClientAudience } from "./audience.ts";

describe("hostOf", () => {
  test.each([
    ["example.com", "example.com"],
    ["Example.COM:8080", "example.com"],
    ["https://Example.com:8443/base?x=1", "example.com"],
    ["wss://example.com", "example.com"],
    ["[::1]:8080", "[::1]"],
    ["http://[0:0:0:0:0:0:0:1]/", "[::1]"],
    ["127.0.0.1:80", "127.0.0.1"],
    ["user:pw@example.com", "example.com"],
  ])("%j is %j", (text, host) => expect(hostOf(text)).toBe(host));

  test.each(["", ":80", "a b", "a, b", "[::1", "x:99999", "http://"])("%j names none", (text) =>
    expect(hostOf(text)).toBeNull(),
  );
});

const HOSTS = ["example.com", "other.example"];
const names = (audience: unknown, hub = "chat", clientPath: string | null = null) =>
  isClientAudience(audience, { hosts: HOSTS, hub, clientPath });

describe("an audience names the endpoint", () => {
  test.each([
    "https://example.com/ws/client/hubs/chat",
    "https://other.example/ws/client/hubs/chat",
    "https://example.com/client/hubs/chat",
    "https://example.com/ws/client?hub=chat",
    "https://example.com/client/?hubs=chat",
  ])("in every URL form: %s", (audience) => expect(names(audience)).toBe(true));

  test.each([
    "http://example.com/ws/client/hubs/chat",
    "ws://example.com/ws/client/hubs/chat",
    "wss://EXAMPLE.com/ws/client/hubs/chat",
    "https://example.com:8443/ws/client/hubs/chat",
    "https://example.com/ws/client/hubs/chat/",
    "https://example.com/ws/client/hubs/chat?x=1&access_token=a",
    "https://example.com/ws/client/hubs/chat#part",
    "https://example.com/ws/client/hubs/CHAT",
    "https://example.com/ws/client/hubs/ch%61t",
    "https://example.com/ws/client/hubs/chat?hub=other",
  ])("with any scheme, port, slash, other parameters and case: %s", (audience) => expect(names(audience)).toBe(true));

  test("with the hub of the request, in any case, and _default where none is named", () => {
    expect(names("https://example.com/ws/client/hubs/chat", "cHAt")).toBe(true);
    for (const audience of ["/ws/client", "/client/", "/ws/client?hub=", "/ws/client/hubs/_default"]) {
      expect(names(`https://example.com${audience}`, "_default")).toBe(true);
      expect(names(`https://example.com${audience}`, "chat")).toBe(false);
    }
  });

  test("as one of a list", () => {
    expect(names(["https://elsewhere/", 7, "https://example.com/client/hubs/chat"])).toBe(true);
    expect(names([])).toBe(false);
    expect(names([["https://example.com/client/hubs/chat"]])).toBe(false);
  });
});

test.each([
  undefined,
  null,
  7,
  {},
  "",
  "chat",
  "example.com/ws/client/hubs/chat",
  "//example.com/ws/client/hubs/chat",
  "https://evil.example/ws/client/hubs/chat",
  "https://example.com.evil.example/ws/client/hubs/chat",
  "https://example.com@evil.example/ws/client/hubs/chat",
  "https://example.com/ws/client/hubs/other",
  "https://example.com/ws/client",
  "https://example.com/ws/client?hub=other",
  "https://example.com/ws/client?hub=chat&hub=chat",
  "https://example.com/ws/client/hubs/",
  "https://example.com/",
  "https://example.com/api/hubs/chat",
  "https://example.com/ws/api/v1/hubs/chat",
  "ftp://example.com/ws/client/hubs/chat",
  "file://example.com/ws/client/hubs/chat",
])("%j names another endpoint or none", (audience) => expect(names(audience)).toBe(false));

describe("an audience that URL parsers rewrite is not what its maker wrote, and opens no other hub", () => {
  test.each([
    "https://example.com/ws/client/hubs/other/../chat",
    "https://example.com/ws/client/hubs/other/%2e%2E/chat",
    "https://example.com/ws/client/hubs/other/.%2e/chat",
    "https://example.com/ws/client/hubs/./chat",
    "https://example.com/ws/client/hubs/chat/.",
    "https://example.com/ws/client/hubs/chat/other/..",
    "https://example.com/ws/client/hubs/chat/other/..?x=1",
    "https://example.com/ws/client/hubs/chat/other/..#x",
    "https://example.com/ws/client/hubs/other\\..\\chat",
    "https://example.com/ws/client\\hubs\\chat",
    "https://example.com\\ws/client/hubs/chat",
    "https:\\\\example.com/ws/client/hubs/chat",
    "https://example.com/ws/client/hubs/other/.\t./chat",
    "https://example.com/ws/client/hubs/other/\n../chat",
    "https://example.com/ws/client/hubs/chat/. \u0001",
  ])("%j", (audience) => {
    expect(new URL(audience).pathname).toMatch(/^\/ws\/client\/hubs\/chat\/?$/);
    expect(names(audience)).toBe(false);
    expect(names([audience, "https://example.com/ws/client/hubs/chat"])).toBe(true);
  });

  test.each([
    "https://example.com/ws/client/hubs/chat?from=/a/../b",
    "https://example.com/ws/client/hubs/chat?from=a\\b",
    "https://example.com/ws/client/hubs/chat#/../x",
    "https://example.com/ws/client/hubs/chat \n",
  ])("but the text behind the path is not part of it: %j", (audience) => expect(names(audience)).toBe(true));
});

describe("of a client on a path of the configuration", () => {
  const namesPath = (audience: unknown, path = "/ocpp/CP%201") => names(audience, "ocpp", path);

  test.each([
    "https://example.com/ocpp/CP%201",
    "wss://EXAMPLE.com:8443/ocpp/CP%201/?x=1#part",
    "https://example.com/ocpp/CP 1",
    "https://example.com/ws/client/hubs/ocpp",
    "https://example.com/client?hub=OCPP",
  ])("an audience names that path, or a URL of its hub: %s", (audience) => expect(namesPath(audience)).toBe(true));

  test.each([
    "https://example.com/ocpp/CP%202",
    "https://example.com/ocpp/cp%201",
    "https://example.com/ocpp",
    "https://example.com/ocpp/CP%201/more",
    "https://example.com/ocpp/x/../CP%201",
    "https://example.com\\ocpp\\CP%201",
    "https://evil.example/ocpp/CP%201",
    "https://example.com/ws/client/hubs/chat",
    "https://example.com/ws/client",
  ])("%s names another", (audience) => expect(namesPath(audience)).toBe(false));

  test("a slash at the end of the request's path does not count either", () => {
    expect(namesPath("https://example.com/ocpp/CP1", "/ocpp/CP1/")).toBe(true);
    expect(namesPath("https://example.com", "/")).toBe(true);
  });

  test("the path opens none of the hub's other URLs", () => {
    expect(names("https://example.com/ocpp/CP%201", "ocpp")).toBe(false);
  });
});

test("an authority without a valid host gives no host", () => {
  const audience = "https://example.com/ws/client/hubs/chat";
  expect(isClientAudience(audience, { hosts: [], hub: "chat", clientPath: null })).toBe(false);
});

test("never throws", () => {
  fc.assert(
    fc.property(fc.oneof(fc.webUrl(), fc.string({ unit: "binary" }), fc.anything()), (audience) => {
      expect(names(audience)).toBe(false);
    }),
  );
});
