import { describe, expect, test } from "bun:test";
import type { Answer, Broker, BrokerHandler } from "../core/ports.ts";
import type { Envelope, Members, Question } from "../protocol/envelope.ts";
import { MemoryBroker } from "./memory.ts";

/** Makes a broker whose only node is the handler. */
type BrokerFactory = (handler: BrokerHandler) => Broker;

/** What every broker keeps to; each implementation runs it. Source: `Broker` in core/ports.ts. */
function brokerContract(name: string, make: BrokerFactory): void {
  const ada: Members = { kind: "user", hub: "chat", name: "ada" };
  const message = (frame: string): Envelope => ({ verb: "send", target: ada, excluded: ["c1"], frame });

  function node(answer: Answer = "yes"): { broker: Broker; heard: (Envelope | Question)[] } {
    const heard: (Envelope | Question)[] = [];
    const handler: BrokerHandler = {
      receive: (envelope) => void heard.push(envelope),
      answer: async (question) => {
        heard.push(question);
        return answer;
      },
    };
    return { broker: make(handler), heard };
  }

  describe(`the ${name} broker`, () => {
    test("brings an envelope as it was published, once", async () => {
      const { broker, heard } = node();
      await broker.publish(message("hello"));
      expect(heard).toEqual([message("hello")]);
    });

    test("keeps the order of one publisher", async () => {
      const { broker, heard } = node();
      const frames = Array.from({ length: 100 }, (_, index) => String(index));
      await Promise.all(frames.map((frame) => broker.publish(message(frame))));
      expect(heard.map((each) => "frame" in each && each.frame)).toEqual(frames);
    });

    test("answers a question after what was published before it was received", async () => {
      const { broker, heard } = node();
      void broker.publish(message("first"));
      await broker.ask({ verb: "exists", target: ada }, "first-yes");
      expect(heard.map(({ verb }) => verb)).toEqual(["send", "exists"]);
    });

    test("carries text as text and bytes as the same bytes", async () => {
      const { broker, heard } = node();
      for (const frame of ["", "grüße \u0000", new Uint8Array(), Uint8Array.of(0, 255)]) {
        await broker.publish({ verb: "send", target: { kind: "hub", hub: "Chat" }, excluded: [], frame });
      }
      expect(heard.map((each) => "frame" in each && each.frame)).toEqual([
        "",
        "grüße \u0000",
        new Uint8Array(),
        Uint8Array.of(0, 255),
      ]);
    });

    test("keeps names as they are, whatever they hold", async () => {
      const { broker, heard } = node();
      const target: Members = { kind: "group", hub: "a.b,[c]", name: "größe > * . / %2F" };
      await broker.publish({ verb: "close", target, reason: "tschüß 🙂" });
      await broker.ask({ verb: "leave", target, group: null, afterRules: 0 }, "every-node");
      expect(heard).toEqual([
        { verb: "close", target, reason: "tschüß 🙂" },
        { verb: "leave", target, group: null, afterRules: 0 },
      ]);
    });

    test("rejects where a question could not be answered, and throws at nobody", async () => {
      const fault = new Error("a bug of ours");
      const broker = make({
        receive: () => {},
        answer: async () => {
          throw fault;
        },
      });
      const asking = broker.ask({ verb: "exists", target: ada }, "first-yes");
      await expect(asking).rejects.toThrow();
    });

    for (const answer of ["yes", "no", "limit"] as const) {
      for (const scope of ["first-yes", "every-node"] as const) {
        test(`a single node's ${answer} is the answer to a question for ${scope}`, async () => {
          const { broker } = node(answer);
          expect(await broker.ask({ verb: "join", target: ada, group: "g", afterRules: 0 }, scope)).toBe(answer);
        });
      }
    }
  });
}

brokerContract("memory", (handler) => new MemoryBroker(handler));
