import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { RecordingFanout } from "../../test/support/api-stage.ts";
import { CoreStage, RecordingSocket } from "../../test/support/core-stage.ts";
import { toPayload } from "../../test/support/payloads.ts";
import type { Frame } from "../protocol/client-protocol.ts";
import type { Members, Target } from "../protocol/envelope.ts";
import { Deliver } from "./deliver.ts";
import { topicOf } from "./topic.ts";

let stage: CoreStage;
let fanout: RecordingFanout;
let deliver: Deliver;

beforeEach(() => {
  stage = new CoreStage({ maxGroupsPerConnection: 2, maxOutboxBytes: 1000 });
  fanout = new RecordingFanout(stage);
  const { protocols, registry, arrivals, membership, pressure, lifecycle } = stage;
  const close = lifecycle.close.bind(lifecycle);
  deliver = new Deliver({
    protocols,
    registry,
    arrivals,
    membership,
    pressure,
    fanout,
    close,
    rulesReached: () => null,
  });
});
afterEach(() => {
  stage.stop();
});

const HUB: Target = { kind: "hub", hub: "chat" };
const members = (kind: Members["kind"], name: string, hub = "chat"): Members => ({ kind, hub, name });

function send(target: Target, frame: Frame, ...excluded: string[]): void {
  deliver.receive({ verb: "send", target, payload: toPayload(frame), excluded });
}

describe("sending to a hub or a group", () => {
  test("is one publication, however many are in it, with the frame unchanged", async () => {
    const inside = Array.from({ length: 5 }, () => stage.open({ groups: ["red"] }));
    const outside = stage.open();
    const frame = Uint8Array.of(1, 2);
    send(members("group", "red"), frame);
    send(HUB, "all");
    expect(fanout.published).toEqual([
      { topic: topicOf(members("group", "red"), "raw"), frame },
      { topic: topicOf(HUB, "raw"), frame: "all" },
    ]);
    expect(fanout.published[0]?.frame).toBe(frame);
    for (const { socket } of inside) expect(socket.sent).toEqual([frame, "all"]);
    expect(outside.socket.sent).toEqual(["all"]);
  });

  test("does not cross hubs, and a hub's case does not matter", async () => {
    const here = stage.open({ hub: "Chat", groups: ["red"] });
    const there = stage.open({ hub: "news", groups: ["red"] });
    send({ kind: "hub", hub: "CHAT" }, "hub");
    send(members("group", "red", "cHat"), "group");
    expect(here.socket.sent).toEqual(["hub", "group"]);
    expect(there.socket.sent).toEqual([]);
  });

  test("that nobody is in does nothing", async () => {
    send(members("group", "nobody's"), "x");
    send({ kind: "hub", hub: "nobody's" }, "x");
  });
});

describe("who is excluded", () => {
  test("gets nothing, once or many times named, and everything afterwards", async () => {
    const [one, two] = [stage.open({ connectionId: "c1" }), stage.open({ connectionId: "c2" })];
    send(HUB, "not for c1", "c1", "c1", "unknown", "");
    send(HUB, "for both");
    expect(one.socket.sent).toEqual(["for both"]);
    expect(two.socket.sent).toEqual(["not for c1", "for both"]);
  });

  test("keeps its subscriptions as they were, all of them", async () => {
    const inGroup = stage.open({ connectionId: "c1", groups: ["red"] });
    const outside = stage.open({ connectionId: "c2", groups: ["blue"] });
    const before = [inGroup, outside].map(({ socket }) => [...socket.topics].sort());
    send(members("group", "red"), "x", "c1", "c2");
    send(HUB, "x", "c1", "c2");
    expect([inGroup, outside].map(({ socket }) => [...socket.topics].sort())).toEqual(before);
    expect(outside.socket.sent).toEqual([]);
    // Above all it is not in a group that it was never in.
    send(members("group", "red"), "y");
    expect(inGroup.socket.sent).toEqual(["y"]);
    expect(outside.socket.sent).toEqual([]);
  });

  test("is a connection of that hub: one of another hub is unknown, and stays as it is", async () => {
    const there = stage.open({ connectionId: "c1", hub: "news", groups: ["red"] });
    const before = [...there.socket.topics];
    send(HUB, "x", "c1");
    send(members("group", "red"), "x", "c1");
    expect([...there.socket.topics]).toEqual(before);
    send(members("group", "red", "news"), "for news");
    expect(there.socket.sent).toEqual(["for news"]);
  });

  test("may be 10,000, of whom few are there", async () => {
    const kept = stage.open({ connectionId: "kept" });
    const left = Array.from({ length: 20 }, (_empty, index) => stage.open({ connectionId: `c${index}` }));
    send(HUB, "x", ...Array.from({ length: 10_000 }, (_empty, index) => `c${index}`));
    expect(kept.socket.sent).toEqual(["x"]);
    for (const { socket } of left) expect(socket.sent).toEqual([]);
  });
});

