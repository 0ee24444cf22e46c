import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { addressBlock } from "./ip-address.ts";

describe("addressBlock", () => {
  test.each([
    ["an IPv4 address alone", "192.0.2.7", "192.0.2.7"],
    ["the /64 of an IPv6 address", "2001:db8:0:1:aaaa::7", "20010db800000001/64"],
    ["the same for another of it, however it is written", "2001:DB8:0000:1::", "20010db800000001/64"],
    ["another /64", "2001:db8:0:2::7", "20010db800000002/64"],
    ["loopback", "::1", "0000000000000000/64"],
    ["a zone says nothing", "fe80::7%eth0", "fe80000000000000/64"],
    ["IPv4-mapped, dotted", "::ffff:192.0.2.7", "192.0.2.7"],
    ["IPv4-mapped, in hex", "::FFFF:c000:207", "192.0.2.7"],
    ["what is no address", "unknown", "unknown"],
    ["what is no address, with colons", "a:b::c::d", "a:b::c::d"],
    ["nothing", "", ""],
  ])("%s", (_what, address, block) => {
    expect(addressBlock(address)).toBe(block);
  });

  test("bounds what is no address", () => {
    for (const text of ["x", ":", "1:", "%"]) expect(addressBlock(text.repeat(10_000)).length).toBeLessThanOrEqual(64);
  });

  test("two IPv6 addresses are one client where their first 64 bits are equal, and only then", () => {
    const group = fc.integer({ min: 1, max: 0xffff }).map((value) => value.toString(16));
    const half = fc.tuple(group, group, group, group).map((groups) => groups.join(":"));
    fc.assert(
      fc.property(half, half, half, half, (net, other, a, b) => {
        expect(addressBlock(`${net}:${a}`)).toBe(addressBlock(`${net}:${b}`));
        expect(addressBlock(`${net}:${a}`) === addressBlock(`${other}:${a}`)).toBe(net === other);
      }),
    );
  });
});
