import { expect } from "bun:test";
import fc from "fast-check";
import { until } from "../../test/support/deadline.ts";
import { NatsNode } from "../../test/support/nats-nodes.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { toPayload } from "../../test/support/payloads.ts";
import { needs } from "../../test/support/programs.ts";
import { memberSubject, nodeSubject } from "../nats/subjects.ts";
import type { Members, Question, Target } from "../protocol/envelope.ts";
import { isName } from "../protocol/names.ts";

const { afterEach, beforeEach, describe, test } = needs("nats-server");

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

async function start(...ids: readonly string[]): Promise<NatsNode[]> {
  const started = await NatsNode.start(server, ...ids);
  nodes.push(...started);
  return started;
}

async function two(): Promise<[NatsNode, NatsNode]> {
  const [one, other] = await start("node-one", "node-two");
  if (one === undefined || other === undefined) throw new Error("there are two");
  return [one, other];
}

const HUB: Target = { kind: "hub", hub: "chat" };
const user = (name: string, hub = "chat"): Members => ({ kind: "user", hub, name });
const EXISTS: Question = { verb: "exists", target: user("ann") };

function send(from: NatsNode, target: Target, data: string | Uint8Array): Promise<"sent" | "unavailable"> {
  return from.broker.publish({ verb: "send", target, excluded: [], payload: toPayload(data) });
}

/** All that one node has published before has come to the other after this. */
async function settled(from: NatsNode, to: NatsNode): Promise<void> {
  await from.link.connection?.flush();
  await to.link.connection?.flush();
}

describe("subscriptions", () => {
  test("a join that has resolved gets the very next publication of another node", async () => {
    const [one, other] = await two();
    for (let index = 0; index < 100; index++) {
      await other.broker.join(user(`u${index}`));
      await send(one, user(`u${index}`), String(index));
    }
    await other.hears(100);
    expect(other.texts).toEqual(Array.from({ length: 100 }, (_empty, index) => String(index)));
    expect(one.heard).toEqual([]);
  });

  test("a node listens from the first join to the last leave, once however many members", async () => {
    const [one, other] = await two();
    await other.broker.join(HUB);
    await other.broker.join({ kind: "hub", hub: "CHAT" });
    await send(one, HUB, "two members");
    other.broker.leave(HUB);
    await send(one, HUB, "one member");
    await settled(one, other);
    other.broker.leave(HUB);
    await settled(other, one);
    await send(one, HUB, "nobody");
    await settled(one, other);
    expect(other.texts).toEqual(["two members", "one member"]);
  });

  test("10,000 joins of one turn wait for few answers of the server", async () => {
    const [one] = await start("node-one");
    const { connection } = one?.link ?? {};
    if (one === undefined || connection === undefined || connection === null) throw new Error("it is up");
    const flush = connection.flush.bind(connection);
    let count = 0;
    connection.flush = () => {
      count++;
      return flush();
    };
    await Promise.all(Array.from({ length: 10_000 }, (_empty, index) => one.broker.join(user(`u${index}`))));
    expect(count).toBeLessThanOrEqual(2);
  });

  test("two names that differ never get each other's messages", async () => {
    const [one, other] = await two();
    const name = fc.oneof(
      fc.constantFrom("a", "A", "a.b", "a*", ">", "a b", "=2E", "==", "ü", "u\u0308", "x".repeat(64), "x".repeat(65)),
      fc.string({ unit: "grapheme", minLength: 1, maxLength: 100 }).filter(isName),
    );
    let round = 0;
    await fc.assert(
      fc.asyncProperty(name, name, async (mine, yours) => {
        fc.pre(mine !== yours && mine.isWellFormed() && yours.isWellFormed());
        round++;
        other.heard.length = 0;
        await other.broker.join(user(mine, `h${round}`));
        await send(one, user(yours, `h${round}`), "not for me");
        await send(one, user(mine, `h${round}`), "for me");
        await other.hears(1);
        await settled(one, other);
        expect(other.texts).toEqual(["for me"]);
      }),
      { numRuns: 60 },
    );
  });
});

