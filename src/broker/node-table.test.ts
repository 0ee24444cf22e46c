import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { until } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { NatsLink } from "../nats/link.ts";
import { NodeTable } from "./node-table.ts";

const OPTIONS = { user: null, password: null, token: null, credsFile: null, tls: null };

let server: NatsServer;
let link: NatsLink;
let clock: FakeClock;
let table: NodeTable;
let said: string[];

/** The table of `node-one`; what it says is heard by a subscription on its own connection. */
beforeEach(async () => {
  server = await NatsServer.start();
  link = NatsLink.start({ ...OPTIONS, servers: [server.url] }, { up: () => {}, down: () => {}, refused: () => {} });
  await until(() => link.isUp, "the link");
  said = [];
  link.connection?.subscribe("t.beat", { callback: (_error, message) => void said.push(message.string()) });
  clock = new FakeClock();
  table = new NodeTable({ link, prefix: "t", nodeId: "node-one", clock });
  table.start();
});
afterEach(async () => {
  table.stop();
  await link.stop();
  await server[Symbol.asyncDispose]();
});

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
    for (const text of ["", "beat", "beat ", "beat a.b", `beat ${"x".repeat(65)}`, "fly node-two", "bye node-one"]) {
      table.heard(text);
    }
    expect(table.all()).toEqual(["node-one"]);
  });
});

describe("a node says", () => {
  test("hello at once when the link is up, and a beat each second while it is", async () => {
    await clock.advance(1000);
    expect(await heardOfIt()).toEqual([]);
    table.linkUp();
    await clock.advance(2000);
    expect(await heardOfIt()).toEqual(["hello node-one", "beat node-one", "beat node-one"]);
    table.linkDown();
    await clock.advance(2000);
    expect(await heardOfIt()).toHaveLength(3);
  });

  test("a beat at once to whoever says hello, and nothing to a beat or to its own hello", async () => {
    table.heard("hello node-two");
    expect(await heardOfIt()).toEqual(["beat node-one"]);
    table.heard("beat node-two");
    table.heard("hello node-one");
    expect(await heardOfIt()).toHaveLength(1);
  });

  test("bye under its old name and hello under its new one; its old name is not known any more", async () => {
    table.linkUp();
    table.rename("node-new");
    expect(await heardOfIt()).toEqual(["hello node-one", "bye node-one", "hello node-new"]);
    for (const text of said) table.heard(text);
    expect([table.nodeId, table.all()]).toEqual(["node-new", ["node-new"]]);
  });

  test("bye once when it stops, and no timer is left", async () => {
    table.stop();
    table.stop();
    expect(await heardOfIt()).toEqual(["bye node-one"]);
    expect(clock.timerCount).toBe(0);
    expect(table.isComplete).toBe(false);
  });
});
