import { expect } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { connect } from "@nats-io/transport-node";
import { until } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { hearing, ignoreNotices } from "../../test/support/notices.ts";
import { needs } from "../../test/support/programs.ts";
import { NatsLink } from "../nats/link.ts";
import { NEWEST_FORM } from "../protocol/forms.ts";
import { KvLeases } from "./kv.ts";

const { afterEach, beforeEach, describe, test } = needs("nats-server");

const OPTIONS = { user: null, password: null, token: null, credsFile: null, tls: null };
const SILENT = ignoreNotices;

let server: NatsServer;
let nodes: Node[];

/** A node with its leases, its own connection and its own clock. */
class Node {
  readonly id: string;
  readonly clock = new FakeClock();
  readonly link = NatsLink.start({ ...OPTIONS, servers: [server.url] }, SILENT);
  readonly gone: string[] = [];
  readonly said: string[] = [];
  readonly forms: number[] = [];
  heldTimes = 0;
  lostTimes = 0;
  readonly leases: KvLeases;

  constructor(id: string) {
    this.id = id;
    this.leases = new KvLeases({
      link: this.link,
      prefix: "t",
      replicas: 1,
      nodeId: id,
      clock: this.clock,
      report: hearing({
        "lease-unavailable": ({ reason }) => void this.said.push(reason),
        "leases-remade": ({ count }) => void this.said.push(`remade ${count}`),
        "lease-available": () => void this.said.push("available"),
        "lease-ignored": ({ key }) => void this.said.push(`ignored ${key}`),
      }),
      onGone: (nodeId) => void this.gone.push(nodeId),
      onHeld: () => void this.heldTimes++,
      onLost: () => void this.lostTimes++,
      onForm: () => void this.forms.push(this.leases.commonForm),
    });
    nodes.push(this);
  }

  /** Starts and waits for its lease. */
  async start(): Promise<this> {
    this.leases.start();
    await until(async () => (await leaseOf(this.id)) !== null, `the lease of ${this.id}`);
    return this;
  }

  /** A crash: nothing of it is renewed any more. */
  async crash(): Promise<void> {
    await this.leases.stop({ release: false });
    await this.link.stop();
  }
}

beforeEach(async () => {
  nodes = [];
  server = await NatsServer.start();
});
afterEach(async () => {
  for (const node of nodes) await node.crash();
  await server[Symbol.asyncDispose]();
});

/** The value in the bucket under a node's id, by a connection of its own. */
async function leaseOf(id: string): Promise<{ state: string; by: string; revision: number } | null> {
  const [node] = nodes;
  const connection = nodes.find(({ link }) => link.isUp)?.link.connection;
  if (node === undefined || connection === undefined || connection === null) return null;
  const kv = await new Kvm(jetstream(connection)).create("t_nodes", { allow_direct: false }).catch(() => null);
  const entry = await kv?.get(id);
  if (entry === undefined || entry === null) return null;
  return { ...entry.json<{ state: string; by: string }>(), revision: entry.revision };
}

async function revisionOf(id: string): Promise<number> {
  return (await leaseOf(id))?.revision ?? 0;
}

/** Moves a node's clock on by steps, and lets what each step asks of the server happen. */
async function pass(node: Node, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 500) {
    const before = await revisionOf(node.id);
    await node.clock.advance(500);
    // Its clock began at 5 seconds, and so did its renewals.
    if ((node.clock.now() - 5000) % 2000 === 0 && node.lostTimes === 0 && node.link.isUp) {
      await until(async () => node.lostTimes > 0 || (await revisionOf(node.id)) > before, `${node.id} to renew`);
    }
    await node.link.connection?.flush();
  }
}

test("a value under a key that is no node's name is told of, and nobody takes it over", async () => {
  const node = await new Node("one").start();
  const long = "x".repeat(100);
  for (const key of ["a.b", "a=b", long, "other"]) {
    await node.link.connection?.request(`$KV.t_nodes.${key}`, JSON.stringify({ state: "held", by: key }));
  }
  await pass(node, 12_000);
  await until(() => node.gone.length > 0, "the node that does not renew");
  expect(node.gone).toEqual(["other"]);
  expect(node.said.filter((text) => text.startsWith("ignored"))).toEqual([
    "ignored a.b",
    "ignored a=b",
    `ignored ${long.slice(0, 64)}`,
  ]);
});

