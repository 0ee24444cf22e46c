import { describe, expect, test } from "bun:test";
import { someFacts } from "../../test/support/core-stage.ts";
import { CLOSE } from "../protocol/close-causes.ts";
import { countNotices, Meters } from "./meters.ts";

describe("calls", () => {
  test.each([
    [101, "other"],
    [200, "2xx"],
    [299, "2xx"],
    [302, "3xx"],
    [401, "4xx"],
    [503, "5xx"],
    [600, "other"],
    [999, "other"],
  ] as const)("an answer with status %d counts as %s of its event", (status, result) => {
    const meters = new Meters();
    meters.called("message", { kind: "answer", status });
    expect(meters.calls.message[result]).toBe(1);
    expect(Object.values(meters.calls).flatMap((counts) => Object.values(counts))).toHaveLength(24);
    const all = Object.values(meters.calls).flatMap((counts) => Object.values(counts));
    expect(all.reduce((sum, count) => sum + count)).toBe(1);
  });

  test("a call without an answer counts by the reason", () => {
    const meters = new Meters();
    meters.called("connect", { kind: "not-sent", detail: "" });
    meters.called("connect", { kind: "unknown", cause: "timeout", status: null, detail: "" });
    meters.called("connect", { kind: "unknown", cause: "reset", status: 200, detail: "" });
    meters.called("disconnect", { kind: "refused", cause: "breaker", retryAfterSeconds: 1 });
    expect(meters.calls.connect).toMatchObject({ "2xx": 0, "not-sent": 1, unknown: 2, refused: 0 });
    expect(meters.calls.disconnect).toMatchObject({ refused: 1 });
  });
});

test("a message for many counts once for each", () => {
  const meters = new Meters();
  meters.sent(10, 3);
  meters.sent(5, 0);
  expect([meters.messagesSent, meters.messageBytesSent]).toEqual([3, 30]);
});

describe("notices", () => {
  test("are counted by their kind, ends of connections by their category, refusals by their code", () => {
    const meters = new Meters();
    const count = countNotices(meters);
    const facts = someFacts();
    count({ kind: "connection-opened", facts });
    count({ kind: "connection-closed", facts, end: CLOSE.inboxFull });
    count({ kind: "connection-closed", facts, end: CLOSE.bufferLimit });
    count({ kind: "connection-closed", facts, end: CLOSE.bufferLimit });
    const refused = { hub: "chat", status: 503, message: "", clientAddress: "", isChainIgnored: false };
    count({ kind: "connection-refused", code: "connection_limit", ...refused });
    expect(meters.notices).toEqual({ "connection-opened": 1, "connection-closed": 3, "connection-refused": 1 });
    expect(meters.connectionsClosed).toEqual({ "inbox-full": 1, "buffer-limit": 2 });
    expect(meters.connectionsRefused).toEqual({ connection_limit: 1 });
  });

  test("about several events count all of them", () => {
    const meters = new Meters();
    const count = countNotices(meters);
    const lost = { connectionId: "c1", hub: "chat", forwardedFor: null, eventId: "c1.1", cause: "", tookMs: null };
    count({ kind: "undelivered", ...lost, event: "message", count: 7 });
    count({ kind: "undelivered", ...lost, event: "connect", count: 1 });
    count({ kind: "node-messages-dropped", count: 3, reason: "" });
    expect(meters.eventsUndelivered).toEqual({ connect: 1, message: 7, disconnect: 0 });
    expect(meters.nodeMessagesDropped).toBe(3);
    expect(meters.notices).toEqual({ undelivered: 2, "node-messages-dropped": 1 });
  });
});
