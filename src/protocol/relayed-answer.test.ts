import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { HeaderLine } from "./headers.ts";
import { relayedHeaders } from "./relayed-answer.ts";

describe("relayedHeaders", () => {
  test("passes end-to-end lines on unchanged: order, spelling, repeats", () => {
    const lines: HeaderLine[] = [
      ["WWW-Authenticate", "Basic"],
      ["Set-Cookie", "a=1"],
      ["x-own", "ü"],
      ["Set-Cookie", "b=2"],
      ["Content-Type", "application/json"],
      ["Location", "/elsewhere"],
      ["X-ASRSish", "1"],
      ["Sec-Fetch-Mode", "cors"],
    ];
    expect(relayedHeaders(lines)).toEqual(lines);
  });

  test.each([
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Content-Length",
    "X-ASRS-User-Id",
    "x-asrs-anything",
    "X-Hubwire-Event-Id",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Accept",
    "sec-websocket-extensions",
  ])("withholds %s in any case", (name) => {
    for (const spelt of [name, name.toLowerCase(), name.toUpperCase()]) {
      expect(
        relayedHeaders([
          [spelt, "v"],
          ["X-Kept", "1"],
        ]),
      ).toEqual([["X-Kept", "1"]]);
    }
  });

  test("withholds what Connection names, over several lines, in any case", () => {
    expect(
      relayedHeaders([
        ["X-Hop", "1"],
        ["connection", "close, x-hop"],
        ["X-Kept", "1"],
        ["Connection", " X-Other ,,"],
        ["x-OTHER", "1"],
      ]),
    ).toEqual([["X-Kept", "1"]]);
  });

  test("only takes lines away", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.string(), fc.string())), (lines) => {
        const kept = relayedHeaders(lines);
        expect(kept).toEqual(lines.filter((line) => kept.includes(line)));
      }),
    );
  });
});