describe("a lease", () => {
  test("is there as soon as NATS is, and is renewed every two seconds", async () => {
    const node = await new Node("one").start();
    expect(await leaseOf("one")).toMatchObject({ state: "held", by: "one" });
    const before = await revisionOf("one");
    await node.clock.advance(1999);
    expect(await revisionOf("one")).toBe(before);
    await node.clock.advance(1);
    await until(async () => (await revisionOf("one")) > before, "the renewal");
    expect([node.gone, node.lostTimes, node.heldTimes]).toEqual([[], 0, 1]);
  });

  test("of a node that lives is never found over, however long the other watches", async () => {
    const [one, two] = [await new Node("one").start(), await new Node("two").start()];
    for (let second = 0; second < 30; second += 2) {
      await pass(one, 2000);
      await pass(two, 2000);
    }
    expect([one.gone, two.gone, one.lostTimes, two.lostTimes]).toEqual([[], [], 0, 0]);
  });

  test("that is not renewed for ten seconds of the observer's own is over, not a step before", async () => {
    const [one, two] = [await new Node("one").start(), await new Node("two").start()];
    await one.crash();
    await pass(two, 9500);
    expect(two.gone).toEqual([]);
    await pass(two, 1000);
    await until(() => two.gone.length > 0, "the end of the lease");
    expect(two.gone).toEqual(["one"]);
    expect(await two.leases.claim("one")).toBe(true);
    expect(await leaseOf("one")).toMatchObject({ state: "claimed", by: "two" });
    await two.leases.end("one");
    await pass(two, 30_000);
    expect(two.gone).toEqual(["one"]);
    expect(await two.leases.claim("one")).toBe(false);
  });

  test("is claimed by one of those that find it over, and by the next where that one does not end it", async () => {
    const [one, two, three] = [
      await new Node("one").start(),
      await new Node("two").start(),
      await new Node("three").start(),
    ];
    await one.crash();
    for (let step = 0; step < 6; step++) for (const node of [two, three]) await pass(node, 2000);
    await until(() => two.gone.length > 0 && three.gone.length > 0, "both to find it over");
    const claims = await Promise.all([two.leases.claim("one"), three.leases.claim("one")]);
    expect(claims.toSorted()).toEqual([false, true]);
    // The one that has it dies with the work half done.
    const [worker, other] = claims[0] ? [two, three] : [three, two];
    await worker.crash();
    other.gone.length = 0;
    await pass(other, 12_000);
    await until(() => other.gone.length === 2, "both leases to be over");
    expect(other.gone.toSorted()).toEqual(["one", worker.id].toSorted());
    expect(await other.leases.claim("one")).toBe(true);
  });

  test("that was renewed after it was found over is not claimed", async () => {
    const [one, two] = [await new Node("one").start(), await new Node("two").start()];
    await pass(two, 12_000);
    await until(() => two.gone.length > 0, "the lease to be found over");
    // The clock of `one` has not moved: its next renewal comes now.
    await pass(one, 2000);
    expect(await two.leases.claim("one")).toBe(false);
    expect([one.lostTimes, (await leaseOf("one"))?.state]).toEqual([0, "held"]);
  });

  test("that another has claimed is lost to its node, once; under a new name it goes on", async () => {
    const [one, two] = [await new Node("one").start(), await new Node("two").start()];
    await pass(two, 12_000);
    await until(() => two.gone.length > 0, "the lease to be found over");
    expect(await two.leases.claim("one")).toBe(true);
    await until(() => one.lostTimes > 0, "its node to notice");
    await one.clock.advance(10_000);
    expect(one.lostTimes).toBe(1);
    one.leases.rename("again");
    await until(async () => (await leaseOf("again")) !== null, "the new lease");
    await two.leases.end("one");
    expect(await leaseOf("one")).toMatchObject({ state: "ended" });
    expect(one.lostTimes).toBe(1);
  });

  test("that its node gives back is nobody's to take over", async () => {
    const [one, two] = [await new Node("one").start(), await new Node("two").start()];
    await one.leases.stop({ release: true });
    expect(await leaseOf("one")).toMatchObject({ state: "ended", by: "one" });
    await pass(two, 12_000);
    expect(two.gone).toEqual([]);
  });

  test("of a node that has just been started again is claimed by it at once", async () => {
    const one = await new Node("one").start();
    await one.crash();
    const again = await new Node("again").start();
    expect(await again.leases.claim("one")).toBe(true);
    await again.leases.end("one");
    expect(await again.leases.claim("one")).toBe(false);
    expect(await again.leases.claim("never")).toBe(false);
  });
});

