import { expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { within } from "../../test/support/deadline.ts";
import { ignoreNotices } from "../../test/support/notices.ts";
import { needs } from "../../test/support/programs.ts";
import {
  dueOf,
  factsOf,
  type ReplicaNode,
  ReplicaStage,
  refusalOf,
  statesOf,
} from "../../test/support/replica-stage.ts";
import type { DueDisconnect, Journal } from "../core/ports/journal.ts";
import { MemoryJournal } from "./memory.ts";
import { ReplicatedJournal } from "./replicated.ts";
import { SqliteJournal } from "./sqlite.ts";

const { afterEach, beforeEach, describe, test } = needs("nats-server");

const END = { code: 1006, reason: "gateway restarted" };

let stage: ReplicaStage;
let folder: string;
let locals: SqliteJournal[];

beforeEach(async () => {
  stage = await ReplicaStage.start();
  folder = mkdtempSync(join(tmpdir(), "hubwire-journal-"));
  locals = [];
});
afterEach(async () => {
  await stage[Symbol.asyncDispose]();
  for (const local of locals) await local.close();
  rmSync(folder, { recursive: true, force: true });
});

async function openLocal(): Promise<SqliteJournal> {
  const local = await SqliteJournal.open({
    dataDir: join(folder, "data"),
    synchronous: "normal",
    report: ignoreNotices,
  });
  locals.push(local);
  return local;
}
async function openCopied(): Promise<{ journal: ReplicatedJournal; local: SqliteJournal; node: ReplicaNode }> {
  const node = await stage.startNode();
  const local = await openLocal();
  return { journal: new ReplicatedJournal(local, node.journal), local, node };
}
function copyOf({ journal }: ReplicaNode): string[] {
  return statesOf([...journal.entries.all()].map(([, { entry }]) => entry));
}

/** A local journal whose answers come when, and as, the test says. */
class HeldJournal extends MemoryJournal {
  readonly calls: PromiseWithResolvers<void>[] = [];

  override connecting(): Promise<void> {
    return this.#hold();
  }
  override settled(): Promise<void> {
    return this.#hold();
  }
  override async due(_disconnect: DueDisconnect): Promise<number> {
    await this.#hold();
    return 1;
  }

  #hold(): Promise<void> {
    const call = Promise.withResolvers<void>();
    this.calls.push(call);
    return call.promise;
  }
}

function call(journal: Journal, name: string, id: string, time: number): Promise<unknown> {
  switch (name) {
    case "connecting":
      return journal.connecting(factsOf(id, { clientQuery: `n=${time}` }));
    case "connected":
      return journal.connected(id, `user ${time}`);
    case "due":
      return journal.due(dueOf(id, { dueSinceMs: time }));
    case "died":
      return journal.died(id, { diedAtMs: time, cause: "it answered 500", keptForMs: 0 });
    case "revive":
      return journal.revive(time % 2 === 0 ? null : [id], time);
    case "drop":
      return journal.drop([id]);
    default:
      return journal.settled(id);
  }
}

