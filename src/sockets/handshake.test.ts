import { describe, expect, test } from "bun:test";
import { checkHandshake } from "./handshake.ts";

const GOOD: Readonly<Record<string, string>> = {
  Upgrade: "websocket",
  Connection: "Upgrade",
  "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
};

const LIST_HEADERS = ["Connection", "Upgrade", "Sec-WebSocket-Protocol", "X-Forwarded-For"];

/** The good handshake with some headers in another way; null leaves one out. */
function check(over: Readonly<Record<string, string | null>> = {}, method = "GET") {
  const headers = new Headers();
  for (const [name, value] of Object.entries({ ...GOOD, ...over })) if (value !== null) headers.set(name, value);
  return checkHandshake(method, headers);
}

describe("checkHandshake", () => {
  test.each([
    [{}],
    [{ Upgrade: "WebSocket" }],
    [{ Upgrade: "h2c, websocket" }],
    [{ Connection: "keep-alive, UPGRADE" }],
    [{ "Content-Length": "0" }],
    [{ "Sec-WebSocket-Protocol": "a, b" }],
    [{ "Sec-WebSocket-Protocol": ",a,," }],
    [{ "Sec-WebSocket-Protocol": "gr\xfc\xdf" }],
  ])("takes %j", (over) => expect(check(over)).toBeNull());

  test.each([
    [{ Upgrade: null }],
    [{ Upgrade: "h2c" }],
    [{ Upgrade: "websockets" }],
    [{ Connection: null }],
    [{ Connection: "close" }],
    [{ Connection: "keep-alive" }],
    [{ "Sec-WebSocket-Version": null }],
    [{ "Sec-WebSocket-Version": "8" }],
    [{ "Sec-WebSocket-Version": "13, 13" }],
  ])("answers %j with 426, saying what would be taken", (over) => {
    const refused = check(over);
    expect(refused).toMatchObject({
      status: 426,
      headers: { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13" },
    });
    expect(refused?.message).toContain("WebSocket");
  });

  test.each(["POST", "HEAD", "PUT", "OPTIONS", "get"])("answers %s with 426", (method) => {
    expect(check({}, method)?.status).toBe(426);
  });

  test.each([
    [{ "Sec-WebSocket-Key": null }],
    [{ "Sec-WebSocket-Key": "" }],
    [{ "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ" }],
    [{ "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZSEh" }],
    [{ "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25j====" }],
    [{ "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==" }],
    [{ "Content-Length": "1" }],
    [{ "Transfer-Encoding": "chunked" }],
    [{ "Sec-WebSocket-Protocol": "" }],
    [{ "Sec-WebSocket-Protocol": "  " }],
    [{ "Sec-WebSocket-Protocol": "," }],
    [{ "Sec-WebSocket-Protocol": " ,\t, " }],
    [{ "Sec-WebSocket-Protocol": "a\x7fb" }],
    [{ "Sec-WebSocket-Protocol": "a, \x7f" }],
  ])("answers %j with 400", (over) => expect(check(over)?.status).toBe(400));

  describe.each(LIST_HEADERS)("%s, which is a list,", (name) => {
    // The part of the header that the handshake needs is at its end.
    const ending = name in GOOD ? (GOOD[name] ?? "") : "last";
    const listOf = (count: number) => [...Array<string>(count - 1).fill("a"), ending].join(", ");
    const ofBytes = (count: number) => `${"a".repeat(count - ending.length - 1)},${ending}`;

    test("may have 64 elements and 8192 bytes", () => {
      expect(check({ [name]: listOf(64) })).toBeNull();
      expect(check({ [name]: ofBytes(8192) })).toBeNull();
      // Empty elements do not count.
      expect(check({ [name]: `,, ${listOf(64)} , ,\t,` })).toBeNull();
    });

    test("is refused with 400 past that, and told which bound it was", () => {
      expect(check({ [name]: listOf(65) })).toMatchObject({ status: 400, target: name });
      expect(check({ [name]: listOf(65) })?.message).toContain("64");
      expect(check({ [name]: ofBytes(8193) })).toMatchObject({ status: 400, target: name });
      expect(check({ [name]: ofBytes(8193) })?.message).toContain("8192");
    });
  });

  test("a request that is no upgrade is told so before anything else about it", () => {
    expect(check({ Upgrade: null, "Sec-WebSocket-Key": null, "Content-Length": "9" })?.status).toBe(426);
  });
});