describe("NATS that was away", () => {
  test("makes nobody's lease over: each is watched for its whole length again", async () => {
    const [one, two] = [await new Node("one").start(), await new Node("two").start()];
    await server.stop("SIGKILL");
    await until(() => !one.link.isUp && !two.link.isUp, "the loss");
    for (const node of [one, two]) await node.clock.advance(60_000);
    await server.restart();
    await until(() => one.link.isUp && two.link.isUp, "the return");
    await one.crash();
    await until(() => two.leases.isWatching, "the watch");
    await pass(two, 9500);
    expect(two.gone).toEqual([]);
    await pass(two, 1000);
    await until(() => two.gone.length > 0, "the end of the lease");
    expect(two.gone).toEqual(["one"]);
  });

  test("and has lost all it stored gets the leases anew, and nobody takes that for a loss", async () => {
    const one = await new Node("one").start();
    await server.stop("SIGKILL");
    await until(() => !one.link.isUp, "the loss");
    rmSync(join(server.folder, "jetstream"), { recursive: true });
    await server.restart();
    await until(async () => one.link.isUp && (await leaseOf("one")) !== null, "the new lease");
    await pass(one, 4000);
    expect([one.lostTimes, (await leaseOf("one"))?.state]).toEqual([0, "held"]);
  });
});

describe("a bucket that is deleted under living nodes", () => {
  test("is made again in quiet with the leases of all, and a node that had just died is found gone", async () => {
    const [one, two] = [await new Node("one").start(), await new Node("two").start()];
    await new Node("dead").start();
    await until(() => one.leases.isWatching && two.leases.isWatching, "the watch");
    await nodes.pop()?.crash();
    await deleteBucket(one);
    for (const node of [one, two]) {
      await until(() => node.said.some((line) => line.startsWith("remade")), `the new bucket at ${node.id}`);
    }
    for (const id of ["one", "two", "dead"]) {
      await until(async () => (await leaseOf(id))?.state === "held", `the lease of ${id}`);
    }
    // Another node may have written a living node's lease first.
    const isFound = async () => {
      for (const node of [one, two]) await node.clock.advance(500);
      return one.gone.includes("dead");
    };
    await until(isFound, "the dead one to be found");
    expect([one.lostTimes, two.lostTimes]).toEqual([0, 0]);
  });
});

async function deleteBucket(node: Node): Promise<void> {
  if (node.link.connection === null) throw new Error("no connection");
  await (await jetstreamManager(node.link.connection)).streams.delete("KV_t_nodes");
}

test("after stop nothing is renewed and no timer is left; it may be called twice", async () => {
  const node = await new Node("one").start();
  await node.leases.stop({ release: false });
  await node.leases.stop({ release: true });
  const before = await revisionOf("one");
  await node.clock.advance(60_000);
  expect([await revisionOf("one"), node.clock.timerCount]).toEqual([before, 0]);
});

describe("the form that every node reads", () => {
  /** Writes a lease as another version would. */
  async function write(id: string, value: Readonly<Record<string, unknown>>): Promise<void> {
    const connection = await connect({ servers: server.url });
    await (await new Kvm(connection).open("t_nodes")).put(id, JSON.stringify(value));
    await connection.close();
  }

  test("is the newest while all announce it, and the first one while a node of 0.1 holds its lease", async () => {
    const here = await new Node("here-own").start();
    expect(here.leases.commonForm).toBe(NEWEST_FORM);
    await new Node("same-age").start();
    await write("oldnode1", { state: "held", by: "oldnode1" });
    await until(() => here.leases.commonForm === 1, "the older node to be seen");
    await write("newnode1", { state: "held", by: "newnode1", form: 99 });
    await write("oldnode1", { state: "claimed", by: "newnode1" });
    await until(() => here.leases.commonForm === NEWEST_FORM, "the older node to be gone");
    expect(here.forms).toEqual([NEWEST_FORM, 1, NEWEST_FORM]);
  });

  test("is the first one before the leases of the others are seen", () => {
    expect(new Node("here-own").leases.commonForm).toBe(1);
  });

  test("a claim hands on what it does not know of a newer node's lease", async () => {
    const here = await new Node("here-own").start();
    await write("newnode1", { state: "held", by: "newnode1", form: 99, zone: "b" });
    expect(await here.leases.claim("newnode1")).toBe(true);
    expect(await leaseOf("newnode1")).toMatchObject({ state: "claimed", by: "here-own", form: 99, zone: "b" });
  });
});