test("one caller's messages keep their order over hub, user, group and connection", async () => {
  const [one, other] = await two();
  const id = `node-two${"x".repeat(22)}`;
  const targets: Target[] = [
    HUB,
    user("ann"),
    { kind: "group", hub: "chat", name: "g" },
    { ...user(id), kind: "connection" },
  ];
  for (const target of targets) await other.broker.join(target);
  for (let index = 0; index < 400; index++) await send(one, targets[index % 4] ?? HUB, String(index));
  await other.hears(400);
  expect(other.texts).toEqual(Array.from({ length: 400 }, (_empty, index) => String(index)));
});

describe("a question", () => {
  test("about whom nobody listens for is no, at once", async () => {
    const [one] = await two();
    expect(await one.broker.ask(EXISTS, "first-yes")).toBe("no");
    const id = { ...user(`nobody00${"x".repeat(22)}`), kind: "connection" } as const;
    expect(await one.broker.ask({ verb: "exists", target: id }, "first-yes")).toBe("no");
    expect(await one.broker.ask({ verb: "exists", target: { ...id, name: "made up" } }, "first-yes")).toBe("no");
  });

  test("for the first yes is yes as soon as one says so, though another says no", async () => {
    const started = await start("node-one", "node-two", "node-thr");
    const [one, two, three] = started as [NatsNode, NatsNode, NatsNode];
    for (const node of [two, three]) await node.broker.join(user("ann"));
    for (const [a, b] of [
      ["no", "yes"],
      ["yes", "no"],
    ] as const) {
      two.says = a;
      three.says = b;
      one.says = "no";
      expect(await one.broker.ask(EXISTS, "first-yes")).toBe("yes");
    }
    two.says = "no";
    three.says = "no";
    expect(await one.broker.ask(EXISTS, "first-yes")).toBe("no");
  });

  test("for the first yes does not wait for a node that is silent, where another says yes after a no", async () => {
    const started = await start("node-one", "node-two", "node-thr");
    const [one, two, three] = started as [NatsNode, NatsNode, NatsNode];
    await two.broker.join(user("ann"));
    two.says = "no";
    one.says = "yes";
    three.says = null;
    expect(await one.broker.ask(EXISTS, "first-yes")).toBe("yes");
    await three.crash();
    expect(await one.broker.ask(EXISTS, "first-yes")).toBe("yes");
    one.says = "no";
    expect(await one.broker.ask(EXISTS, "first-yes")).toBe("unavailable");
  });

  test("for every node goes to all, members or not, and any limit or yes counts", async () => {
    const started = await start("node-one", "node-two", "node-thr");
    const [one, two, three] = started as [NatsNode, NatsNode, NatsNode];
    const question: Question = { verb: "join", target: user("ann"), group: "g", afterRules: 3 };
    for (const node of started) node.says = "no";
    expect(await one.broker.ask(question, "every-node")).toBe("no");
    for (const node of started) expect(node.heard).toEqual([question]);
    three.says = "yes";
    expect(await one.broker.ask(question, "every-node")).toBe("yes");
    two.says = "limit";
    expect(await one.broker.ask(question, "every-node")).toBe("limit");
  });

  test("that a node does not answer is not guessed: unavailable, until that node is known to be gone", async () => {
    const [one, other] = await two();
    other.says = null;
    expect(await one.broker.ask(EXISTS, "every-node")).toBe("unavailable");
    await other.crash();
    expect(await one.broker.ask(EXISTS, "every-node")).toBe("unavailable");
    const id = { ...user(`node-two${"x".repeat(22)}`), kind: "connection" } as const;
    expect(await one.broker.ask({ verb: "exists", target: id }, "first-yes")).toBe("unavailable");
    await one.clock.advance(12_000);
    expect(await one.broker.ask(EXISTS, "every-node")).toBe("yes");
    expect(await one.broker.ask({ verb: "exists", target: id }, "first-yes")).toBe("no");
  });

  test("to a node of which nothing was heard yet, and that listens and is silent, is not guessed either", async () => {
    const [one, other] = await two();
    other.link.connection?.subscribe(nodeSubject("t", "node-new"), { callback: () => {} });
    await other.link.connection?.flush();
    const target = { ...user(`node-new${"x".repeat(22)}`), kind: "connection" } as const;
    expect(await one.broker.ask({ verb: "exists", target }, "first-yes")).toBe("unavailable");
  });

  test("to a node that has said bye counts as answered", async () => {
    const [one, other] = await two();
    one.says = "no";
    await other.broker.stop();
    await settled(other, one);
    expect(await one.broker.ask(EXISTS, "every-node")).toBe("no");
  });

  test("that a node cannot answer for a fault of its own rejects, and the node says what it was", async () => {
    const [one, other] = await two();
    other.says = new Error("a bug");
    await expect(one.broker.ask(EXISTS, "every-node")).rejects.toThrow("could not answer");
    expect(other.faults).toEqual([new Error("a bug")]);
  });

  test("of a node under its old name is answered by nobody, under its new one by it", async () => {
    const [one, other] = await two();
    other.broker.rename("node-new");
    await settled(other, one);
    one.says = "no";
    other.says = "yes";
    expect(await one.broker.ask(EXISTS, "every-node")).toBe("yes");
    const connection = (name: string) => ({ ...user(`${name}${"x".repeat(22)}`), kind: "connection" }) as const;
    expect(await one.broker.ask({ verb: "exists", target: connection("node-two") }, "first-yes")).toBe("no");
    expect(await one.broker.ask({ verb: "exists", target: connection("node-new") }, "first-yes")).toBe("yes");
  });
});

