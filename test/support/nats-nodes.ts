import { setTimeout as sleep } from "node:timers/promises";
import { NatsBroker } from "../../src/broker/nats.ts";
import type { BrokerHandler, Verdict } from "../../src/core/ports/broker.ts";
import { NatsLink } from "../../src/nats/link.ts";
import type { Envelope, Question } from "../../src/protocol/envelope.ts";
import { NEWEST_FORM } from "../../src/protocol/forms.ts";
import { until } from "./deadline.ts";
import { FakeClock } from "./fake-clock.ts";
import type { NatsServer } from "./nats-server.ts";
import { hearing, ignoreNotices } from "./notices.ts";

const OPTIONS = { user: null, password: null, token: null, credsFile: null, tls: null };

/** How long a node listens for the others before it is ready. */
const LISTEN_MS = 1200;
const ANSWERS_MS = 20;

/** A broker on NATS with a connection, a clock and a handler of its own, which writes down what it gets. */
export class NatsNode implements BrokerHandler, AsyncDisposable {
  readonly id: string;
  readonly clock = new FakeClock();
  readonly link: NatsLink;
  readonly broker: NatsBroker;
  readonly heard: (Envelope | Question)[] = [];
  readonly faults: unknown[] = [];
  readonly awaited: (readonly string[])[] = [];
  readonly dropped: { count: number; reason: string }[] = [];
  /** What it says to questions; null: nothing, ever. */
  says: Verdict | Error | null = "yes";
  isMember = true;
  /** The form that all nodes read. */
  form = NEWEST_FORM;

  constructor(server: NatsServer, id: string) {
    this.id = id;
    this.link = NatsLink.start({ ...OPTIONS, servers: [server.url] }, ignoreNotices);
    this.broker = new NatsBroker({
      link: this.link,
      prefix: "t",
      nodeId: id,
      nodeIdBefore: null,
      handler: this,
      clock: this.clock,
      form: () => this.form,
      report: hearing({
        fault: ({ error }) => void this.faults.push(error),
        "nodes-awaited": ({ nodeIds }) => void this.awaited.push(nodeIds),
        "node-messages-dropped": ({ count, reason }) => void this.dropped.push({ count, reason }),
      }),
      isMember: () => this.isMember,
    });
  }

  /** Starts nodes and waits until each is ready and knows all others. */
  static async start(server: NatsServer, ...ids: readonly string[]): Promise<NatsNode[]> {
    const nodes = ids.map((id) => new NatsNode(server, id));
    for (const node of nodes) node.broker.start();
    for (const node of nodes) await node.ready();
    // Everybody's hello has been answered by a beat behind this.
    for (const node of nodes) await node.link.connection?.flush();
    for (const node of nodes) await node.link.connection?.flush();
    return nodes;
  }

  /** Waits for the link and lets the time pass in which the others are heard. */
  async ready(): Promise<void> {
    await until(() => this.link.isUp, `the link of ${this.id}`);
    const isReady = async () => {
      if (this.broker.isReady) return true;
      await this.clock.advance(LISTEN_MS);
      // The others' answers take a moment of real time.
      await sleep(ANSWERS_MS);
      return this.broker.isReady;
    };
    await until(isReady, `${this.id} to be ready`);
  }

  receive(envelope: Envelope): void {
    this.heard.push(envelope);
  }

  async answer(question: Question): Promise<Verdict> {
    this.heard.push(question);
    if (this.says instanceof Error) throw this.says;
    return this.says ?? (await new Promise<never>(() => {}));
  }

  /** Waits until so many envelopes and questions have come. */
  async hears(count: number): Promise<void> {
    await until(() => this.heard.length >= count, `${this.id} to hear ${count}`);
  }

  /** Texts of what was sent to it, in order. */
  get texts(): unknown[] {
    return this.heard.map((each) => ("payload" in each ? each.payload.data : each.verb));
  }

  /** It is gone without a word. */
  async crash(): Promise<void> {
    await this.link.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.broker.stop();
    await this.link.stop();
  }
}
