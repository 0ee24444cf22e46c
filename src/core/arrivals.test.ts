import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { CoreStage, RecordingSocket, someFacts } from "../../test/support/core-stage.ts";
import { toPayload } from "../../test/support/payloads.ts";
import { CLOSE } from "../protocol/close-causes.ts";
import type { Target } from "../protocol/envelope.ts";
import { Connection } from "./connection.ts";

const HUB: Target = { kind: "hub", hub: "Chat" };
const group = (name: string): Target => ({ kind: "group", hub: "chat", name });

let stage: CoreStage;
beforeEach(() => {
  stage = new CoreStage({ maxOutboxBytes: 1000, maxBufferedBytes: 5000 });
});
afterEach(() => stage.stop());

/** A connection that the upstream has accepted. */
function arrive(connectionId: string, groups: readonly string[] = []): Connection {
  const connection = new Connection(someFacts({ connectionId, userId: "ann" }));
  stage.outstanding.begin();
  stage.arrivals.expect(connection);
  stage.arrivals.accept(connection);
  void stage.membership.prepare(connection);
  for (const name of groups) void stage.membership.join(connection, name);
  return connection;
}

describe("frames for a connection that is not open yet", () => {
  test("go out in order when it opens, behind the connect answer's own", () => {
    const connection = arrive("c1", ["red"]);
    stage.arrivals.hold(connection, toPayload("one"));
    stage.arrivals.publish(HUB, toPayload("two"), []);
    stage.arrivals.publish(group("red"), toPayload("three"), ["c2"]);
    const { socket } = stage.enter(connection, "first");
    expect(socket.sent).toEqual(["first", "one", "two", "three"]);
    expect([stage.arrivals.count, connection.held]).toEqual([0, null]);
    stage.arrivals.hold(connection, toPayload("late"));
    expect(connection.held).toBeNull();
  });

  test("of other hubs and groups, or from which it is excluded, are not sent to it", () => {
    const connection = arrive("c1", ["red"]);
    stage.arrivals.publish({ kind: "hub", hub: "news" }, toPayload("other hub"), []);
    stage.arrivals.publish(group("blue"), toPayload("other group"), []);
    stage.arrivals.publish(HUB, toPayload("excluded"), ["c1"]);
    expect(stage.enter(connection).socket.sent).toEqual([]);
  });

  test("wait for its id from the question on, in its hub only", () => {
    const connection = new Connection(someFacts({ connectionId: "c1" }));
    stage.arrivals.expect(connection);
    stage.arrivals.holdEarly("CHAT", "c1", toPayload("early"));
    stage.arrivals.holdEarly("news", "c1", toPayload("other hub"));
    stage.arrivals.holdEarly("chat", "c2", toPayload("other id"));
    stage.arrivals.publish(HUB, toPayload("before the 2xx"), []);
    stage.arrivals.accept(connection);
    expect(stage.arrivals.take(connection)).toEqual([toPayload("early")]);
  });
});

describe("what waits", () => {
  const fits = () => stage.pressure.fits(5000);

  test("is counted, once for all that wait for it, until the last has it or is dropped", () => {
    const [one, two] = [arrive("c1"), arrive("c2")];
    stage.arrivals.publish(HUB, toPayload("x".repeat(500)), []);
    expect([stage.pressure.fits(5000 - 564), stage.pressure.fits(5000 - 563)]).toEqual([true, false]);
    stage.enter(one);
    expect(fits()).toBe(false);
    stage.admission.handshakeFailed(two);
    expect(fits()).toBe(true);
  });

  test("past maxOutboxBytes ends the connection, which is cut when it opens; nothing more waits for it", () => {
    const connection = arrive("c1");
    stage.arrivals.hold(connection, toPayload("x".repeat(436)));
    stage.arrivals.hold(connection, toPayload("x".repeat(436)));
    expect(connection.end).toBeNull();
    stage.arrivals.hold(connection, toPayload(""));
    expect([connection.end, connection.held]).toEqual([CLOSE.slowConsumer, null]);
    stage.arrivals.hold(connection, toPayload("more"));
    expect(fits()).toBe(true);
    const { socket } = stage.enter(connection, "first");
    expect([socket.sent, socket.done]).toEqual([["first"], ["terminate"]]);
  });

  test("past maxBufferedBytes in all ends it too", () => {
    stage.pressure.hold(4990);
    const connection = arrive("c1");
    stage.arrivals.hold(connection, toPayload("x"));
    expect(connection.end).toBe(CLOSE.slowConsumer);
    stage.pressure.hold(-4990);
  });
});

test("a close is taken: it comes behind what was sent before it, and nothing sent after it goes out", () => {
  const connection = arrive("c1");
  stage.arrivals.hold(connection, toPayload("before"));
  stage.lifecycle.close(connection, { code: 1000, reason: "enough", category: "backend" });
  stage.arrivals.hold(connection, toPayload("after"));
  const { socket } = stage.enter(connection, "first");
  expect([socket.sent, socket.done]).toEqual([["first", "before"], ["close 1000 enough"]]);
});

test("an outbox that is full ends the sending of what waited", () => {
  const connection = arrive("c1");
  for (const frame of ["one", "two"]) stage.arrivals.hold(connection, toPayload(frame));
  const socket = new RecordingSocket();
  socket.onClosed = (seen) => stage.lifecycle.closed(connection, seen);
  socket.full = true;
  stage.lifecycle.opened(connection, socket, null);
  expect(socket.done).toEqual(["terminate"]);
});

test("those who arrive take one place of maxConnections each, not two", () => {
  stage.options.maxConnections = 2;
  expect(stage.admission.reserve("a")).toBeNull();
  arrive("c1");
  expect(stage.admission.reserve("a")).toBeNull();
  expect(stage.admission.reserve("a")).toMatchObject({ code: "connection_limit" });
});
