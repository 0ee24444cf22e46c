import { describe, expect, test } from "bun:test";
import { type Client, CoreStage } from "../../test/support/core-stage.ts";
import type { Members } from "../protocol/envelope.ts";
import { Deliver } from "./deliver.ts";
import type { Frame } from "./ports.ts";

/** A fan-out over recording sockets: to those that subscribe at the moment, as Bun does. */
function stage(): { core: CoreStage; deliver: Deliver; open: CoreStage["open"]; published: number[] } {
  const core = new CoreStage();
  const clients: Client[] = [];
  const published: number[] = [];
  const deliver = new Deliver({
    registry: core.registry,
    membership: core.membership,
    pressure: core.pressure,
    close: (connection, cause) => core.lifecycle.close(connection, cause),
    fanout: {
      publish(topic, frame) {
        const subscribed = clients.filter(({ socket }) => socket.topics.has(topic));
        for (const { socket } of subscribed) socket.send(frame);
        published.push(subscribed.length);
      },
    },
  });
  const open: CoreStage["open"] = (over) => {
    const client = core.open(over);
    clients.push(client);
    return client;
  };
  return { core, deliver, open, published };
}

const members = (kind: Members["kind"], name: string, hub = "chat"): Members => ({ kind, hub, name });
const sent = (...clients: Client[]): Frame[][] => clients.map(({ socket }) => socket.sent);

describe("send", () => {
  test("to a hub reaches all its connections, whatever the case of its name, and those of no other hub", () => {
    const { deliver, open, published } = stage();
    const [one, two, other] = [open(), open(), open({ hub: "games" })];
    deliver.receive({ verb: "send", target: { kind: "hub", hub: "CHAT" }, excluded: [], frame: "hi" });
    expect(sent(one, two, other)).toEqual([["hi"], ["hi"], []]);
    expect(published).toEqual([2]);
  });

  test("to a group leaves out who is excluded, who still gets the next message", () => {
    const { deliver, open } = stage();
    const [one, two] = [open({ groups: ["g"] }), open({ groups: ["g"] })];
    const target = members("group", "g");
    const excluded = [two.connection.connectionId, two.connection.connectionId, "nobody"];
    deliver.receive({ verb: "send", target, excluded, frame: "first" });
    deliver.receive({ verb: "send", target, excluded: [], frame: "second" });
    expect(sent(one, two)).toEqual([["first", "second"], ["second"]]);
  });

  test("excluding a connection that is not in the group, or of another hub, makes nobody a member", () => {
    const { deliver, open } = stage();
    const [member, stranger, foreign] = [open({ groups: ["g"] }), open(), open({ hub: "games", groups: ["g"] })];
    const excluded = [stranger.connection.connectionId, foreign.connection.connectionId];
    deliver.receive({ verb: "send", target: members("group", "g"), excluded, frame: "first" });
    deliver.receive({ verb: "send", target: members("group", "g"), excluded: [], frame: "second" });
    expect(sent(member, stranger, foreign)).toEqual([["first", "second"], [], []]);
  });

  test("to a user reaches each of the user's connections; to a connection, that one in its own hub only", () => {
    const { deliver, open } = stage();
    const [one, two, other] = [open({ userId: "ada" }), open({ userId: "ada" }), open({ userId: "Ada" })];
    const { connectionId } = one.connection;
    deliver.receive({ verb: "send", target: members("user", "ada"), excluded: [], frame: "to ada" });
    deliver.receive({ verb: "send", target: members("connection", connectionId), excluded: [], frame: "to one" });
    deliver.receive({ verb: "send", target: members("connection", connectionId, "games"), excluded: [], frame: "no" });
    expect(sent(one, two, other)).toEqual([["to ada", "to one"], ["to ada"], []]);
  });

  test("to a client whose outbox is full cuts it, and the user's other connection gets the message", () => {
    const { deliver, open } = stage();
    const [slow, quick] = [open({ userId: "ada" }), open({ userId: "ada" })];
    slow.socket.full = true;
    deliver.receive({ verb: "send", target: members("user", "ada"), excluded: [], frame: "hi" });
    expect(slow.connection.end).toEqual({ code: 1013, reason: "slow consumer" });
    expect(sent(quick)).toEqual([["hi"]]);
  });
});

test("close ends the connection with 1000 and the reason; in another hub there is none", () => {
  const { deliver, open } = stage();
  const { connection, socket } = open();
  deliver.receive({ verb: "close", target: members("connection", connection.connectionId, "games"), reason: "no" });
  expect(connection.end).toBeNull();
  deliver.receive({ verb: "close", target: members("connection", connection.connectionId), reason: "enough" });
  expect(socket.done).toEqual(["close 1000 enough"]);
  expect(connection.end).toEqual({ code: 1000, reason: "enough" });
});

describe("questions", () => {
  test("what exists is what is live: connection, user and group, in their hub", () => {
    const { deliver, open } = stage();
    const { connection, socket } = open({ userId: "ada", groups: ["g"] });
    const asked = [members("connection", connection.connectionId), members("user", "ada"), members("group", "g")];
    const exists = (target: Members) => deliver.answer({ verb: "exists", target });
    expect(asked.map(exists)).toEqual(["yes", "yes", "yes"]);
    expect(asked.map((target) => exists({ ...target, hub: "games" }))).toEqual(["no", "no", "no"]);
    socket.leave({ code: 1000, reason: "" });
    expect(asked.map(exists)).toEqual(["no", "no", "no"]);
  });

  test("a join has taken effect when it is answered, for every connection of the user", () => {
    const { core, deliver, open } = stage();
    const [one, two] = [open({ userId: "ada" }), open({ userId: "ada" })];
    const target = members("user", "ada");
    expect(deliver.answer({ verb: "inGroup", target, group: "g" })).toBe("no");
    expect(deliver.answer({ verb: "join", target, group: "g" })).toBe("yes");
    expect([...core.registry.group("chat", "g")]).toEqual([one.connection, two.connection]);
    expect(deliver.answer({ verb: "inGroup", target, group: "g" })).toBe("yes");
    expect(deliver.answer({ verb: "leave", target, group: "g" })).toBe("yes");
    expect(core.registry.group("chat", "g").size).toBe(0);
  });

  test("a change for nobody is no, and one past the limit says so", () => {
    const { deliver, open } = stage();
    open({ userId: "ada", groups: ["a", "b", "c"] });
    expect(deliver.answer({ verb: "join", target: members("user", "bob"), group: "g" })).toBe("no");
    expect(deliver.answer({ verb: "leave", target: members("user", "bob"), group: null })).toBe("no");
    expect(deliver.answer({ verb: "join", target: members("user", "ada"), group: "g" })).toBe("limit");
  });
});