describe("while NATS is away", () => {
  test("everything is unavailable; what was joined meanwhile is there when the node is ready again", async () => {
    const [one, other] = await two();
    await other.broker.join(user("before"));
    await server.stop("SIGKILL");
    await until(() => !one.link.isUp && !other.link.isUp, "the loss");
    expect(await send(one, HUB, "lost")).toBe("unavailable");
    expect(await one.broker.ask(EXISTS, "first-yes")).toBe("unavailable");
    expect(await one.broker.ask(EXISTS, "every-node")).toBe("unavailable");
    await other.broker.join(user("meanwhile"));
    await server.restart();
    await until(() => one.link.isUp && other.link.isUp, "the return");
    // Not before everybody has had the time to be heard.
    expect(await send(one, user("before"), "too early")).toBe("unavailable");
    await other.ready();
    await one.ready();
    for (const name of ["before", "meanwhile"]) expect(await send(one, user(name), name)).toBe("sent");
    await other.hears(2);
    expect(other.texts).toEqual(["before", "meanwhile"]);
  });

  test("a join that waits for the server resolves", async () => {
    const [one] = await start("node-one");
    await server.freeze();
    const joining = one?.broker.join(user("ann"));
    await server.stop("SIGKILL");
    await joining;
  });

  test("a node that is no member of the others any more is as if NATS were away", async () => {
    const [one] = await two();
    one.isMember = false;
    expect(one.broker.isReady).toBe(false);
    expect(await send(one, HUB, "to a part")).toBe("unavailable");
    expect(await one.broker.ask(EXISTS, "every-node")).toBe("unavailable");
  });
});

