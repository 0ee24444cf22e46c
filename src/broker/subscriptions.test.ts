import { expect } from "bun:test";
import { until, within } from "../../test/support/deadline.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { ignoreNotices } from "../../test/support/notices.ts";
import { needs } from "../../test/support/programs.ts";
import { NatsLink } from "../nats/link.ts";
import { Subscriptions } from "./subscriptions.ts";

const { afterEach, beforeEach, describe, test } = needs("nats-server");

const OPTIONS = { user: null, password: null, token: null, credsFile: null, tls: null };

let server: NatsServer;
let link: NatsLink;
/** Publishes. */
let other: NatsLink;
let subscriptions: Subscriptions;
let heard: string[];

function startLink(): NatsLink {
  return NatsLink.start({ ...OPTIONS, servers: [server.url] }, ignoreNotices);
}

beforeEach(async () => {
  server = await NatsServer.start();
  [link, other] = [startLink(), startLink()];
  await until(() => link.isUp && other.isUp, "both links");
  heard = [];
  subscriptions = new Subscriptions(link, (message) => void heard.push(`${message.subject} ${message.string()}`));
});
afterEach(async () => {
  subscriptions.stop();
  await link.stop();
  await other.stop();
  await server[Symbol.asyncDispose]();
});

/** Publishes, and waits until all that it causes has come. */
async function publish(...texts: readonly string[]): Promise<void> {
  for (const text of texts) {
    const [subject = "", body] = text.split(" ");
    other.connection?.publish(subject, body);
  }
  await other.connection?.flush();
  await link.connection?.flush();
}

/** How often the server is asked from now on. */
function countFlushes(): () => number {
  const { connection } = link;
  if (connection === null) throw new Error("it is up");
  const flush = connection.flush.bind(connection);
  let count = 0;
  connection.flush = () => {
    count++;
    return flush();
  };
  return () => count;
}

/** Whether a promise has settled by now. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const turn = new Promise<"waits">((resolve) => setImmediate(() => setImmediate(resolve, "waits")));
  return (await Promise.race([promise, turn])) !== "waits";
}

describe("a subject", () => {
  test("is subscribed to once however many members it has, until the last is gone", async () => {
    for (let time = 0; time < 3; time++) await subscriptions.add("a");
    expect(subscriptions.size).toBe(1);
    await publish("a 1");
    subscriptions.remove("a");
    subscriptions.remove("a");
    await publish("a 2");
    subscriptions.remove("a");
    subscriptions.remove("a");
    await publish("a 3");
    expect([heard, subscriptions.size]).toEqual([["a 1", "a 2"], 0]);
  });

  test("that is left and joined in one turn is heard once, and known when the join resolves", async () => {
    await subscriptions.add("a");
    subscriptions.remove("a");
    await subscriptions.add("a");
    await publish("a 1");
    expect(heard).toEqual(["a 1"]);
  });

  test("that is known costs no question to the server", async () => {
    await subscriptions.add("a");
    const flushCount = countFlushes();
    await Promise.all(Array.from({ length: 100 }, () => subscriptions.add("a")));
    expect(flushCount()).toBe(0);
  });

  test("that is not known yet is waited for by its second member too; meanwhile others gather for one question", async () => {
    const flushCount = countFlushes();
    await server.freeze();
    const first = subscriptions.add("a");
    expect(await isSettled(first)).toBe(false);
    const second = subscriptions.add("a");
    const more = Array.from({ length: 50 }, (_empty, index) => subscriptions.add(`more${index}`));
    expect(await isSettled(Promise.race([second, ...more]))).toBe(false);
    expect(flushCount()).toBe(1);
    server.thaw();
    await within(Promise.all([first, second, ...more]), "the joins");
    expect(flushCount()).toBe(2);
    await publish("a 1", "more49 2");
    expect(heard).toEqual(["a 1", "more49 2"]);
  });

  test("of which there are many is heard in the order in which messages come", async () => {
    const names = Array.from({ length: 20 }, (_empty, index) => `s${index}`);
    await Promise.all(names.map((name) => subscriptions.add(name)));
    const texts = Array.from({ length: 1000 }, (_empty, index) => `s${(index * 7) % 20} ${index}`);
    await publish(...texts);
    expect(heard).toEqual(texts);
  });
});

describe("while the link is down", () => {
  test("a join resolves at once, and is known when linkUp resolves; who left does not come back", async () => {
    await subscriptions.add("before");
    await subscriptions.add("left");
    await server.stop("SIGKILL");
    await until(() => !link.isUp, "the loss");
    subscriptions.linkDown();
    expect(await isSettled(subscriptions.add("meanwhile"))).toBe(true);
    subscriptions.remove("left");
    await server.restart();
    await until(() => link.isUp && other.isUp, "the return");
    expect(await subscriptions.linkUp()).toBe(true);
    await publish("before 1", "meanwhile 2", "left 3");
    expect(heard).toEqual(["before 1", "meanwhile 2"]);
  });

  test("linkUp says so where the link is lost again before the server has answered", async () => {
    await subscriptions.add("a");
    await server.freeze();
    const isKnown = subscriptions.linkUp();
    await server.stop("SIGKILL");
    expect(await within(isKnown, "the loss")).toBe(false);
  });

  test("what was joined before there was a connection, or on one that the client gave up, is subscribed to then", async () => {
    const late = startLink();
    const texts: string[] = [];
    const early = new Subscriptions(late, (message) => void texts.push(message.string()));
    try {
      expect(late.connection).toBeNull();
      await early.add("a");
      await until(() => late.isUp, "the first connection");
      expect(await early.linkUp()).toBe(true);
      await publish("a 1");
      const { connection } = late;
      await connection?.close();
      await until(() => late.connection !== connection && late.isUp, "another connection");
      expect(await early.linkUp()).toBe(true);
      await publish("a 2");
      await late.connection?.flush();
      expect(texts).toEqual(["1", "2"]);
    } finally {
      early.stop();
      await late.stop();
    }
  });
});

test("after stop nothing is heard, no join waits, and what is added is only counted", async () => {
  await subscriptions.add("a");
  await server.freeze();
  const waiting = subscriptions.add("b");
  subscriptions.stop();
  expect(await isSettled(waiting)).toBe(true);
  expect(await isSettled(subscriptions.add("c"))).toBe(true);
  server.thaw();
  subscriptions.remove("a");
  await publish("a 1", "b 2", "c 3");
  subscriptions.stop();
  expect([heard, subscriptions.size]).toEqual([[], 2]);
});