describe("sending to a user or a connection", () => {
  test("reaches all connections of the user, and one connection alone", async () => {
    const [first, second] = [stage.open({ connectionId: "c1", userId: "ann" }), stage.open({ userId: "ann" })];
    const bob = stage.open({ userId: "bob" });
    send(members("user", "ann"), "to ann");
    send(members("connection", "c1"), "to c1");
    expect(first.socket.sent).toEqual(["to ann", "to c1"]);
    // Written together with the messages to others, so that each write does not wake a client separately.
    expect(first.socket.sentSoon).toEqual(first.socket.sent);
    expect(second.socket.sent).toEqual(["to ann"]);
    expect(bob.socket.sent).toEqual([]);
    expect(fanout.published).toEqual([]);
  });

  test("of another hub, or of no hub, reaches nobody", async () => {
    const { socket } = stage.open({ connectionId: "c1", userId: "ann" });
    send(members("connection", "c1", "news"), "x");
    send(members("user", "ann", "news"), "x");
    send(members("connection", "c2"), "x");
    send(members("user", "Ann"), "x");
    expect(socket.sent).toEqual([]);
  });

  test("whose outbox is full cuts that connection and no other", async () => {
    const slow = stage.open({ connectionId: "c1", userId: "ann" });
    const other = stage.open({ userId: "ann" });
    slow.socket.full = true;
    send(members("user", "ann"), "x");
    expect(slow.socket.done).toEqual(["terminate"]);
    expect(slow.connection.end).toMatchObject({ code: 1013, reason: "slow consumer" });
    expect(other.socket.sent).toEqual(["x"]);
  });
});

test("what comes in one turn is delivered in its order, whichever way it goes", async () => {
  const { socket } = stage.open({ connectionId: "c1", userId: "ann", groups: ["red"] });
  const ways: Target[] = [HUB, members("connection", "c1"), members("group", "red"), members("user", "ann")];
  const expected: string[] = [];
  for (let round = 0; round < 5; round++) {
    for (const [index, target] of ways.entries()) {
      expected.push(`${round} ${index}`);
      send(target, `${round} ${index}`, "somebody else");
    }
  }
  expect(socket.sent).toEqual(expected);
});

test("every way of sending is told to the pressure, so that a slow client is found", async () => {
  const slow = stage.open({ connectionId: "c1", userId: "ann", groups: ["red"] });
  const ways: Target[] = [HUB, members("connection", "c1"), members("group", "red"), members("user", "ann")];
  slow.socket.waitingBytes = 1001;
  for (const target of ways) send(target, "x".repeat(61));
  expect(slow.socket.done).toEqual([]);
  send(HUB, "xx");
  expect(slow.socket.done).toEqual(["terminate"]);
});

test("a fan-out is told with the number of those that it reaches", async () => {
  const told: (number | undefined)[][] = [];
  stage.pressure.moved = (...args) => void told.push(args);
  stage.open({ groups: ["red"] });
  stage.open();
  stage.open({ hub: "news" });
  send(HUB, "abc");
  send(members("group", "red"), "ab");
  expect(told).toEqual([
    [3, 2],
    [2, 1],
  ]);
});

describe("closing", () => {
  test("ends the connection with 1000 and the reason; of another hub, or unknown, nothing happens", async () => {
    const { socket, connection } = stage.open({ connectionId: "c1" });
    deliver.receive({ verb: "close", target: members("connection", "c1", "news"), reason: "no" });
    deliver.receive({ verb: "close", target: members("connection", "c2"), reason: "no" });
    expect(socket.done).toEqual([]);
    deliver.receive({ verb: "close", target: members("connection", "c1"), reason: "go" });
    deliver.receive({ verb: "close", target: members("connection", "c1"), reason: "again" });
    expect(socket.done).toEqual(["close 1000 go"]);
    expect(connection.end).toMatchObject({ code: 1000, reason: "go" });
  });

  test("a group or a user ends every member, though each one leaves the index as it ends", async () => {
    const clients = Array.from({ length: 5 }, () => stage.open({ userId: "ann", groups: ["red"] }));
    deliver.receive({ verb: "close", target: members("group", "red"), reason: "" });
    for (const { socket } of clients) expect(socket.done).toEqual(["close 1000 "]);
    const others = Array.from({ length: 5 }, () => stage.open({ userId: "ann" }));
    deliver.receive({ verb: "close", target: members("user", "ann"), reason: "" });
    for (const { socket } of others) expect(socket.done).toEqual(["close 1000 "]);
  });
});