describe("messages larger than the server carries", () => {
  test("arrive whole and in order, several publishers' at once, and a short one does not overtake", async () => {
    await server[Symbol.asyncDispose]();
    server = await NatsServer.start({ config: "max_payload: 65536" });
    const started = await start("node-one", "node-two", "node-thr");
    const [one, two, three] = started as [NatsNode, NatsNode, NatsNode];
    await three.broker.join(HUB);
    const long = (name: string) => `${name}${"ä".repeat(524_288)}`;
    const bytes = new Uint8Array(1_048_576).map((_byte, index) => index % 251);
    await Promise.all([
      send(one, HUB, long("one")),
      send(two, HUB, long("two")),
      send(one, HUB, "behind one"),
      send(two, HUB, bytes),
      send(two, HUB, "behind two"),
    ]);
    await three.hears(5);
    const got = three.texts.map((data) => (typeof data === "string" ? data : Buffer.from(data as Uint8Array)));
    expect(got.filter((data) => data === long("one") || data === "behind one")).toEqual([long("one"), "behind one"]);
    const ofTwo = got.filter((data) => data !== long("one") && data !== "behind one");
    expect(ofTwo).toEqual([long("two"), Buffer.from(bytes), "behind two"]);
  });

  test("are told apart by their publisher's count; one whose rest does not come is told of", async () => {
    const [one, other] = await two();
    await other.broker.join(HUB);
    const parts: Uint8Array[] = [];
    other.link.connection?.subscribe(memberSubject("t", HUB), {
      callback: (_error, { data }) => void parts.push(data),
    });
    await other.link.connection?.flush();
    for (let time = 0; time < 2; time++) await send(one, HUB, new Uint8Array(1_048_576));
    await settled(one, other);
    const counts = parts.map((part) => Buffer.from(part).readUInt32BE(9));
    expect(counts).toEqual([0, 0, 1, 1]);
    one.link.connection?.publish(memberSubject("t", HUB), parts[0]);
    await settled(one, other);
    await other.clock.advance(9000);
    expect(other.dropped).toEqual([]);
    await other.clock.advance(2000);
    expect(other.dropped).toEqual([{ count: 1, reason: "the rest of a message has not come for 10000 ms" }]);
  });

  test("arrive however little the server carries", async () => {
    await server[Symbol.asyncDispose]();
    server = await NatsServer.start({ config: "max_payload: 1024" });
    const [one, other] = await two();
    await other.broker.join(HUB);
    const text = "x".repeat(100_000);
    expect(await send(one, HUB, text)).toBe("sent");
    await other.hears(1);
    expect(other.texts).toEqual([text]);
  });

  test("with ten thousand excluded arrive too", async () => {
    const [one, other] = await two();
    await other.broker.join(HUB);
    const excluded = Array.from({ length: 10_000 }, (_empty, index) => `node-two${String(index).padStart(22, "0")}`);
    const envelope = { verb: "send", target: HUB, excluded, payload: toPayload("x".repeat(1_048_576)) } as const;
    expect(await one.broker.publish(envelope)).toBe("sent");
    await other.hears(1);
    expect(other.heard).toEqual([envelope]);
  });
});

test("what a server does not take is bounded: past 64 MiB on their way, publishing is unavailable", async () => {
  const [one] = await two();
  await server.freeze();
  try {
    const bytes = new Uint8Array(1_000_000);
    let sent = 0;
    while (sent < 100 && (await send(one, HUB, bytes)) === "sent") sent++;
    expect(sent).toBeGreaterThan(60);
    expect(sent).toBeLessThan(75);
  } finally {
    server.thaw();
  }
  await until(async () => (await send(one, HUB, "again")) === "sent", "the server to take more");
});

test("large messages that filled the bound do not keep it closed when the server takes them", async () => {
  const [one] = await two();
  await server.freeze();
  try {
    // The first is what the server is asked about; all others wait behind it.
    await send(one, HUB, new Uint8Array(1_060_000));
    let sent = 0;
    while (sent < 100 && (await send(one, HUB, new Uint8Array(1_500_000))) === "sent") sent++;
    expect(sent).toBeLessThan(50);
  } finally {
    server.thaw();
  }
  await until(async () => (await send(one, HUB, "again")) === "sent", "the server to take more");
});

test("after stop nothing is heard or asked, no timer is left, and it may be called twice", async () => {
  const [one, other] = await two();
  await other.broker.join(HUB);
  await other.broker.stop();
  await other.broker.stop();
  await send(one, HUB, "x");
  await settled(one, other);
  expect(other.heard).toEqual([]);
  expect(other.clock.timerCount).toBe(0);
  expect(await send(other, HUB, "x")).toBe("unavailable");
});
