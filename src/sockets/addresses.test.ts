import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { plainAddress, TrustedProxies, traceOrigin } from "./addresses.ts";

describe("plainAddress", () => {
  test.each([
    ["1.2.3.4", "1.2.3.4"],
    ["1.2.3.4:56", "1.2.3.4"],
    ["::ffff:1.2.3.4", "1.2.3.4"],
    ["::FFFF:1.2.3.4", "1.2.3.4"],
    ["[::ffff:1.2.3.4]:56", "1.2.3.4"],
    ["[2001:db8::1]:56", "2001:db8::1"],
    ["[2001:db8::1]", "2001:db8::1"],
    ["2001:db8::1", "2001:db8::1"],
    ["::1", "::1"],
    ["unknown", "unknown"],
    ["", ""],
  ])("%j is %j", (address, plain) => expect(plainAddress(address)).toBe(plain));
});

describe("TrustedProxies", () => {
  const trusted = new TrustedProxies(["10.0.0.0/8", "192.168.1.7", "2001:db8::/32", "::1"]);
  test.each(["10.0.0.0", "10.255.255.255", "192.168.1.7", "2001:db8::1", "2001:0DB8:0::5", "::1", "0:0:0:0:0:0:0:1"])(
    "%s is one",
    (address) => expect(trusted.includes(address)).toBe(true),
  );
  test.each(["9.255.255.255", "11.0.0.0", "192.168.1.8", "2001:db9::1", "::2", "", "unknown", "10.0.0.1:80", "10.0.0"])(
    "%j is not trusted",
    (address) => expect(trusted.includes(address)).toBe(false),
  );

  test("nobody is trusted where none is configured, 0.0.0.0/0 trusts every IPv4 address", () => {
    expect(new TrustedProxies([]).includes("127.0.0.1")).toBe(false);
    expect(new TrustedProxies(["0.0.0.0/0"]).includes("8.8.8.8")).toBe(true);
  });
});

describe("traceOrigin", () => {
  const trusted = new TrustedProxies(["10.0.0.0/8", "2001:db8::/32"]);
  const trace = (peer: string, chain: string | null) => {
    const { forwardedFor, clientAddress } = traceOrigin(peer, chain, trusted);
    return [forwardedFor, clientAddress];
  };

  test.each([
    ["no chain", "1.2.3.4", null, "1.2.3.4", "1.2.3.4"],
    ["IPv4 on an IPv6 listener", "::ffff:1.2.3.4", null, "1.2.3.4", "1.2.3.4"],
    ["a stranger's chain is not believed", "1.2.3.4", "9.9.9.9", "1.2.3.4", "1.2.3.4"],
    ["a proxy without a chain", "10.0.0.1", null, "10.0.0.1", "10.0.0.1"],
    ["a proxy with a blank chain", "10.0.0.1", " ", "10.0.0.1", "10.0.0.1"],
    ["a proxy's chain", "10.0.0.1", "9.9.9.9", "9.9.9.9, 10.0.0.1", "9.9.9.9"],
    ["a proxy on an IPv6 listener", "::ffff:10.0.0.1", "9.9.9.9", "9.9.9.9, 10.0.0.1", "9.9.9.9"],
    ["several proxies", "10.0.0.1", "9.9.9.9, 10.0.0.2", "9.9.9.9, 10.0.0.2, 10.0.0.1", "9.9.9.9"],
    [
      "what the client wrote before is passed on but not believed",
      "10.0.0.1",
      "6.6.6.6, 9.9.9.9",
      "6.6.6.6, 9.9.9.9, 10.0.0.1",
      "9.9.9.9",
    ],
    ["everybody is trusted", "10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3,10.0.0.2, 10.0.0.1", "10.0.0.3"],
    ["a proxy with a chain of nothing", "10.0.0.1", ", ,", "10.0.0.1", "10.0.0.1"],
    ["empty parts go", "10.0.0.1", ",9.9.9.9, ,\t,  10.0.0.2,,", "9.9.9.9,  10.0.0.2, 10.0.0.1", "9.9.9.9"],
    [
      "bytes stay",
      "10.0.0.1",
      "\xa0z\xc3\xbc, \xfc\x85 \xa0",
      "\xa0z\xc3\xbc, \xfc\x85 \xa0, 10.0.0.1",
      "\xfc\x85 \xa0",
    ],
    ["ports go", "10.0.0.1", "9.9.9.9:1, 10.0.0.2:2", "9.9.9.9, 10.0.0.2, 10.0.0.1", "9.9.9.9"],
    [
      "IPv6 ports and brackets go",
      "2001:db8::1",
      "[2001:db9::2]:3, [2001:db8::9]",
      "2001:db9::2, 2001:db8::9, 2001:db8::1",
      "2001:db9::2",
    ],
    [
      "mapped IPv4 in the chain",
      "10.0.0.1",
      "::ffff:9.9.9.9, [::ffff:10.0.0.2]:8",
      "9.9.9.9, 10.0.0.2, 10.0.0.1",
      "9.9.9.9",
    ],
    [
      "a word that is no address is not trusted",
      "10.0.0.1",
      "9.9.9.9, unknown",
      "9.9.9.9, unknown, 10.0.0.1",
      "unknown",
    ],
  ])("%s", (_what, peer, chain, forwardedFor, clientAddress) => {
    expect(trace(peer, chain)).toEqual([forwardedFor, clientAddress]);
  });

  test("the last hop is always the peer, and an untrusted peer is always the client", () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.option(fc.string(), { nil: null }), (peer, chain) => {
        const [forwardedFor = "", clientAddress] = trace(peer, chain);
        expect(forwardedFor.split(", ").at(-1)).toBe(peer);
        if (!trusted.includes(peer)) expect([forwardedFor, clientAddress]).toEqual([peer, peer]);
      }),
    );
  });
});