describe("a question", () => {
  test("whether somebody exists is about live connections of that hub", async () => {
    const { leave } = stage.open({ connectionId: "c1", userId: "ann", groups: ["red"] });
    const exists = (target: Members): Promise<string> => deliver.answer({ verb: "exists", target });
    const all = (hub: string) =>
      Promise.all(
        [members("connection", "c1", hub), members("user", "ann", hub), members("group", "red", hub)].map(exists),
      );
    expect(await all("CHAT")).toEqual(["yes", "yes", "yes"]);
    expect(await all("news")).toEqual(["no", "no", "no"]);
    expect(await exists(members("user", "c1"))).toBe("no");
    await leave();
    expect(await all("chat")).toEqual(["no", "no", "no"]);
  });

  test("whether a user is in a group is yes as soon as one connection is", async () => {
    stage.open({ userId: "ann" });
    const ask = () => deliver.answer({ verb: "inGroup", target: members("user", "ann"), group: "red" });
    expect(await ask()).toBe("no");
    stage.open({ userId: "ann", groups: ["red"] });
    expect(await ask()).toBe("yes");
    expect(await deliver.answer({ verb: "inGroup", target: members("user", "ann", "news"), group: "red" })).toBe("no");
    expect(await deliver.answer({ verb: "inGroup", target: members("user", "ann"), group: "Red" })).toBe("no");
  });

  test("that joins has taken effect with its answer: the next message finds the new member", async () => {
    const { socket } = stage.open({ connectionId: "c1" });
    expect(
      await deliver.answer({ verb: "join", target: members("connection", "c1"), group: "red", afterRules: 0 }),
    ).toBe("yes");
    send(members("group", "red"), "x");
    expect(
      await deliver.answer({ verb: "leave", target: members("connection", "c1"), group: "red", afterRules: 0 }),
    ).toBe("yes");
    send(members("group", "red"), "y");
    expect(socket.sent).toEqual(["x"]);
  });

  test("that joins or leaves for nobody is answered no; to leave what one is not in is answered yes", async () => {
    stage.open({ connectionId: "c1" });
    for (const verb of ["join", "leave"] as const) {
      expect(await deliver.answer({ verb, target: members("connection", "c2"), group: "red", afterRules: 0 })).toBe(
        "no",
      );
      expect(
        await deliver.answer({ verb, target: members("connection", "c1", "news"), group: "red", afterRules: 0 }),
      ).toBe("no");
    }
    expect(
      await deliver.answer({ verb: "leave", target: members("connection", "c1"), group: "red", afterRules: 0 }),
    ).toBe("yes");
  });

  test("that would pass the bound is answered limit, of a user as soon as one connection is at it", async () => {
    const full = stage.open({ connectionId: "c1", userId: "ann", groups: ["a", "b"] });
    expect(await deliver.answer({ verb: "join", target: members("connection", "c1"), group: "c", afterRules: 0 })).toBe(
      "limit",
    );
    expect(await deliver.answer({ verb: "join", target: members("connection", "c1"), group: "a", afterRules: 0 })).toBe(
      "yes",
    );
    stage.open({ userId: "ann" });
    expect(await deliver.answer({ verb: "join", target: members("user", "ann"), group: "c", afterRules: 0 })).toBe(
      "limit",
    );
    expect([...(full.connection.groups ?? [])]).toEqual(["a", "b"]);
  });

  test("that leaves all groups takes a user's every connection out of every group", async () => {
    const clients = [stage.open({ userId: "ann", groups: ["a", "b"] }), stage.open({ userId: "ann", groups: ["b"] })];
    const bob = stage.open({ userId: "bob", groups: ["a"] });
    expect(await deliver.answer({ verb: "leave", target: members("user", "ann"), group: null, afterRules: 0 })).toBe(
      "yes",
    );
    for (const { connection, socket } of clients) {
      expect(connection.groups).toBeNull();
      expect([...socket.topics]).toEqual([topicOf(HUB, "raw")]);
    }
    expect([...(bob.connection.groups ?? [])]).toEqual(["a"]);
  });
});

test("a connection whose close waits behind a backlog is still there, and nothing that is asked of it throws", async () => {
  const { connection, socket } = stage.open({ connectionId: "c1", userId: "ann", groups: ["red"] });
  // Bun's socket says nothing before its backlog is gone.
  socket.close = () => {};
  deliver.receive({ verb: "close", target: members("connection", "c1"), reason: "go" });
  send(HUB, "x", "c1");
  void deliver.answer({ verb: "join", target: members("user", "ann"), group: "blue", afterRules: 0 });
  expect(connection.socket).toBeInstanceOf(RecordingSocket);
  expect(await deliver.answer({ verb: "exists", target: members("connection", "c1") })).toBe("yes");
});
