import { expect } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { within } from "../../test/support/deadline.ts";
import { needs } from "../../test/support/programs.ts";
import { dueOf, factsOf, type ReplicaNode, ReplicaStage, refusalOf } from "../../test/support/replica-stage.ts";

const { afterEach, beforeEach, describe, test } = needs("nats-server");

let stage: ReplicaStage;

beforeEach(async () => {
  stage = await ReplicaStage.start();
});
afterEach(() => stage[Symbol.asyncDispose]());

function connect({ journal }: ReplicaNode, count: number, name = "c"): void {
  for (let index = 0; index < count; index++) journal.entries.connecting(factsOf(`${name}${index}`));
}
function connected(count: number, name = "c"): string[] {
  return Array.from({ length: count }, (_, index) => `${name}${index} connecting`);
}

/** Whether the server says that it has stored a message. */
function isAck(text: string): boolean {
  return text.includes('{"stream":"hubwire_journal", "seq"');
}

describe("faults of NATS", () => {
  test("lose nothing that was resolved when the server is killed while the log is written", async () => {
    const { journal, reports } = await stage.startNode();
    const resolved = new Set<string>();
    for (let round = 1; round <= 3; round++) {
      const before = resolved.size;
      let isOver = false;
      const write = async () => {
        for (let count = 0; !isOver; count++) {
          const connecting = Array.from({ length: 100 }, async (_, index) => {
            const id = `r${round}c${count}-${index}`;
            await journal.connecting(factsOf(id));
            resolved.add(id);
          });
          await Promise.all(connecting).catch(() => null);
          await new Promise(setImmediate);
        }
      };
      const writing = write();
      while (resolved.size < before + 300) await new Promise(setImmediate);
      await stage.server.stop("SIGKILL");
      await reports.heard("replica-stopped", round);
      isOver = true;
      await writing;
      await stage.server.restart();
      await reports.heard("replica-complete", round + 1);
    }
    const found = new Set((await stage.seize(journal.nodeId)).map((state) => state.split(" ")[0] ?? ""));
    expect([...resolved].filter((id) => !found.has(id))).toEqual([]);
    // What was refused has left nothing behind.
    expect(found.size).toBe(resolved.size);
  });

  test("stop nothing: all that changed meanwhile is in the log when NATS is back", async () => {
    const node = await stage.startNode();
    const { journal, reports } = node;
    connect(node, 3);
    await journal.whenReplicated();
    await stage.server.stop();
    await reports.heard("replica-stopped");
    expect(journal.isCopying).toBe(false);
    expect(await refusalOf(journal.whenReplicated())).toContain("not being copied");
    expect(await refusalOf(journal.connecting(factsOf("refused")))).toContain("not being copied");
    await journal.settled("c0");
    journal.entries.connected("c1", "bob");
    expect(await journal.due(dueOf("c2"))).toBeGreaterThan(0);
    connect(node, 2, "new");
    await stage.server.restart();
    await reports.heard("replica-complete 4");
    expect(reports.told.filter((words) => words.startsWith("replica-stopped"))).toHaveLength(1);
    expect(await stage.seize(journal.nodeId)).toEqual(["c1 connected", "c2 due", "new0 connecting", "new1 connecting"]);
  });

  test("reject who waits at once when the connection is lost", async () => {
    const proxy = await stage.startProxy();
    const node = await stage.startNode({ url: proxy.url });
    proxy.passes = (text) => !isAck(text);
    connect(node, 1);
    const refusal = refusalOf(node.journal.whenReplicated());
    await within(published(node), "the message");
    proxy.cut();
    expect(await refusal).toContain("lost");
  });

  test("find all in the log again when the server comes back without its storage", async () => {
    const node = await stage.startNode();
    const { journal, reports } = node;
    connect(node, 3);
    await journal.whenReplicated();
    await stage.server.stop();
    rmSync(join(stage.server.folder, "jetstream"), { recursive: true });
    await stage.server.restart();
    await reports.heard("replica-complete 3");
    expect(await stage.seize(journal.nodeId)).toEqual(connected(3));
  });

  test("count nothing as copied that was lost with the storage, where the node moves before it is copied again", async () => {
    const proxy = await stage.startProxy();
    const node = await stage.startNode({ url: proxy.url });
    const { journal } = node;
    connect(node, 3);
    await journal.whenReplicated();
    await stage.server.stop();
    rmSync(join(stage.server.folder, "jetstream"), { recursive: true });
    // The stream is made anew, and then nothing is acked any more.
    proxy.passes = (text) => !isAck(text);
    await stage.server.restart();
    const watcher = await stage.startNode();
    const written = async () => {
      while ((await watcher.stream.last(journal.nodeId)) === null) await new Promise(setImmediate);
    };
    await within(written(), "the snapshot");
    expect(journal.moveTo("node-new")).toEqual([]);
  });

  test("have the stream made again that somebody has deleted", async () => {
    const node = await stage.startNode();
    const { journal, reports } = node;
    connect(node, 3);
    await journal.whenReplicated();
    await node.deleteStream();
    connect(node, 1, "new");
    await reports.heard("replica-stopped");
    await reports.heard("replica-complete 4");
    expect(await stage.seize(journal.nodeId)).toEqual([...connected(3), "new0 connecting"]);
  });

  test("lose an ack without breaking the log", async () => {
    const proxy = await stage.startProxy();
    const node = await stage.startNode({ url: proxy.url });
    const { journal, reports } = node;
    connect(node, 1, "before");
    await journal.whenReplicated();
    let dropped = 0;
    proxy.passes = (text) => {
      if (!isAck(text) || dropped > 0) return true;
      dropped++;
      return false;
    };
    connect(node, 1, "lost");
    await journal.whenReplicated();
    connect(node, 1, "behind");
    await journal.whenReplicated();
    expect(dropped).toBe(1);
    // It was found to be there: no new snapshot was needed.
    expect(reports.told.filter((words) => !words.startsWith("nats-up"))).toEqual(["replica-complete 0"]);
    expect(await node.streamState()).toMatchObject({ messages: 3 });
    expect(await stage.seize(journal.nodeId)).toEqual(["before0 connecting", "lost0 connecting", "behind0 connecting"]);
  });

  test("lose the connection with an ack: the log goes on by a snapshot behind what was stored", async () => {
    const proxy = await stage.startProxy();
    const node = await stage.startNode({ url: proxy.url });
    const { journal, reports } = node;
    proxy.passes = (text) => !isAck(text);
    connect(node, 2);
    await within(published(node), "the message");
    proxy.passes = () => true;
    proxy.cut();
    await reports.heard("replica-complete 2");
    connect(node, 1, "behind");
    await journal.whenReplicated();
    expect(await node.streamState()).toMatchObject({ messages: 2 });
    expect(await stage.seize(journal.nodeId)).toEqual([...connected(2), "behind0 connecting"]);
  });

  test("cut a snapshot off: what was there before still counts, and the next one is whole", async () => {
    const proxy = await stage.startProxy();
    const node = await stage.startNode({ url: proxy.url });
    const { journal, reports } = node;
    for (let round = 0; round < 4; round++) {
      connect(node, 1000, `r${round}c`);
      await journal.whenReplicated();
    }
    proxy.cut();
    await reports.heard("replica-stopped");
    let acks = 0;
    proxy.passes = (text) => {
      if (isAck(text)) acks++;
      if (acks === 2) proxy.cut();
      return acks < 2;
    };
    await reports.heard("nats-down", 2);
    const watcher = await stage.startNode();
    const { messages } = await watcher.streamState();
    expect(messages).toBeGreaterThan(4);
    expect(await stage.seize(journal.nodeId)).toHaveLength(4000);
    expect(await watcher.streamState()).toMatchObject({ messages: messages + 1 });
    proxy.passes = () => true;
    await reports.heard("onFenced");
  });

  test("cut a snapshot off: the next one takes its place", async () => {
    const proxy = await stage.startProxy();
    const node = await stage.startNode({ url: proxy.url });
    const { journal, reports } = node;
    connect(node, 4000);
    await journal.whenReplicated();
    let acks = 0;
    proxy.passes = (text) => {
      if (!isAck(text)) return true;
      acks++;
      if (acks === 2) proxy.cut();
      return acks !== 2;
    };
    proxy.cut();
    await reports.heard("replica-complete 4000");
    expect(acks).toBeGreaterThan(2);
    const { messages } = await node.streamState();
    expect(messages).toBe(acks - 2);
    expect(await stage.seize(journal.nodeId)).toEqual(connected(4000));
  });

  test("do not keep a close waiting without end", async () => {
    const proxy = await stage.startProxy();
    const node = await stage.startNode({ url: proxy.url });
    proxy.passes = () => false;
    connect(node, 1);
    await within(node.journal.close(), "the end");
    await stage.server.stop();
    const away = stage.node();
    await within(away.journal.close(), "the end without NATS");
  });
});

