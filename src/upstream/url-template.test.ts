import { describe, expect, test } from "bun:test";
import { fillUrlTemplate, parseUrlTemplate } from "./url-template.ts";

describe("parseUrlTemplate", () => {
  test.each([
    ["http://host/{hub}", { secure: false, hostname: "host", port: 80, host: "host" }],
    ["http://host:8081/a", { secure: false, hostname: "host", port: 8081, host: "host:8081" }],
    ["http://host:80/a", { secure: false, hostname: "host", port: 80, host: "host" }],
    ["https://Host.Example/a", { secure: true, hostname: "host.example", port: 443, host: "host.example" }],
    ["https://h:8443", { secure: true, hostname: "h", port: 8443, host: "h:8443" }],
    ["http://[::1]:7071/a", { secure: false, hostname: "::1", port: 7071, host: "[::1]:7071" }],
  ])("finds where %s connects to and what its Host is", (text, origin) => {
    expect(parseUrlTemplate(text).origin).toEqual(origin);
  });

  test("keeps the query out of the label, since it may hold a code", () => {
    const { label } = parseUrlTemplate("http://host:7071/{hub}/api/{event}?code=s3cret&x=a/b?c");
    expect(label).toBe("http://host:7071/{hub}/api/{event}");
  });

  test.each(["ftp://host/", "http:///path", "http://{hub}/", "http://h:{event}/", "http://u:p@host/", "host/path"])(
    "throws for %s, where a client could choose the host or the host is missing",
    (text) => {
      expect(() => parseUrlTemplate(text)).toThrow("urlTemplate");
    },
  );
});

describe("fillUrlTemplate", () => {
  test.each([
    ["http://host/{hub}/api/{event}", "chat", "connect", "/chat/api/connect"],
    ["http://host/{hub}/{category}/{event}", "Chat", "message", "/Chat/messages/message"],
    ["http://host/{category}/{event}", "chat", "disconnect", "/connections/disconnect"],
    ["http://host", "chat", "connect", "/"],
    ["http://host?h={hub}&e={event}", "a.[b],c", "connect", "/?h=a.%5Bb%5D%2Cc&e=connect"],
    ["http://host/x?code=a%2Fb==&h={hub}", "_default", "connect", "/x?code=a%2Fb==&h=_default"],
    ["http://host/a b/ü/{hub}#part", "chat", "connect", "/a%20b/%C3%BC/chat"],
    ["http://host/{hub}{hub}", "a", "connect", "/aa"],
    ["http://host/{Hub}", "a", "connect", "/%7BHub%7D"],
  ] as const)("fills %s for hub %s and event %s", (text, hub, event, target) => {
    expect(fillUrlTemplate(parseUrlTemplate(text), hub, event)).toBe(target);
  });
});
