import { expect } from "bun:test";
import { NatsNode } from "../../test/support/nats-nodes.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { toPayload } from "../../test/support/payloads.ts";
import { needs } from "../../test/support/programs.ts";
import { memberSubject, nodeSubject } from "../nats/subjects.ts";
import { encodeEnvelope, encodeQuestion } from "../protocol/node-message.ts";

const { afterEach, beforeEach, test } = needs("nats-server");

/** Messages between nodes in the form that all nodes read, and what becomes of newer ones. */

const HUB = { kind: "hub", hub: "chat" } as const;
const SOMEBODY = { kind: "user", hub: "chat", name: "ann" } as const;

let server: NatsServer;
let one: NatsNode;
let other: NatsNode;

beforeEach(async () => {
  server = await NatsServer.start();
  const [first, second] = await NatsNode.start(server, "node-one", "node-two");
  if (first === undefined || second === undefined) throw new Error("there are two");
  [one, other] = [first, second];
});
afterEach(async () => {
  for (const node of [one, other]) await node[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

test("envelopes and questions are written in the form that all nodes read, and each form is read", async () => {
  const forms: (number | undefined)[] = [];
  for (const subject of [memberSubject("t", HUB), memberSubject("t", SOMEBODY)]) {
    other.link.connection?.subscribe(subject, { callback: (_error, { data }) => void forms.push(data[0]) });
  }
  await other.broker.join(HUB);
  await other.broker.join(SOMEBODY);
  for (const form of [1, 2]) {
    one.form = form;
    await one.broker.publish({ verb: "send", target: HUB, excluded: [], payload: toPayload(`form ${form}`) });
    expect(await one.broker.ask({ verb: "exists", target: SOMEBODY }, "first-yes")).toBe("yes");
  }
  expect(forms).toEqual([1, 1, 2, 2]);
  expect(other.texts).toEqual(["form 1", "exists", "form 2", "exists"]);
});

test("what a newer version alone can read is dropped and told of, and the next message is taken", async () => {
  await other.broker.join(HUB);
  const { connection } = one.link;
  connection?.publish(
    memberSubject("t", HUB),
    encodeEnvelope({ verb: "send", target: HUB, excluded: [], payload: toPayload("new") }, 3),
  );
  await one.broker.publish({ verb: "send", target: HUB, excluded: [], payload: toPayload("known") });
  await other.hears(1);
  expect(other.texts).toEqual(["known"]);
  expect(other.dropped).toEqual([{ count: 1, reason: "it is in form 3 of a newer version" }]);
  // A question that cannot be read is not answered: who asked says `unavailable`, and nothing wrong.
  const question = encodeQuestion({ verb: "exists", target: SOMEBODY }, 3);
  const asked = connection?.request(nodeSubject("t", "node-two"), question, { timeout: 100 });
  expect(
    await asked?.then(
      () => "answered",
      () => "silence",
    ),
  ).toBe("silence");
});

test("a payload of a type that a newer version alone knows is dropped and told of by its type", async () => {
  await other.broker.join(HUB);
  const typed = Buffer.from(encodeEnvelope({ verb: "send", target: HUB, excluded: [], payload: toPayload("{}") }, 2));
  const known = Buffer.from('"type":"text"');
  expect(typed.includes(known)).toBe(true);
  Buffer.from('"type":"json"').copy(typed, typed.indexOf(known));
  one.link.connection?.publish(memberSubject("t", HUB), typed);
  await one.broker.publish({ verb: "send", target: HUB, excluded: [], payload: toPayload("known") });
  await other.hears(1);
  expect(other.texts).toEqual(["known"]);
  expect(other.dropped).toEqual([
    { count: 1, reason: "its payload is of type json, which only a newer version knows" },
  ]);
  expect(other.faults).toEqual([]);
});

test("a node that speaks a newer form is known, and that is told of", async () => {
  one.link.connection?.publish("t.beat", "3 beat node-new with what comes later");
  await one.link.connection?.flush();
  await other.link.connection?.flush();
  expect(other.dropped).toEqual([
    { count: 1, reason: "what a node of a newer version says of itself was read in part" },
  ]);
  // It must be asked where every node is.
  expect(await other.broker.ask({ verb: "join", target: SOMEBODY, group: "g", afterRules: 0 }, "every-node")).toBe(
    "unavailable",
  );
});