describe("a journal with a copy", () => {
  test("copies what its local one has done, for the node that takes over", async () => {
    const { journal, node } = await openCopied();
    await Promise.all(["c1", "c2", "c3"].map((id) => journal.connecting(factsOf(id))));
    await journal.connected("c1", "bob");
    await journal.due(dueOf("c2"));
    await journal.settled("c3");
    await node.journal.whenReplicated();
    const other = await stage.startNode();
    expect(await other.logs.seize(node.journal.nodeId)).toEqual([
      { state: "connected", facts: factsOf("c1", { userId: "bob" }) },
      { state: "due", due: dueOf("c2") },
    ]);
  });

  test("waits for NATS with nothing: connects, reads and closes go on without it", async () => {
    const node = stage.node();
    await node.reports.heard("replica-complete");
    await stage.server.stop();
    await node.reports.heard("replica-stopped");
    const journal = new ReplicatedJournal(await openLocal(), node.journal);
    expect(journal.isWritable).toBe(true);
    expect(await journal.recover(END, 1)).toBe(0);
    await journal.connecting(factsOf("c1"));
    await journal.connected("c1", "bob");
    const place = await journal.due(dueOf("c1"));
    expect(await journal.waiting(0, 10)).toMatchObject([{ connectionId: "c1", place }]);
    await stage.server.restart();
    await node.reports.heard("replica-complete 1");
    expect(await stage.seize(node.journal.nodeId)).toEqual(["c1 due"]);
    await stage.server.stop();
    await within(journal.close(), "the end");
  });

  test("tells the copy of nothing that its local one has refused", async () => {
    const { journal, local, node } = await openCopied();
    await journal.connecting(factsOf("c1"));
    await local.close();
    expect(await refusalOf(journal.connecting(factsOf("c2")))).toContain("closed");
    expect(copyOf(node)).toEqual(["c1 connecting"]);
  });

  test("tells the replica in the order of the calls, with the answers in any order", async () => {
    const node = await stage.startNode();
    const local = new HeldJournal();
    const journal = new ReplicatedJournal(local, node.journal);
    const calls = [
      journal.connecting(factsOf("c1")),
      journal.due(dueOf("c1")),
      journal.settled("c1"),
      journal.connecting(factsOf("c2")),
      journal.connecting(factsOf("c1")).catch(() => null),
    ];
    const [first, second, third, fourth, fifth] = local.calls;
    third?.resolve();
    fourth?.resolve();
    await Promise.all([calls[2], calls[3]]);
    expect(copyOf(node)).toEqual([]);
    first?.resolve();
    await calls[0];
    expect(copyOf(node)).toEqual(["c1 connecting"]);
    fifth?.reject(new Error("the disk is full"));
    second?.resolve();
    await Promise.all(calls);
    expect(copyOf(node)).toEqual(["c2 connecting"]);
  });

  test("keeps for the replica the facts of the call, though their owner changes them before the disk has them", async () => {
    const { journal, node } = await openCopied();
    const facts = { ...factsOf("c1") };
    const connecting = journal.connecting(facts);
    facts.userId = "someone else";
    await connecting;
    expect(node.journal.entries.find("c1")?.entry).toEqual({ state: "connecting", facts: factsOf("c1") });
  });

  test("has at its start all in the replica that an earlier process left: orphans, waiting ones and dead letters", async () => {
    const before = await openLocal();
    const ids = Array.from({ length: 2500 }, (_, index) => `due${index}`);
    await Promise.all(ids.map((id) => before.due(dueOf(id))));
    await before.connecting(factsOf("orphan"));
    await before.due(dueOf("dead"));
    await before.died("dead", { diedAtMs: 7, cause: "it answered 500", keptForMs: 0 });
    await before.close();
    const { journal, node } = await openCopied();
    expect(await journal.recover(END, 5)).toBe(1);
    await node.journal.whenReplicated();
    const other = await stage.startNode();
    const found = await other.logs.seize(node.journal.nodeId);
    expect(statesOf(found)).toEqual([...ids.map((id) => `${id} due`), "orphan due", "dead dead"]);
    const facts = factsOf("orphan");
    expect(found.at(-2)).toEqual({
      state: "due",
      due: { facts, end: END, connectOutcomeUnknown: true, dueSinceMs: 5, triedForMs: 0, refusedForMs: 0 },
    });
    expect(found.at(-1)).toEqual({
      state: "dead",
      letter: { ...dueOf("dead"), diedAtMs: 7, keptForMs: 0, cause: "it answered 500" },
    });
  });

  test("owes nothing, here or in its new log, for what it has disowned, with anything on its way", async () => {
    const { journal, node } = await openCopied();
    for (const id of ["c1", "c2"]) await journal.connecting(factsOf(id));
    await node.journal.whenReplicated();
    await journal.connecting(factsOf("new"));
    const due = journal.due(dueOf("c1"));
    const copied = node.journal.moveTo("node-new");
    await journal.disown(copied);
    await due;
    expect(copied).toEqual(["c1", "c2"]);
    expect(await journal.recover(END, 5)).toBe(1);
    expect(await journal.waiting(0, 10)).toMatchObject([{ connectionId: "new" }]);
    await node.journal.whenReplicated();
    expect(await stage.seize("node-new")).toEqual(["new due"]);
  });

  test("has after any operations in its log just what its local one has", async () => {
    const { journal, local, node } = await openCopied();
    const names = ["connecting", "connected", "due", "died", "settled", "revive", "drop", "wait"] as const;
    const step = fc.tuple(fc.constantFrom(...names), fc.constantFrom("a", "b", "c", "d"), fc.nat());
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60, size: "max" }), async (steps) => {
        const calls: Promise<unknown>[] = [];
        for (const [name, id, time] of steps) {
          if (name === "wait") await node.journal.whenReplicated();
          else calls.push(call(journal, name, id, time).catch(() => null));
        }
        await Promise.all(calls);
        await node.journal.whenReplicated();
        const waiting = await Promise.all(
          (await local.waiting(0, 10)).map(({ connectionId }) => local.read(connectionId)),
        );
        const dead = (await local.deadLetters(0, 10)).map(({ place: _place, ...letter }) => letter);
        const found = await node.readLog();
        expect(found.flatMap((entry) => (entry.state === "due" ? [entry.due] : []))).toEqual(
          waiting as DueDisconnect[],
        );
        expect(found.flatMap((entry) => (entry.state === "dead" ? [entry.letter] : []))).toEqual(dead);
      }),
      { numRuns: 25 },
    );
  });
});
