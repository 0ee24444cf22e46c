import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { encodeQuestion } from "../../src/protocol/node-message.ts";
import { NatsServer } from "../support/nats-server.ts";
import { needs } from "../support/programs.ts";
import { acceptAs, acknowledge, type Exchange, RawBackend } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { IS_LONG, inForm, recordFigure } from "./support/form.ts";
import { ProbedGateway } from "./support/probed-gateway.ts";
import { HOSTILE_ANSWERS, type HostileAnswer } from "./text/hostile-answers.ts";
import { HOSTILE_NODE_MESSAGES, type HostileNodeMessages } from "./text/hostile-node-messages.ts";
import { HOSTILE_REQUESTS } from "./text/hostile-requests.ts";

/**
 * Text that is expensive to read, from clients, upstreams and NATS: four times as much of it costs about four times the CPU.
 *
 * The long form measures each at two lengths; the short one sends each once, and the gateway must live and serve.
 */
setDefaultTimeout(10 * 60_000);

const PATH = "/ws/client/hubs/chat";

/** As many as there may be, and most of them are compared to their last segment with a path of so many. */
const PATHS = [
  { pattern: "/own/{id}", hub: "chat" },
  ...Array.from({ length: 999 }, (_, index) => ({ pattern: `${"/a".repeat(32)}/${index}`, hub: "chat" })),
];

/** Bun refuses a request's head of more than 16,384 bytes. An upstream's may be 65,536 bytes long. */
const REQUEST_BYTES = { short: 4096, long: 16_384 };
const OTHER_BYTES = { short: 16_384, long: 65_536 };

/** Linear work gives 4, quadratic 16. What is the same at both lengths (the connection, its events) only makes it less. */
const MAX_RATIO = 8;

const WARM_UP = inForm({ short: 0, long: 20 });
const COUNT = inForm({ short: 1, long: 40 });
/** Of so many measurements of one length the least counts: what else the machine does can only add to them. */
const ROUNDS = 3;

let backend: RawBackend;
let gateway: ProbedGateway;
let answerOf: ((exchange: Exchange) => void) | null = null;

const told = (event: HostileAnswer["event"], otherwise: (exchange: Exchange) => void | Promise<void>) => {
  return (exchange: Exchange) => (answerOf !== null && asked === event ? answerOf(exchange) : otherwise(exchange));
};
let asked: HostileAnswer["event"] = "connect";

beforeAll(async () => {
  backend = await RawBackend.start();
  backend.onConnect = told("connect", acceptAs("ann"));
  backend.onMessage = told("message", acknowledge);
  backend.onDisconnect = told("disconnect", acknowledge);
  gateway = await ProbedGateway.start({
    upstreams: [{ urlTemplate: `${backend.url}/{event}`, breaker: { failureRatio: 0 } }],
    trustedProxies: ["127.0.0.1"],
    clientCertHeader: "X-Client-Cert",
    paths: PATHS,
  });
});
afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await backend?.stop();
});

/** Where texts come from: their two lengths, the gateway that reads them, and what was measured. */
interface Source {
  readonly name: string;
  readonly sizes: { readonly short: number; readonly long: number };
  readonly gateway: () => ProbedGateway;
  readonly rows: { readonly what: string; readonly ratio: number; readonly costUs: number }[];
}

/** One life of a well-behaved client. */
async function expectServed(): Promise<void> {
  using client = await RawWebSocket.open({ port: gateway.port, path: PATH });
  client.close(1000);
  expect((await client.closed()).code).toBe(1000);
}

async function cpuMsOf(on: ProbedGateway, work: () => Promise<void>): Promise<number> {
  const beforeMs = await on.cpuMs();
  await work();
  return (await on.cpuMs()) - beforeMs;
}

/** Runs it often at both lengths, and holds the ratio in the long form. `once` takes a length and how often it does it. */
async function holdRatio(source: Source, what: string, once: Once): Promise<void> {
  const { sizes } = source;
  if (!IS_LONG) {
    await once(sizes.long, COUNT);
    return;
  }
  const costsMs = { short: Number.POSITIVE_INFINITY, long: Number.POSITIVE_INFINITY };
  await once(sizes.short, WARM_UP);
  for (let round = 0; round < ROUNDS; round++) {
    for (const length of ["short", "long"] as const) {
      costsMs[length] = Math.min(costsMs[length], await cpuMsOf(source.gateway(), () => once(sizes[length], COUNT)));
    }
  }
  const ratio = costsMs.long / costsMs.short;
  source.rows.push({ what, ratio, costUs: (1000 * costsMs.long) / COUNT });
  expect(ratio).toBeLessThan(MAX_RATIO);
}

