import { expect } from "bun:test";
import { NatsNode } from "../../test/support/nats-nodes.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { toPayload } from "../../test/support/payloads.ts";
import { needs } from "../../test/support/programs.ts";
import { memberSubject, nodeSubject } from "../nats/subjects.ts";
import { encodeEnvelope, encodeQuestion } from "../protocol/node-message.ts";

const { afterEach, beforeEach, describe, test } = needs("nats-server");

const HUB = { kind: "hub", hub: "chat" } as const;

let server: NatsServer;
let nodes: NatsNode[];

beforeEach(async () => {
  nodes = [];
  server = await NatsServer.start();
});
afterEach(async () => {
  for (const node of nodes) await node[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

async function two(): Promise<{ one: NatsNode; other: NatsNode }> {
  nodes = await NatsNode.start(server, "node-one", "node-two");
  const [one, other] = nodes;
  if (one === undefined || other === undefined) throw new Error("there are two");
  return { one, other };
}

async function send(from: NatsNode, text: string): Promise<void> {
  await from.broker.publish({ verb: "send", target: HUB, excluded: [], payload: toPayload(text) });
}

describe("bytes of others", () => {
  test("that are no message are dropped, and told of once in ten seconds with their number", async () => {
    const { one, other } = await two();
    await other.broker.join(HUB);
    const { connection } = one.link;
    const subjects = [memberSubject("t", HUB), nodeSubject("t", "node-two")];
    const junk = ["", "x", Uint8Array.of(1, 1, 0, 0, 0, 99), Uint8Array.of(2, 1, 0, 0, 0, 0), Uint8Array.of(255, 1, 2)];
    for (const subject of subjects) for (const bytes of junk) connection?.publish(subject, bytes);
    connection?.publish("t.beat", "nonsense");
    connection?.publish("t.beat", "hello a.b");
    await send(one, "good");
    await other.hears(1);
    expect(other.texts).toEqual(["good"]);
    expect(other.dropped.map(({ count }) => count)).toEqual([1]);
    await other.clock.advance(11_000);
    expect(other.dropped.map(({ count }) => count)).toEqual([1, 2 * junk.length + 1]);
    expect(other.faults).toEqual([]);
  });

  test("that are a question without a place for the answer are answered to nobody, and disturb nothing", async () => {
    const { one, other } = await two();
    const question = encodeQuestion({ verb: "exists", target: { kind: "user", hub: HUB.hub, name: "ada" } });
    const unhandled: unknown[] = [];
    const note = (error: unknown) => void unhandled.push(error);
    process.on("unhandledRejection", note);
    try {
      await other.broker.join(HUB);
      one.link.connection?.publish(nodeSubject("t", "node-two"), question);
      await send(one, "good");
      await other.hears(1);
      expect([unhandled, other.faults]).toEqual([[], []]);
    } finally {
      process.off("unhandledRejection", note);
    }
  });

  test("with an invalid name are dropped and logged, and nothing else is disturbed", async () => {
    const { one, other } = await two();
    await other.broker.join(HUB);
    const { connection } = one.link;
    const named = (name: string) => ({ kind: "user", hub: HUB.hub, name }) as const;
    const bad = [
      encodeEnvelope({ verb: "send", target: { kind: "hub", hub: "no hub" }, excluded: [], payload: toPayload("bad") }),
      encodeEnvelope({ verb: "send", target: named("a\r\nX: y"), excluded: [], payload: toPayload("bad") }),
      encodeEnvelope({ verb: "close", target: named(" a"), reason: "" }),
      encodeEnvelope({ verb: "close", target: named("a"), reason: "r".repeat(124) }),
      encodeQuestion({ verb: "join", target: named("a"), group: "..", afterRules: 0 }),
    ];
    for (const bytes of bad) connection?.publish(memberSubject("t", HUB), bytes);
    await send(one, "good");
    await other.hears(1);
    expect(other.texts).toEqual(["good"]);
    await other.clock.advance(11_000);
    const reason = "another version wrote it, or a name in it is invalid";
    expect(other.dropped).toEqual([
      { count: 1, reason },
      { count: bad.length - 1, reason },
    ]);
    await send(one, "good again");
    await other.hears(2);
    expect(other.texts).toEqual(["good", "good again"]);
    expect(other.faults).toEqual([]);
  });
});
