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
      answer: (question) => {
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

    for (const answer of ["yes", "no", "limit"] as const) {
      for (const scope of ["first-yes", "every-node"] as const) {
        test(`a single node's ${answer} is the answer to a question for ${scope}`, async () => {
          const { broker } = node(answer);
          expect(await broker.ask({ verb: "join", target: ada, group: "g" }, scope)).toBe(answer);
        });
      }
    }
  });
}

brokerContract("memory", (handler) => new MemoryBroker(handler));
