import { expect } from "bun:test";
import { needs } from "../../test/support/programs.ts";
import { dueOf, factsOf, idOf, type ReplicaNode, ReplicaStage, refusalOf } from "../../test/support/replica-stage.ts";

const { afterEach, beforeEach, describe, test } = needs("nats-server");

let stage: ReplicaStage;

beforeEach(async () => {
  stage = await ReplicaStage.start();
});
afterEach(() => stage[Symbol.asyncDispose]());

function connect({ journal }: ReplicaNode, count: number, name = "c"): void {
  for (let index = 0; index < count; index++) journal.entries.connecting(factsOf(`${name}${index}`));
}

function isUnderWay({ journal }: ReplicaNode, id: string): boolean {
  return journal.entries.find(id)?.trace === "perhaps";
}

describe("the replica in JetStream", () => {
  test("has after a kill what was resolved, in its last state, for the node that seizes it", async () => {
    const { journal } = await stage.startNode();
    await Promise.all(["c1", "c2", "c3", "c4", "c5", "c6"].map((id) => journal.connecting(factsOf(id))));
    await Promise.all(["c2", "c3", "c4", "c5"].map((id) => journal.connected(id, `user of ${id}`)));
    await Promise.all([journal.due(dueOf("c3")), journal.due(dueOf("c4")), journal.settled("c5")]);
    await Promise.all([
      journal.died("c4", { diedAtMs: 5, cause: "it answered 500", keptForMs: 0 }),
      journal.settled("c6"),
    ]);
    const other = await stage.startNode();
    expect(await other.logs.seize(journal.nodeId)).toEqual([
      { state: "connecting", facts: factsOf("c1") },
      { state: "connected", facts: factsOf("c2", { userId: "user of c2" }) },
      { state: "due", due: dueOf("c3") },
      { state: "dead", letter: { ...dueOf("c4"), diedAtMs: 5, keptForMs: 0, cause: "it answered 500" } },
    ]);
  });

  test("has after a kill in the middle of writing all that was resolved", async () => {
    const { journal, reports } = await stage.startNode();
    const resolved: string[] = [];
    const write = async () => {
      for (let count = 0; !reports.told.includes("onFenced"); count++) {
        const connecting = Array.from({ length: 10 }, async (_, index) => {
          const id = `c${count}-${index}`;
          await journal.connecting(factsOf(id));
          resolved.push(id);
        });
        await Promise.all(connecting).catch(() => null);
        // What is refused is refused at once: timers and sockets want their turn.
        await new Promise(setImmediate);
      }
    };
    const writing = write();
    while (resolved.length < 50) await new Promise(setImmediate);
    const other = await stage.startNode();
    const before = [...resolved];
    const found = new Set((await other.logs.seize(journal.nodeId)).map(idOf));
    await writing;
    expect(before.filter((id) => !found.has(id))).toEqual([]);
    expect(resolved.filter((id) => !found.has(id))).toEqual([]);
  });

  test("makes one message of what is called in one turn, and none of what came and went", async () => {
    const node = await stage.startNode();
    const { journal } = node;
    for (let index = 0; index < 1000; index++) {
      journal.entries.connecting(factsOf(`c${index}`));
      journal.entries.connecting(factsOf(`gone${index}`));
      journal.entries.settled(`gone${index}`);
    }
    await journal.whenReplicated();
    expect(await node.streamState()).toMatchObject({ messages: 1 });
    journal.entries.connecting(factsOf("gone"));
    const copied = journal.whenReplicated();
    journal.entries.settled("gone");
    await copied;
    expect(await node.streamState()).toMatchObject({ messages: 1 });
    expect(await stage.seize(journal.nodeId)).toHaveLength(1000);
  });

  test("resolves who waits though what he waits for came and went while a message was under way", async () => {
    const node = await stage.startNode();
    const { journal } = node;
    connect(node, 1);
    const first = journal.whenReplicated();
    for (let index = 0; index < 30; index++) {
      await new Promise(setImmediate);
      journal.entries.connecting(factsOf("gone"));
      void journal.whenReplicated();
      journal.entries.settled("gone");
    }
    await first;
    await journal.whenReplicated();
    expect(await stage.seize(journal.nodeId)).toEqual(["c0 connecting"]);
  });

  test("resolves who waits when the message under way is stored, though all that was left for the next went", async () => {
    const node = await stage.startNode();
    const { journal } = node;
    const claims = "x".repeat(200_000);
    for (const id of ["c1", "c2"]) journal.entries.connecting(factsOf(id, { claims }));
    // Both do not fit into one message.
    while (!isUnderWay(node, "c1")) await new Promise(setImmediate);
    journal.entries.settled("c2");
    await journal.whenReplicated();
    expect(journal.entries.find("c1")?.trace).toBe("copied");
  });

  test("leaves a connection out that fits into no message, says which, and copies the others", async () => {
    const { journal, reports } = await stage.startNode();
    journal.entries.connecting(factsOf("c1"));
    journal.entries.connecting(factsOf("huge", { claims: "x".repeat(1024 * 1024) }));
    journal.entries.connecting(factsOf("c2", { claims: "x".repeat(900 * 1024) }));
    await journal.whenReplicated();
    expect(reports.told).toContain("replica-too-large huge");
    expect(await stage.seize(journal.nodeId)).toEqual(["c1 connecting", "c2 connecting"]);
  });

  test("keeps the log small however many came and went", async () => {
    const node = await stage.startNode();
    const { journal } = node;
    connect(node, 10, "stays");
    let mostMessages = 0;
    for (let round = 0; round < 50; round++) {
      connect(node, 1000, `r${round}c`);
      await journal.whenReplicated();
      for (let index = 0; index < 1000; index++) journal.entries.settled(`r${round}c${index}`);
      await journal.whenReplicated();
      const { messages, bytes } = await node.streamState();
      mostMessages = Math.max(mostMessages, messages);
      // One megabyte past twice a snapshot, and the message that took it there.
      expect(bytes).toBeLessThan(2 * 1024 * 1024);
    }
    expect(mostMessages).toBeGreaterThan(10);
    expect(mostMessages).toBeLessThan(40);
    expect(await stage.seize(journal.nodeId)).toHaveLength(10);
  });

  test("has a snapshot in the log that is as good as what it replaced", async () => {
    const node = await stage.startNode();
    const { journal } = node;
    for (let round = 0; round < 8; round++) {
      connect(node, 2000, `r${round}c`);
      for (let index = 0; index < 2000; index += 2) journal.entries.connected(`r${round}c${index}`, `user ${index}`);
      await journal.whenReplicated();
    }
    await journal.due(dueOf("r0c5"));
    expect((await node.streamState()).messages).toBeLessThan(20);
    const found = await stage.seize(journal.nodeId);
    expect(found).toHaveLength(16_000);
    expect(found.filter((state) => state.endsWith(" connected"))).toHaveLength(8000);
    expect(found.at(-1)).toBe("r0c5 due");
  });

  test("removes a log in which nothing is owed when it is closed, and leaves any other", async () => {
    const idle = await stage.startNode();
    await idle.journal.connecting(factsOf("c1"));
    await idle.journal.settled("c1");
    await idle.journal.close();
    await idle.journal.close();
    expect(await idle.streamState()).toMatchObject({ messages: 0 });
    const owing = await stage.startNode();
    owing.journal.entries.due(dueOf("c2"));
    await owing.journal.close();
    expect(await stage.seize(owing.journal.nodeId)).toEqual(["c2 due"]);
    expect(await refusalOf(owing.journal.connecting(factsOf("c3")))).toContain("closed");
  });
});