/** One row for all texts of a source: the highest ratio and the highest cost, and whose they are. */
function recordSource({ name, sizes, rows }: Source): void {
  const [steepest] = rows.toSorted((one, other) => other.ratio - one.ratio);
  const [dearest] = rows.toSorted((one, other) => other.costUs - one.costUs);
  if (steepest === undefined || dearest === undefined) return;
  recordFigure(
    `CPU of ${rows.length} ${name} that are expensive to read, ${sizes.long / 1024} KiB against ${sizes.short / 1024} KiB of each`,
    `at most × ${steepest.ratio.toFixed(1)} (${steepest.what}); at most ${(dearest.costUs / 1000).toFixed(1)} ms (${dearest.what})`,
    `× ${MAX_RATIO}`,
  );
}

type Once = (byteCount: number, count: number) => Promise<void>;

describe("requests", () => {
  const source: Source = { name: "requests", sizes: REQUEST_BYTES, gateway: () => gateway, rows: [] };
  afterAll(() => recordSource(source));

  test.each(HOSTILE_REQUESTS.map((request) => [request.name, request] as const))("%s", async (name, { build }) => {
    await holdRatio(source, name, async (byteCount, count) => {
      for (let i = 0; i < count; i++) {
        const bytes = build(byteCount, gateway.port);
        expect(bytes.indexOf("\r\n\r\n") + 4).toBeLessThanOrEqual(byteCount);
        using client = await RawWebSocket.dial({ port: gateway.port });
        client.write(bytes);
        await client.head();
      }
    });
    await expectServed();
  });
});

describe("upstream answers", () => {
  const source: Source = { name: "upstream answers", sizes: OTHER_BYTES, gateway: () => gateway, rows: [] };
  afterAll(() => recordSource(source));

  test.each(HOSTILE_ANSWERS.map((answer) => [answer.name, answer] as const))("%s", async (name, { event, build }) => {
    await holdRatio(source, name, async (byteCount, count) => {
      const bytes = build(byteCount);
      asked = event;
      answerOf = (exchange) => {
        exchange.raw(bytes);
        exchange.end();
      };
      for (let i = 0; i < count; i++) {
        using client = await RawWebSocket.request({ port: gateway.port, path: PATH });
        await client.head();
        if (event === "connect") continue;
        client.text("hello");
        client.close(1000);
        await client.ended();
        await backend.next("disconnect");
      }
      answerOf = null;
    });
    await expectServed();
  });
});

describe("messages of NATS", () => {
  const { afterAll, beforeAll, test } = needs("nats-server");
  let nats: NatsServer;
  let node: ProbedGateway;
  let nodeId = "";
  let publisher: NatsConnection;
  const source: Source = { name: "messages of NATS", sizes: OTHER_BYTES, gateway: () => node, rows: [] };
  afterAll(() => recordSource(source));

  beforeAll(async () => {
    nats = await NatsServer.start();
    node = await ProbedGateway.start({
      upstreams: [{ urlTemplate: `${backend.url}/{event}` }],
      cluster: { nats: { servers: [nats.url] } },
    });
    publisher = await connect({ servers: nats.url });
    // The member stays: without one the node does not listen.
    const before = backend.of("connect").length;
    await RawWebSocket.open({ port: node.port, path: PATH });
    nodeId = backend.of("connect")[before]?.header("X-ASRS-Connection-Id")?.slice(0, 8) ?? "";
  });
  afterAll(async () => {
    await publisher?.close();
    await node?.[Symbol.asyncDispose]();
    await nats?.[Symbol.asyncDispose]();
  });

  /** The node's answer to a question comes behind all that was published before it. */
  async function heardAll(): Promise<void> {
    const question = encodeQuestion({ verb: "exists", target: { kind: "user", hub: "chat", name: "ann" } });
    const answer = await publisher.request(`hubwire.node.${nodeId}`, question, { timeout: 15_000 });
    expect(answer.string()).toBe("yes");
  }

  test.each(HOSTILE_NODE_MESSAGES.map((messages) => [messages.name, messages] as const))(
    "%s",
    async (name, { subject, build }: HostileNodeMessages) => {
      await heardAll();
      await holdRatio(source, name, async (byteCount, count) => {
        const payloads = build(byteCount);
        for (let i = 0; i < count; i++) for (const bytes of payloads) publisher.publish(`hubwire.${subject}`, bytes);
        await heardAll();
      });
    },
  );
});
