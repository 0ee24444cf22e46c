import { afterAll, describe, expect, test } from "bun:test";
import { RawWebSocket } from "../../test/support/raw-websocket.ts";
import { announceKeepAlive, keepAliveOf } from "./keep-alive.ts";

describe("what callers are told is never more than Bun keeps, which ends a timeout up to 4 s early", () => {
  test.each([
    [1000, 5, "timeout=1"],
    [1500, 6, "timeout=1"],
    [75_000, 79, "timeout=75"],
    [251_000, 255, "timeout=251"],
    [255_000, 255, "timeout=251"],
  ])("%d ms", (keepAliveMs, idleTimeoutSeconds, promise) => {
    expect(keepAliveOf(keepAliveMs)).toEqual({
      idleTimeoutSeconds,
      promise,
      lingerMs: (idleTimeoutSeconds + 4) * 1000,
    });
  });
});

describe("an answer", () => {
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      const response = new Response("x", request.url.endsWith("/last") ? { headers: { Connection: "close" } } : {});
      announceKeepAlive(request, response, keepAliveOf(75_000));
      return response;
    },
  });
  afterAll(() => server.stop(true));

  test.each([
    ["to a call that says nothing", "/", [], ["keep-alive"], ["timeout=75"]],
    ["to one that asks for it", "/", ["Connection: Keep-Alive"], ["keep-alive"], ["timeout=75"]],
    ["to a header that only looks like an end", "/", ["Connection: closed, x-close"], ["keep-alive"], ["timeout=75"]],
    ["to the last call of a connection", "/", ["Connection: TE, Close"], [], []],
    ["behind which hubwire closes", "/last", [], ["close"], []],
  ])("%s", async (_what, path, lines, connection, keepAlive) => {
    const usual = ["upgrade", "connection", "sec-websocket-key", "sec-websocket-version"];
    const client = await RawWebSocket.request({ port: server.port ?? 0, path, lines, without: usual });
    const { head } = await client.answer();
    expect(head.all("keep-alive")).toEqual(keepAlive);
    const told = head.all("connection").map((value) => value.toLowerCase());
    expect(told.filter((value) => value !== "close" || path === "/last")).toEqual(connection);
    client.destroy();
  });
});