describe("a node whose log was seized", () => {
  test("writes no more, says so once, and what it did since is not in the log", async () => {
    const { journal, reports } = await stage.startNode();
    await journal.connecting(factsOf("c1"));
    const other = await stage.startNode();
    await other.logs.seize(journal.nodeId);
    expect(await refusalOf(journal.connecting(factsOf("c2")))).toContain("taken over");
    expect(await refusalOf(journal.whenReplicated())).toContain("taken over");
    journal.entries.settled("c1");
    expect(reports.told.filter((words) => !words.startsWith("nats-up"))).toEqual([
      "replica-complete 0",
      `replica-fenced ${journal.nodeId}`,
      "onFenced",
    ]);
    expect(journal.isCopying).toBe(false);
    expect((await other.logs.seize(journal.nodeId)).map(idOf)).toEqual(["c1"]);
    await journal.close();
    expect((await other.logs.seize(journal.nodeId)).map(idOf)).toEqual(["c1"]);
  });

  test("finds out after a restart of NATS too, and after its log was forgotten", async () => {
    const { journal, reports } = await stage.startNode();
    await journal.connecting(factsOf("c1"));
    const other = await stage.startNode();
    await other.logs.seize(journal.nodeId);
    await other.logs.forget(journal.nodeId);
    await stage.server.restart();
    await reports.heard("onFenced");
    await other.reports.heard("replica-complete", 2);
    expect(await other.logs.seize(journal.nodeId)).toEqual([]);
  });

  test("leaves to the other what the log had, and takes the rest along into a new log", async () => {
    const { journal, reports } = await stage.startNode();
    for (const id of ["c1", "c2", "gone"]) await journal.connecting(factsOf(id));
    await journal.due(dueOf("c2"));
    const other = await stage.startNode();
    const found = (await other.logs.seize(journal.nodeId)).map(idOf);
    journal.entries.connected("c1", "named since");
    journal.entries.connecting(factsOf("new"));
    journal.entries.settled("gone");
    await reports.heard("onFenced");
    expect(journal.moveTo("node-new")).toEqual(["c1", "c2"]);
    expect(found).toEqual(["c1", "gone", "c2"]);
    await reports.heard("replica-complete 1");
    await journal.connecting(factsOf("newer"));
    expect(journal.nodeId).toBe("node-new");
    expect(await stage.seize("node-new")).toEqual(["new connecting", "newer connecting"]);
  });

  test("counts as not copied what was under way, though it may be in the log", async () => {
    const node = await stage.startNode();
    const { journal } = node;
    await journal.connecting(factsOf("c1"));
    connect(node, 2, "unacked");
    const copied = refusalOf(journal.whenReplicated());
    expect(journal.moveTo("node-new")).toEqual(["c1"]);
    expect(await copied).toContain("another id");
    await journal.whenReplicated();
    expect(await stage.seize("node-new")).toEqual(["unacked0 connecting", "unacked1 connecting"]);
  });

  test("goes on under the new id as soon as NATS is back, where it was away", async () => {
    const node = await stage.startNode();
    const { journal, reports } = node;
    await journal.connecting(factsOf("c1"));
    await stage.server.stop();
    await reports.heard("replica-stopped");
    connect(node, 1, "new");
    expect(journal.moveTo("node-new")).toEqual(["c1"]);
    await stage.server.restart();
    await reports.heard("replica-complete 1");
    expect(await stage.seize("node-new")).toEqual(["new0 connecting"]);
    expect(await stage.seize(journal.nodeId)).toEqual(["new0 connecting"]);
  });
});
