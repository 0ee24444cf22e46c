import { describe, expect, test } from "bun:test";
import {
  absoluteUrlFault,
  addressRangeFault,
  allowedHostFault,
  isHeaderName,
  natsServerFault,
  normaliseOrigin,
  originFault,
  urlTemplateFault,
} from "./addresses.ts";

describe("urlTemplate", () => {
  for (const good of [
    "http://localhost:7071/{hub}/api/{event}",
    "https://h.example/{category}?code=a%2Fb&e={event}",
    "http://[::1]:8080/",
    "http://127.0.0.1",
    "HTTP://h/{hub}{event}",
    "http://h?hub={hub}",
    "http://h/a@b:c",
  ]) {
    test(`takes ${good}`, () => expect(urlTemplateFault(good)).toBeNull());
  }

  const PLACE = "a parameter is allowed in the path and the query only, not in the scheme, user name, host or port";
  for (const [bad, sentence] of [
    ["http://{hub}.example/", PLACE],
    ["http://h{event}/", PLACE],
    ["http://h:{event}/", PLACE],
    ["http://h:80{event}/", PLACE],
    ["{hub}://h/", PLACE],
    ["http://{hub}@h/", PLACE],
    ["http://u:{event}@h/", PLACE],
    ["http://h\\{hub}/", "must not contain spaces, control characters or backslashes"],
    ["http://h/{user}", "has an unknown parameter: use {hub}, {category} or {event}"],
    ["http://h/{Hub}", "has an unknown parameter: use {hub}, {category} or {event}"],
    ["http://h/{}", "has an unknown parameter: use {hub}, {category} or {event}"],
    ["http://h/{hub", "has an unpaired { or }"],
    ["http://h/hub}", "has an unpaired { or }"],
    ["http://h/{{hub}}", "has an unpaired { or }"],
    ["http://u:p@h/", "must not contain a user name or password"],
    ["http://u@h/", "must not contain a user name or password"],
    ["http://h/#a", "must not contain a fragment (#)"],
    ["http://h/a b", "must not contain spaces, control characters or backslashes"],
    ["http://h/\r\nX: 1", "must not contain spaces, control characters or backslashes"],
    ["http://h:99999/", "must be a URL with a valid host and port"],
    ["http:///path", "must be a URL with a valid host and port"],
    ["ftp://h/", "must be an absolute URL that starts with http://, https://"],
    ["//h/", "must be an absolute URL that starts with http://, https://"],
    ["http:h/", "must be an absolute URL that starts with http://, https://"],
    ["/api", "must be an absolute URL that starts with http://, https://"],
  ] as const) {
    test(`refuses ${JSON.stringify(bad)}`, () => expect(urlTemplateFault(bad)).toBe(sentence));
  }
});

describe("addresses and networks", () => {
  for (const good of ["10.0.0.0/8", "127.0.0.1", "::1", "fd00::/8", "0.0.0.0/0", "1.2.3.4/32", "::/0", "::/128"]) {
    test(`takes ${good}`, () => expect(addressRangeFault(good)).toBeNull());
  }
  for (const bad of ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8", "10.0.0.0/1e1"]) {
    test(`refuses the prefix of ${bad}`, () => expect(addressRangeFault(bad)).toContain('the prefix after "/"'));
  }
  for (const bad of ["", "10.0.0", "256.0.0.1", "proxy.example", "fe80::1%eth0", "[::1]", " 10.0.0.1"]) {
    test(`refuses ${JSON.stringify(bad)}`, () => expect(addressRangeFault(bad)).toContain("must be an IP address"));
  }
});

describe("origins", () => {
  for (const [written, form] of [
    ["*", "*"],
    ["null", "null"],
    ["https://App.Example", "https://app.example"],
    ["https://app.example:443", "https://app.example"],
    ["http://localhost:3000", "http://localhost:3000"],
    ["http://[::1]:3000", "http://[::1]:3000"],
    ["capacitor://localhost", "capacitor://localhost"],
  ] as const) {
    test(`takes ${written} as ${form}`, () => {
      expect(originFault(written)).toBeNull();
      expect(normaliseOrigin(written)).toBe(form);
    });
  }
  for (const bad of [
    "",
    "app.example",
    "https://app.example/",
    "https://*.example",
    "https://u@app.example",
    "https://",
  ]) {
    test(`refuses ${JSON.stringify(bad)}, which no browser sends`, () => expect(originFault(bad)).not.toBeNull());
  }
});

test("absolute URLs need one of the schemes", () => {
  expect(absoluteUrlFault("wss://h/ws", ["http", "wss"])).toBeNull();
  expect(absoluteUrlFault("ws://h/ws", ["http", "wss"])).toBe(
    "must be an absolute URL that starts with http://, wss://",
  );
});

test("header names are tokens", () => {
  expect(isHeaderName("X-Client-Cert")).toBeTrue();
  for (const bad of ["", "X Y", "X:", "é", "X\r\n"]) expect(isHeaderName(bad)).toBeFalse();
});

test("entries of allowedUpstreamHosts are hosts and networks, without scheme, port and path", () => {
  for (const good of ["*", "api.example", "*.example", "10.0.0.0/8", "[::1]"])
    expect(allowedHostFault(good)).toBeNull();
  for (const bad of ["", "http://api.example", "api.example:80", "api.example/x", "10.0.0.0/33", "::ffff:0:0/96"]) {
    expect(allowedHostFault(bad)).toStartWith('must be "*", a host name');
  }
});

describe("NATS servers", () => {
  for (const good of [
    "h",
    "nats.example",
    "nats_1:1",
    "10.0.0.1:65535",
    "[::1]",
    "[fd00::1]:4222",
    "nats://h",
    "nats://10.0.0.1:4222",
    "tls://nats.example:4222",
    "tls://[::1]:4222",
  ]) {
    test(`take ${good}`, () => expect(natsServerFault(good)).toBeNull());
  }

  const HOST =
    "must be a host name, an IPv4 address or an IPv6 address in brackets, with or without a port, and nothing after it";
  const SCHEME = "must be `host`, `host:port`, or one of these after nats:// or tls://";
  const SECRET = "must not contain a user name, password or token: there are options for them";
  for (const [bad, sentence] of [
    ["", HOST],
    ["nats://", HOST],
    ["h:0", HOST],
    ["h:65536", HOST],
    ["h:", HOST],
    ["h:x", HOST],
    ["::1", HOST],
    ["300.1.1.1", HOST],
    ["nats://h/", HOST],
    ["h?a=b", HOST],
    ["h,i", HOST],
    ["h i", HOST],
    ["h\n", HOST],
    ["ws://h", SCHEME],
    ["NATS://h", SCHEME],
    ["://h", SCHEME],
    ["nats://u:p@h", SECRET],
    ["token@h", SECRET],
    ["tls://@h", SECRET],
  ] as const) {
    test(`refuse ${JSON.stringify(bad)}`, () => expect(natsServerFault(bad)).toBe(sentence));
  }
});