describe("the stream", () => {
  test("is made once by nodes that start together", async () => {
    const nodes = await Promise.all(Array.from({ length: 5 }, () => stage.startNode()));
    for (const { reports } of nodes)
      expect(reports.told.filter((words) => !words.startsWith("nats-up"))).toEqual(["replica-complete 0"]);
  });

  test("is used as it is where it has other settings, and they are said once", async () => {
    const first = await stage.startNode();
    await first.deleteStream();
    await first.createStream({ subjects: ["hubwire.journal.*"], max_bytes: 5_000_000 });
    const node = await stage.startNode();
    const said =
      'replica-settings-differ stream hubwire_journal: discard is "old", not "new", max_bytes is 5000000, not -1';
    expect(node.reports.told).toContain(said);
    await node.journal.connecting(factsOf("c1"));
    await stage.server.restart();
    await node.reports.heard("replica-complete", 2);
    expect(node.reports.told.filter((words) => words.startsWith("replica-settings-differ"))).toHaveLength(1);
    expect(await stage.seize(node.journal.nodeId)).toEqual(["c1 connecting"]);
  });

  test("that refuses messages is tried until it takes them", async () => {
    const first = await stage.startNode();
    await first.deleteStream();
    const settings = { subjects: ["hubwire.journal.*"], discard: "new" as const };
    await first.createStream({ ...settings, max_bytes: 300 });
    const node = stage.node();
    connect(node, 10);
    await node.reports.heard("replica-stopped maximum bytes exceeded");
    await first.updateStream({ ...settings, max_bytes: -1 });
    await node.reports.heard("replica-complete 10");
    expect(node.reports.told.filter((words) => words.startsWith("replica-stopped"))).toHaveLength(1);
    expect(await stage.seize(node.journal.nodeId)).toEqual(connected(10));
  });

  test("cannot be had where the account has no JetStream: that is said once, and tried again", async () => {
    await using bare = await ReplicaStage.start({
      config: 'accounts { A { users: [{ user: "a", password: "b" }] } }\nno_auth_user: "a"\n',
    });
    const node = bare.node();
    await node.reports.heard("replica-stopped");
    expect(node.reports.told.filter((words) => !words.startsWith("nats-up"))).toHaveLength(1);
    expect(node.journal.isCopying).toBe(false);
  });
});

/** Resolves when the server has a message of the node's replica. Asked through another link: the node's own is silent. */
async function published({ journal }: ReplicaNode): Promise<void> {
  const watcher = await stage.startNode();
  while ((await watcher.stream.last(journal.nodeId)) === null) await new Promise(setImmediate);
}

describe("a log that nobody writes to", () => {
  test("is written anew where its stream is deleted, and where another node has made the stream again", async () => {
    const first = await stage.startNode();
    const second = await stage.startNode();
    connect(first, 3, "first");
    connect(second, 2, "second");
    await first.journal.whenReplicated();
    await second.journal.whenReplicated();
    await first.deleteStream();
    for (const { reports } of [first, second]) await reports.heard("replica-complete", 2);
    for (const [node, count, name] of [
      [first, 3, "first"],
      [second, 2, "second"],
    ] as const) {
      const found = await node.readLog();
      expect(found.map((entry) => ("facts" in entry ? entry.facts.connectionId : entry.state))).toEqual(
        connected(count, name).map((words) => words.replace(" connecting", "")),
      );
    }
  });
});
