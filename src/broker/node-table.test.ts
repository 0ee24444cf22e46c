import { expect } from "bun:test";
import { until } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { hearing, ignoreNotices } from "../../test/support/notices.ts";
import { needs } from "../../test/support/programs.ts";
import { NatsLink } from "../nats/link.ts";
import { NodeTable } from "./node-table.ts";

const { afterEach, beforeEach, describe, test } = needs("nats-server");

const OPTIONS = { user: null, password: null, token: null, credsFile: null, tls: null };

let server: NatsServer;
let link: NatsLink;
let clock: FakeClock;
let table: NodeTable;
let said: string[];
let awaited: (readonly string[])[];
/** The form that every node reads. */
let form: number;

/** The table of `node-one`; what it says is heard by a subscription on its own connection. */
beforeEach(async () => {
  server = await NatsServer.start();
  link = NatsLink.start({ ...OPTIONS, servers: [server.url] }, ignoreNotices);
  await until(() => link.isUp, "the link");
  said = [];
  link.connection?.subscribe("t.beat", { callback: (_error, message) => void said.push(message.string()) });
  link.connection?.subscribe("t.here.*", {
    callback: (_error, message) => void said.push(`${message.subject.slice("t.here.".length)}: ${message.string()}`),
  });
  clock = new FakeClock();
  awaited = [];
  const report = hearing({ "nodes-awaited": ({ nodeIds }) => void awaited.push(nodeIds) });
  form = 1;
  const names = { nodeId: "node-one", nodeIdBefore: "node-old" };
  table = new NodeTable({ link, prefix: "t", ...names, clock, form: () => form, report });
  table.start();
});
afterEach(async () => {
  table.stop();
  await link.stop();
  await server[Symbol.asyncDispose]();
});

/** The number of the last hello. */
function lastHello(texts: readonly string[]): number {
  return Number(texts.findLast((text) => text.startsWith("hello"))?.split(" ")[2]);
}

/** All that it has said so far. */
async function heardOfIt(): Promise<string[]> {
  await link.connection?.flush();
  return said;
}

describe("a table of nodes", () => {
  test("is complete 1200 ms after the hello, and anew after each loss of the link", async () => {
    expect(table.isComplete).toBe(false);
    for (let time = 0; time < 2; time++) {
      table.linkUp();
      await clock.advance(1199);
      expect(table.isComplete).toBe(false);
      await clock.advance(1);
      expect(table.isComplete).toBe(true);
      table.linkDown();
      expect(table.isComplete).toBe(false);
    }
  });

  test("knows itself, and who says hello or beat; a bye ends that", () => {
    expect(table.all()).toEqual(["node-one"]);
    table.heard("hello node-two");
    table.heard("beat node-thr");
    table.heard("beat node-two");
    expect(table.all()).toEqual(["node-one", "node-two", "node-thr"]);
    table.heard("bye node-two");
    table.heard("bye node-fou");
    expect(table.all()).toEqual(["node-one", "node-thr"]);
    expect(["node-one", "node-two", "node-thr"].map((id) => table.isKnown(id))).toEqual([true, false, true]);
  });

  test("says its form in front where every node reads a newer one than the first", async () => {
    table.linkUp();
    form = 2;
    await clock.advance(1000);
    const heard = await heardOfIt();
    expect(heard.slice(0, 2)).toEqual(["bye node-old", "hello node-one 1"]);
    expect(heard.slice(2).every((text) => /^2 hello node-one [0-9]+$/.test(text))).toBe(true);
    expect(heard.length).toBeGreaterThan(2);
  });

  test("answers a hello in the form of the hello, though all are said to read a newer one", async () => {
    table.linkUp();
    form = 2;
    table.heard("hello node-two 7");
    table.heard("2 hello node-thr 8");
    table.heard("3 hello node-fou 9 more");
    expect((await heardOfIt()).filter((text) => text.startsWith("node-"))).toEqual([
      "node-two: here node-one 7",
      "node-thr: 2 here node-one 8",
      "node-fou: 2 here node-one 9",
    ]);
  });

  test("takes of a newer form what every form begins with, and says that it is newer", () => {
    expect(table.heard("beat node-two")).toBe("read");
    expect(table.heard("2 beat node-thr")).toBe("read");
    expect(table.heard("99 beat node-fou 1 with what comes later")).toBe("newer");
    expect(table.heard("99 hello node-fiv")).toBe("newer");
    expect(table.all()).toEqual(["node-one", "node-two", "node-thr", "node-fou", "node-fiv"]);
    expect(table.heard("99 bye node-fou")).toBe("newer");
    expect(table.isKnown("node-fou")).toBe(false);
    for (const text of ["99 new-word node-six", "99 beat a.b", "0 beat node-six", "beat node-six 1 more"]) {
      expect(table.heard(text)).toBe("unknown");
    }
    expect(table.isKnown("node-six")).toBe(false);
  });

  test("knows a silent node for ten seconds, and forgets it after", async () => {
    table.linkUp();
    table.heard("beat node-two");
    await clock.advance(9000);
    table.heard("beat node-thr");
    await clock.advance(1999);
    expect(table.all()).toEqual(["node-one", "node-two", "node-thr"]);
    await clock.advance(1);
    expect(table.all()).toEqual(["node-one", "node-thr"]);
  });

  test.each([
    ["short", 9000],
    ["long", 60_000],
  ])("keeps whom it knew for ten seconds more after a %s outage: nobody could be heard", async (_length, outageMs) => {
    table.linkUp();
    table.heard("beat node-two");
    table.linkDown();
    await clock.advance(outageMs);
    table.linkUp();
    await clock.advance(10_000);
    expect(table.isKnown("node-two")).toBe(true);
    await clock.advance(1000);
    expect(table.isKnown("node-two")).toBe(false);
  });

  test("takes no other text: of no node, of no such word, of a name that cannot be one, of itself", () => {
    const others = ["", "beat", "beat ", "beat a.b", `beat ${"x".repeat(65)}`, "fly node-two", "beat node-two x"];
    const long = [`hello node-two ${"1".repeat(16)}`, `hello node-two${" ".repeat(200)}`];
    for (const text of [...others, ...long]) expect(table.heard(text)).toBe("unknown");
    expect(table.heard("bye node-one")).toBe("read");
    expect(table.all()).toEqual(["node-one"]);
  });
});

