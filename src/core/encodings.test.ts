import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { RecordingFanout } from "../../test/support/api-stage.ts";
import { CoreStage } from "../../test/support/core-stage.ts";
import { toPayload } from "../../test/support/payloads.ts";
import { answer, notSent } from "../../test/support/scripted-upstream.ts";
import type { ClientProtocol, Encoding } from "../protocol/client-protocol.ts";
import type { Members, Target } from "../protocol/envelope.ts";
import { Deliver } from "./deliver.ts";
import { topicOf } from "./topic.ts";

let stage: CoreStage;
let fanout: RecordingFanout;
let deliver: Deliver;

beforeEach(() => {
  stage = new CoreStage();
  fanout = new RecordingFanout(stage);
  const close = stage.lifecycle.close.bind(stage.lifecycle);
  deliver = new Deliver({ ...stage, fanout, close, rulesReached: () => null });
});
afterEach(() => stage.stop());

const HUB: Target = { kind: "hub", hub: "chat" };
const members = (kind: Members["kind"], name: string): Members => ({ kind, hub: "chat", name });

function send(target: Target, text: string, ...excluded: string[]): void {
  deliver.receive({ verb: "send", target, payload: toPayload(text), excluded });
}

describe("connections of several encodings", () => {
  /** A protocol that this version does not have: it writes text in capitals, and closes with a reason of its own. */
  const LOUD = "loud" as Encoding;

  beforeEach(() => {
    const loud: ClientProtocol = {
      decode: (_frame, bytes) => ({ payload: bytes.toReversed(), payloadType: "binary" }),
      encode: ({ data }) => String(data).toUpperCase(),
      failed: () => ({ code: 4000, reason: "loud", category: "upstream-unavailable" }),
    };
    Object.assign(stage.protocols, { [LOUD]: loud });
  });

  const open = (connectionId: string, encoding: Encoding, first?: string) =>
    stage.open({
      connectionId,
      userId: connectionId,
      groups: ["red"],
      rare: { encoding },
      ...(first === undefined ? {} : { first }),
    });

  test("get a publication in their own, once each", () => {
    const [plain, loud] = [open("c1", "raw"), open("c2", LOUD)];
    send(members("group", "red"), "to the group");
    send(HUB, "to the hub");
    expect(plain.socket.sent).toEqual(["to the group", "to the hub"]);
    expect(loud.socket.sent).toEqual(["TO THE GROUP", "TO THE HUB"]);
    expect(fanout.published).toHaveLength(4);
  });

  test("cost no publication in an encoding that nobody in the hub has here", async () => {
    const [plain, loud] = [open("c1", "raw"), open("c2", LOUD)];
    stage.open({ hub: "news", rare: { encoding: LOUD } });
    await loud.leave();
    send(HUB, "one");
    expect(fanout.published).toEqual([{ topic: topicOf(HUB, "raw"), frame: "one" }]);
    await plain.leave();
    send(HUB, "two");
    expect(fanout.published).toHaveLength(1);
  });

  test("that are excluded keep their topics", () => {
    const [plain, loud] = [open("c1", "raw"), open("c2", LOUD)];
    const before = [plain, loud].map(({ socket }) => [...socket.topics].sort());
    send(HUB, "x", "c1", "c2");
    expect([plain, loud].map(({ socket }) => [...socket.topics].sort())).toEqual(before);
    expect([plain, loud].map(({ socket }) => socket.sent)).toEqual([[], []]);
  });

  test("get in it what is sent to them alone, what waited for them, and what the upstream answers", async () => {
    const loud = open("c2", LOUD, "first");
    send(members("user", "c2"), "to the user");
    stage.upstream.script = () => answer(200, [], "reply");
    await loud.send("question");
    expect(loud.socket.sent).toEqual(["FIRST", "TO THE USER", "REPLY"]);
  });

  test("say in it what they ask, and have its consequence of a failure", async () => {
    const loud = open("c2", LOUD);
    stage.upstream.script = notSent;
    await loud.send("abc");
    const [event] = stage.upstream.calls.map((call) => call.event);
    expect(event).toMatchObject({ payload: new TextEncoder().encode("cba"), payloadType: "binary" });
    expect(loud.socket.done).toEqual(["close 4000 loud"]);
  });
});
