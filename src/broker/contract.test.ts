import { describe, expect, test } from "bun:test";
import { until } from "../../test/support/deadline.ts";
import { NatsNode } from "../../test/support/nats-nodes.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { toPayload } from "../../test/support/payloads.ts";
import { needs } from "../../test/support/programs.ts";
import type { Broker, BrokerHandler, Verdict } from "../core/ports/broker.ts";
import type { Envelope, Members, Question, Target } from "../protocol/envelope.ts";
import type { Payload } from "../protocol/payload.ts";
import { MemoryBroker } from "./memory.ts";

const nats = needs("nats-server");

/** A broker whose only node writes down what it gets. */
interface Place extends AsyncDisposable {
  readonly broker: Broker;
  readonly heard: (Envelope | Question)[];
  /** What it says to questions. */
  says: Verdict | Error;
}

let server: NatsServer;
let nodeCount = 0;
nats.beforeAll(async () => {
  server = await NatsServer.start();
});
nats.afterAll(() => server[Symbol.asyncDispose]());

function memoryPlace(): Place {
  const heard: (Envelope | Question)[] = [];
  const handler: BrokerHandler = {
    receive: (envelope) => void heard.push(envelope),
    answer: async (question) => {
      heard.push(question);
      if (place.says instanceof Error) throw place.says;
      return place.says;
    },
  };
  const place: Place = { broker: new MemoryBroker(handler), heard, says: "yes", [Symbol.asyncDispose]: async () => {} };
  return place;
}

async function natsPlace(): Promise<Place> {
  const [node] = await NatsNode.start(server, `node-${++nodeCount}`);
  if (node === undefined) throw new Error("there is one");
  return {
    broker: node.broker,
    heard: node.heard,
    get says() {
      return node.says ?? "no";
    },
    set says(answer) {
      node.says = answer;
    },
    [Symbol.asyncDispose]: () => node[Symbol.asyncDispose](),
  };
}

const ADA: Members = { kind: "user", hub: "chat", name: "ada" };

function message(data: string | Uint8Array, target: Target = ADA): Envelope {
  return { verb: "send", target, excluded: ["c1"], payload: toPayload(data) };
}

/** What every broker keeps to. Source: `Broker` in core/ports/broker.ts. */
describe.each([
  ["memory", async () => memoryPlace(), test],
  ["NATS", natsPlace, nats.test],
] as const)("the broker over %s", (_name, make, test) => {
  /** A place with a member of everything that these tests send to. */
  async function open(...targets: readonly Target[]): Promise<Place> {
    const place = await make();
    for (const target of [ADA, ...targets]) await place.broker.join(target);
    return place;
  }

  async function hears(place: Place, count: number): Promise<void> {
    await until(() => place.heard.length >= count, `${count} to be heard`);
  }

  test("brings an envelope as it was published, once", async () => {
    await using place = await open();
    expect(await place.broker.publish(message("hello"))).toBe("sent");
    // What is asked behind it is answered behind it, so nothing more is on its way then.
    await place.broker.ask({ verb: "exists", target: ADA }, "first-yes");
    expect(place.heard).toEqual([message("hello"), { verb: "exists", target: ADA }]);
  });

  test("keeps the order of one publisher", async () => {
    await using place = await open();
    const texts = Array.from({ length: 100 }, (_, index) => String(index));
    await Promise.all(texts.map((text) => place.broker.publish(message(text))));
    await hears(place, 100);
    expect(place.heard.map((each) => "payload" in each && each.payload.data)).toEqual(texts);
  });

  test("answers a question after what was published before it was received", async () => {
    await using place = await open();
    void place.broker.publish(message("first"));
    await place.broker.ask({ verb: "exists", target: ADA }, "first-yes");
    expect(place.heard.map(({ verb }) => verb)).toEqual(["send", "exists"]);
  });

  test("carries text as text and bytes as the same bytes", async () => {
    const hub: Target = { kind: "hub", hub: "Chat" };
    await using place = await open(hub);
    const sent = ["", "grüße \u0000", "\ufeffwith a mark", new Uint8Array(), Uint8Array.of(0, 255)].map(toPayload);
    for (const payload of sent) await place.broker.publish({ verb: "send", target: hub, excluded: [], payload });
    await hears(place, sent.length);
    // As arrays: bytes may come as a view of a longer buffer.
    const plain = ({ type, data }: Payload) => ({ type, data: typeof data === "string" ? data : [...data] });
    expect(place.heard.map((each) => "payload" in each && plain(each.payload))).toEqual(sent.map(plain));
  });

  test("keeps names as they are, with any characters", async () => {
    const target: Members = { kind: "group", hub: "a.b,[c]", name: "größe > * . / %2F" };
    await using place = await open(target);
    await place.broker.publish({ verb: "close", target, reason: "tschüß 🙂" });
    await place.broker.ask({ verb: "leave", target, group: null, afterRules: 7 }, "every-node");
    expect(place.heard).toEqual([
      { verb: "close", target, reason: "tschüß 🙂" },
      { verb: "leave", target, group: null, afterRules: 7 },
    ]);
  });

  test("rejects if a bug kept a question from being answered", async () => {
    await using place = await open();
    place.says = new Error("a bug");
    await expect(place.broker.ask({ verb: "exists", target: ADA }, "first-yes")).rejects.toThrow();
    await expect(place.broker.ask({ verb: "exists", target: ADA }, "every-node")).rejects.toThrow();
  });

  test("may be joined and left in any number, and says nothing of it", async () => {
    await using place = await open();
    for (let time = 0; time < 3; time++) await place.broker.join({ kind: "group", hub: "chat", name: "g" });
    for (let time = 0; time < 3; time++) place.broker.leave({ kind: "group", hub: "chat", name: "g" });
    place.broker.leave({ kind: "group", hub: "chat", name: "never joined" });
    await place.broker.join({ kind: "connection", hub: "chat", name: "c" });
    place.broker.leave({ kind: "connection", hub: "chat", name: "c" });
    expect(await place.broker.publish(message("still there"))).toBe("sent");
    await hears(place, 1);
  });

  for (const answer of ["yes", "no", "limit"] as const) {
    for (const scope of ["first-yes", "every-node"] as const) {
      test(`a single node's ${answer} is the answer to a question for ${scope}`, async () => {
        await using place = await open();
        place.says = answer;
        expect(await place.broker.ask({ verb: "join", target: ADA, group: "g", afterRules: 0 }, scope)).toBe(answer);
      });
    }
  }
});
