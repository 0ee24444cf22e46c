import { describe, expect, test } from "bun:test";
import { AllowedHosts, parseAllowedHost } from "./allowed-hosts.ts";

/** What a URL's host comes to under a list, as `URL` and the client read it. */
function hostFault(host: string, entries: readonly string[] = ["*"]): string | null {
  return new AllowedHosts(entries).hostFault(new URL(`http://${host}/`).hostname.replace(/^\[(.*)\]$/, "$1"));
}

const NOT_LISTED = "its host is not listed in allowedUpstreamHosts";

describe("an entry", () => {
  for (const good of [
    "*",
    "h",
    "Api.Example",
    "*.example.com",
    "bücher.example",
    "10.1.2.3",
    "[::1]",
    "::1",
    "a_b.local",
  ]) {
    test(`may be ${good}`, () => expect(parseAllowedHost(good)).not.toBeNull());
  }
  for (const good of ["10.0.0.0/8", "0.0.0.0/0", "fd00::/8", "::/0", "::ffff:10.0.0.1", "64:ff9b::a00:1", "127.1"]) {
    test(`may be ${good}`, () => expect(parseAllowedHost(good)?.kind).toBe("network"));
  }
  for (const bad of ["", " ", "a b", "http://h", "h:80", "h/p", "u@h", "**", "a.*", "*.", "*.*.h", "*h", "*.1.2.3.4"]) {
    test(`may not be ${JSON.stringify(bad)}`, () => expect(parseAllowedHost(bad)).toBeNull());
  }
  for (const bad of ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/8/8", "10.0.0.0/x", "::/129", "fe80::1%eth0", "[::1", "."]) {
    test(`may not be ${bad}`, () => expect(parseAllowedHost(bad)).toBeNull());
  }
  for (const bad of ["::ffff:0:0/96", "2002:a00::/24", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32"]) {
    test(`may not be ${bad}, which is judged by the IPv4 in it`, () => expect(parseAllowedHost(bad)).toBeNull());
  }
});

describe("a name", () => {
  for (const [host, entries] of [
    ["api.example", ["*"]],
    ["api.example", ["api.example"]],
    ["API.Example", ["api.EXAMPLE"]],
    ["api.example.", ["api.example"]],
    ["api.example", ["api.example."]],
    ["xn--bcher-kva.example", ["bücher.example"]],
    ["a.example", ["*.example"]],
    ["a.b.example", ["*.Example"]],
  ] as const) {
    test(`${host} is listed by ${entries}`, () => expect(hostFault(host, entries)).toBeNull());
  }
  for (const [host, entries] of [
    ["api.example", []],
    ["api.example", ["api.example.com", "pi.example", "api"]],
    ["example", ["*.example"]],
    ["badexample", ["*.example"]],
    ["a.example.evil", ["*.example"]],
    ["a.example", ["0.0.0.0/0", "::/0"]],
  ] as const) {
    test(`${host} is not listed by ${JSON.stringify(entries)}`, () =>
      expect(hostFault(host, entries)).toBe(NOT_LISTED));
  }
});

describe("an address in a URL", () => {
  for (const [host, entries] of [
    ["10.1.2.3", ["10.1.2.3"]],
    ["10.1.2.3", ["10.0.0.0/8"]],
    ["10.255.255.255", ["10.1.2.3/8"]],
    ["127.0.0.1", ["0.0.0.0/0"]],
    ["[fd00::1]", ["fd00::/8"]],
    ["[FD00:0:0::1]", ["[fd00::1]"]],
    ["[::1]", ["::1"]],
    ["[::ffff:10.1.2.3]", ["10.0.0.0/8"]],
    ["10.1.2.3", ["::ffff:10.1.2.3"]],
    ["0x7f.1", ["127.0.0.1"]],
  ] as const) {
    test(`${host} is listed by ${entries}`, () => expect(hostFault(host, entries)).toBeNull());
  }
  for (const [host, entries] of [
    ["10.1.2.3", ["10.1.2.4", "11.0.0.0/8", "h"]],
    ["10.128.0.0", ["10.0.0.0/9"]],
    ["10.1.2.3", ["::/0"]],
    ["[fe00::1]", ["fd00::/8", "0.0.0.0/0"]],
    ["[::ffff:10.1.2.3]", ["::/0"]],
    ["10.1.2.3", ["*.2.3.example"]],
  ] as const) {
    test(`${host} is not listed by ${entries}`, () => expect(hostFault(host, entries)).toBe(NOT_LISTED));
  }

  for (const host of [
    "127.0.0.1",
    "127.8.9.10",
    "[::1]",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "[fd00::1]",
    "8.8.8.8",
  ]) {
    test(`${host} needs no entry of its own`, () => expect(hostFault(host)).toBeNull());
  }
  for (const host of [
    "100.100.100.199",
    "100.100.100.201",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.0",
    "1.0.0.0",
  ]) {
    test(`${host} is next to what is refused`, () => expect(hostFault(host)).toBeNull());
  }
  for (const host of [
    "223.255.255.255",
    "240.0.0.1",
    "[fd00:ec1::254]",
    "[fec0::1]",
    "[fd20:ce::255]",
    "[2001:1::]",
    "[64:ff9b:1::10.0.0.1]",
  ]) {
    test(`${host} is next to what is refused`, () => expect(hostFault(host)).toBeNull());
  }
});

describe("link-local, metadata and nobody's addresses are refused, however they are spelled", () => {
  const metadata = "169.254.169.254";
  for (const host of [
    metadata,
    `${metadata}.`,
    "169.254.0.0",
    "169.254.255.255",
    "0xa9fea9fe",
    "2852039166",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.16689662",
    "0xA9.0376.43518",
    "１６９.254.169.254",
    "169%2e254%2e169%2e254",
    `[::ffff:${metadata}]`,
    "[::ffff:a9fe:a9fe]",
    `[::${metadata}]`,
    `[::ffff:0:${metadata}]`,
    `[64:ff9b::${metadata}]`,
    `[64:ff9b:1::${metadata}]`,
    "[64:ff9b:1:a9fe:a9:fe00::]",
    "[64:ff9b:1:7a9:fe:a9fe::]",
    "[64:ff9b:1:7:a9:fea9:fe00:0]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:a9fe:a9fe::1]",
    "[2001:0:102:304:0:0:5601:5601]",
    "[fe80::1]",
    "[febf::1]",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "[fd00:c1::a9fe:a9fe]",
    "[fd00:42::42]",
    "0.0.0.0",
    "0",
    "[::]",
    "[::ffff:0.0.0.0]",
    "224.0.0.1",
    "239.255.255.255",
    "255.255.255.255",
    "[ff02::1]",
  ]) {
    test(host, () => expect(hostFault(host)).toMatch(/^its host (is|maps to) .* must list it explicitly$/));
  }

  for (const [host, entries] of [
    [metadata, ["*", metadata]],
    [metadata, ["169.254.0.0/16"]],
    [metadata, ["169.254.169.0/24"]],
    [metadata, ["2852039166"]],
    [`[::ffff:${metadata}]`, [metadata]],
    [metadata, [`[64:ff9b::${metadata}]`]],
    ["[fe80::1]", ["*", "fe80::/10"]],
    ["100.100.100.200", ["*", "100.100.100.200"]],
    ["0.0.0.0", ["*", "0.0.0.0"]],
    ["[::]", ["*", "::"]],
  ] as const) {
    test(`${host} may be called where ${entries} lists it`, () => expect(hostFault(host, entries)).toBeNull());
  }
  for (const [host, entries] of [
    [metadata, ["*", "0.0.0.0/0"]],
    [metadata, ["169.254.0.0/15"]],
    [metadata, ["*", "169.254.169.253", "169.254.170.0/24"]],
    ["100.100.100.200", ["100.64.0.0/10"]],
    ["[fe80::1]", ["::/0"]],
    ["[2002:a9fe:a9fe::1]", ["::/0", "*"]],
  ] as const) {
    test(`${host} is not meant by ${entries}`, () => expect(hostFault(host, entries)).toContain("explicitly"));
  }
});

describe("an address that a name resolves to", () => {
  const fault = (entries: readonly string[], name: string, address: string) =>
    new AllowedHosts(entries).addressFault(name, address);

  test("is judged as one in a URL", () => {
    expect(fault(["*"], "h.example", "169.254.169.254")).toBe(
      "is a link-local address, where clouds keep their metadata (169.254.0.0/16); allowedUpstreamHosts must list it explicitly",
    );
    expect(fault(["*"], "h.example", "::ffff:169.254.169.254")).toStartWith("maps to a link-local address");
    expect(fault(["*"], "h.example", "fe80::1%eth0")).toStartWith("is a link-local address");
    expect(fault(["fe80::1"], "h.example", "fe80::1%eth0.100")).toBeNull();
    expect(fault(["*"], "h.example", "elsewhere")).toBe("is not an IP address");
    for (const address of ["127.0.0.1", "10.0.0.1", "::1", "2001:db8::1", "8.8.8.8"]) {
      expect(fault(["h.example"], "h.example", address)).toBeNull();
    }
  });

  test("may be link-local where the exact name is listed, and not for a wider one", () => {
    expect(fault(["meta.example"], "meta.example", "169.254.169.254")).toBeNull();
    expect(fault(["meta.example"], "meta.example.", "169.254.169.254")).toBeNull();
    expect(fault(["*.example"], "meta.example", "169.254.169.254")).not.toBeNull();
    expect(fault(["meta.example", "*"], "other.example", "169.254.169.254")).not.toBeNull();
  });
});
