import { expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ignoreNotices, wordsOf } from "../../test/support/notices.ts";
import { needs } from "../../test/support/programs.ts";
import { dueOf, factsOf, type ReplicaNode, ReplicaStage, statesOf } from "../../test/support/replica-stage.ts";
import type { DueDisconnect } from "../core/ports/journal.ts";
import type { Report } from "../protocol/notices.ts";
import { MemoryJournal } from "./memory.ts";
import { ReplicaWait } from "./replica-wait.ts";
import { ReplicatedJournal } from "./replicated.ts";
import { SqliteJournal } from "./sqlite.ts";

const { afterEach, beforeEach, describe, test } = needs("nats-server");

let stage: ReplicaStage;
let folder: string;
let stack: AsyncDisposableStack;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  stage = stack.use(await ReplicaStage.start());
  folder = mkdtempSync(join(tmpdir(), "hubwire-journal-"));
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
});
afterEach(() => stack.disposeAsync());

/** A journal on a node whose connects wait for their copy. */
async function open(
  node: ReplicaNode,
  whenLeased: () => Promise<void> | undefined = () => undefined,
): Promise<ReplicatedJournal> {
  const local = await SqliteJournal.open({
    dataDir: join(folder, "data"),
    synchronous: "normal",
    report: ignoreNotices,
  });
  stack.defer(() => local.close());
  return new ReplicatedJournal(local, node.journal, waitOf(node, whenLeased));
}

function waitOf(node: ReplicaNode, whenLeased: () => Promise<void> | undefined = () => undefined): ReplicaWait {
  const report: Report = (notice) => node.reports.tell(wordsOf(notice));
  const wait = new ReplicaWait({ copy: node.journal, whenLeased, report });
  stack.defer(() => wait.stop());
  return wait;
}

/** What was said of entries without a copy. */
function missing({ reports }: ReplicaNode): string[] {
  return reports.told.filter((words) => words.startsWith("replica-missing"));
}

/** Whether a promise is still open after a round trip to NATS. */
async function isOpen(promise: Promise<unknown>, node: ReplicaNode): Promise<boolean> {
  let isDone = false;
  promise.then(() => {
    isDone = true;
  });
  await node.streamState();
  await node.streamState();
  return !isDone;
}

class HeldJournal extends MemoryJournal {
  readonly held = Promise.withResolvers<void>();

  override async due(disconnect: DueDisconnect): Promise<number> {
    await this.held.promise;
    return await super.due(disconnect);
  }
}

describe("a journal whose connects wait for their copy", () => {
  test("has told NATS of a connection, and of its user, when the call resolves", async () => {
    const node = await stage.startNode();
    const journal = await open(node);
    for (let index = 0; index < 20; index++) {
      await journal.connecting(factsOf(`c${index}`));
      expect(statesOf(await node.readLog())).toContain(`c${index} connecting`);
      await journal.connected(`c${index}`, "bob");
      expect(await node.readLog()).toContainEqual({
        state: "connected",
        facts: factsOf(`c${index}`, { userId: "bob" }),
      });
    }
  });

  test("has told NATS of all connections that come at once, in few messages", async () => {
    const node = await stage.startNode();
    const journal = await open(node);
    const ids = Array.from({ length: 1000 }, (_empty, index) => `c${index}`);
    await Promise.all(
      ids.map(async (id) => {
        await journal.connecting(factsOf(id));
        await journal.connected(id, "bob");
      }),
    );
    expect(new Set(statesOf(await node.readLog()))).toEqual(new Set(ids.map((id) => `${id} connected`)));
    expect((await node.streamState()).messages).toBeLessThan(200);
  });

  test("waits for the copy of a call that is behind another at the disk", async () => {
    const node = await stage.startNode();
    const local = new HeldJournal();
    const journal = new ReplicatedJournal(local, node.journal, waitOf(node));
    const due = journal.due(dueOf("c1"));
    const connecting = journal.connecting(factsOf("c2"));
    expect(await isOpen(connecting, node)).toBe(true);
    local.held.resolve();
    await Promise.all([due, connecting]);
    expect(statesOf(await node.readLog())).toEqual(["c1 due", "c2 connecting"]);
  });

  test("waits for the node's lease too, without which nobody would take its log over", async () => {
    const node = await stage.startNode();
    const lease = Promise.withResolvers<void>();
    const journal = await open(node, () => lease.promise);
    const connecting = journal.connecting(factsOf("c1"));
    expect(await isOpen(connecting, node)).toBe(true);
    lease.resolve();
    await connecting;
    expect(missing(node)).toEqual([]);
  });

  test("lets in without a copy while NATS is away, says so with a count, and waits again when it is back", async () => {
    const node = await stage.startNode();
    const journal = await open(node);
    await journal.connecting(factsOf("copied"));
    await stage.server.stop();
    await node.reports.heard("replica-stopped");
    await journal.connecting(factsOf("c1"));
    await journal.connected("c1", "bob");
    await journal.connecting(factsOf("c2"));
    expect(missing(node)).toEqual(["replica-missing 1"]);
    await stage.server.restart();
    await node.reports.heard("replica-complete", 2);
    await journal.connecting(factsOf("c3"));
    expect(statesOf(await node.readLog())).toEqual([
      "copied connecting",
      "c1 connected",
      "c2 connecting",
      "c3 connecting",
    ]);
  });

  test("lets in without a copy where NATS stays silent, and the next ones at once", async () => {
    const node = await stage.startNode();
    const journal = await open(node);
    await stage.server.freeze();
    await journal.connecting(factsOf("c1"));
    expect(missing(node)).toEqual(["replica-missing 1"]);
    // The replica still waits for NATS: these do not.
    await Promise.all(["c2", "c3"].map((id) => journal.connecting(factsOf(id))));
    stage.server.thaw();
    await node.journal.whenReplicated();
    await journal.connecting(factsOf("c4"));
    expect(statesOf(await node.readLog())).toContain("c4 connecting");
  });

  test("waits for its new log where the old one was taken over meanwhile", async () => {
    const node = await stage.startNode();
    const journal = await open(node);
    await journal.connecting(factsOf("old"));
    const other = await stage.startNode();
    expect(statesOf(await other.logs.seize(node.journal.nodeId))).toEqual(["old connecting"]);
    const connecting = journal.connecting(factsOf("new"));
    await node.reports.heard("onFenced");
    expect(node.journal.moveTo("node-new")).toEqual(["old"]);
    await connecting;
    await journal.connecting(factsOf("newer"));
    expect(statesOf(await node.readLog())).toEqual(["new connecting", "newer connecting"]);
  });
});