describe("a table of nodes, when the link is up again", () => {
  beforeEach(async () => {
    table.linkUp();
    table.heard("beat node-two");
    table.heard("beat node-thr");
    table.linkDown();
    await clock.advance(60_000);
    table.linkUp();
  });

  test("is not complete before all that it knew have answered a hello that was said after a second", async () => {
    await clock.advance(900);
    const early = lastHello(await heardOfIt());
    for (const name of ["node-two", "node-thr"]) table.heard(`here ${name} ${early}`);
    await clock.advance(2100);
    expect(table.isComplete).toBe(false);
    const late = lastHello(await heardOfIt());
    table.heard(`here node-two ${late}`);
    table.heard("beat node-thr");
    table.heard("hello node-thr 7");
    table.heard("here node-thr");
    table.heard("here node-thr x");
    expect(table.isComplete).toBe(false);
    table.heard(`here node-thr ${late}`);
    expect(table.isComplete).toBe(true);
  });

  test("asks again each second until then, and says once whom it waits for", async () => {
    await clock.advance(6000);
    expect((await heardOfIt()).filter((text) => text.startsWith("hello")).length).toBeGreaterThanOrEqual(6);
    expect(awaited).toEqual([["node-two", "node-thr"]]);
  });

  test("waits for nobody who has said bye, and ten seconds for who is silent", async () => {
    table.heard("bye node-two");
    await clock.advance(9500);
    expect(table.isComplete).toBe(false);
    await clock.advance(2000);
    expect(table.isComplete).toBe(true);
    expect(table.all()).toEqual(["node-one"]);
  });

  test("stays complete when others come and go", async () => {
    await clock.advance(12_000);
    expect(table.isComplete).toBe(true);
    table.heard("hello node-new 1");
    await clock.advance(3000);
    expect(table.isComplete).toBe(true);
    expect((await heardOfIt()).at(-1)).toBe("beat node-one");
  });
});

test("a process that was held up forgets nobody whom it could not hear meanwhile", async () => {
  table.linkUp();
  await clock.advance(2000);
  table.heard("beat node-two");
  clock.skip(60_000);
  await clock.advance(1000);
  expect(table.isKnown("node-two")).toBe(true);
  await clock.advance(11_000);
  expect(table.isKnown("node-two")).toBe(false);
});

describe("a node says", () => {
  test("hello when the link is up and a second later, and then a beat each second while it is", async () => {
    await clock.advance(500);
    expect(await heardOfIt()).toEqual([]);
    table.linkUp();
    await clock.advance(2500);
    expect(await heardOfIt()).toEqual([
      "bye node-old",
      "hello node-one 1",
      "hello node-one 2",
      "hello node-one 3",
      "beat node-one",
      "beat node-one",
    ]);
    table.linkDown();
    await clock.advance(2000);
    expect(await heardOfIt()).toHaveLength(6);
  });

  test("that it is here to every node that says hello, with the hello's number, and nothing to a beat or to its own hello", async () => {
    table.linkUp();
    said.length = 0;
    table.heard("hello node-two 5");
    expect((await heardOfIt()).slice(-1)).toEqual(["node-two: here node-one 5"]);
    const count = said.length;
    table.heard("beat node-two");
    table.heard("here node-two 1");
    table.heard("hello node-one 1");
    expect(await heardOfIt()).toHaveLength(count);
  });

  test("not that it is here before its own subscriptions hold", async () => {
    table.heard("hello node-two 5");
    expect(await heardOfIt()).toEqual([]);
    expect(table.isKnown("node-two")).toBe(true);
  });

  test("bye under its old name and hello under its new one; its old name is not known any more", async () => {
    table.linkUp();
    table.rename("node-new");
    expect(await heardOfIt()).toEqual(["bye node-old", "hello node-one 1", "bye node-one", "hello node-new 2"]);
    for (const text of said) table.heard(text);
    expect([table.nodeId, table.all()]).toEqual(["node-new", ["node-new"]]);
  });

  test("bye for a name that it gave up without a link, once there is one", async () => {
    table.rename("node-new");
    expect(await heardOfIt()).toEqual([]);
    table.linkUp();
    expect(await heardOfIt()).toEqual(["bye node-old", "bye node-one", "hello node-new 1"]);
  });

  test("bye once when it stops, and no timer is left", async () => {
    table.linkUp();
    table.stop();
    table.stop();
    expect((await heardOfIt()).slice(-1)).toEqual(["bye node-one"]);
    expect(said).toHaveLength(3);
    expect(clock.timerCount).toBe(0);
    expect(table.isComplete).toBe(false);
  });
});
