import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { DEADLINE_MS, within } from "../../test/support/deadline.ts";
import { JournalThreads } from "../../test/support/journal-threads.ts";
import { hearing } from "../../test/support/notices.ts";
import { canMount, SmallDisk } from "../../test/support/small-disk.ts";
import type { DueDisconnect } from "../core/ports/journal.ts";
import type { ConnectionFacts } from "../protocol/facts.ts";
import { SqliteJournal } from "./sqlite.ts";

const NOW_MS = 1_700_000_000_000;
const END = { code: 1006, reason: "gateway restarted" };

function factsOf(connectionId: string): ConnectionFacts {
  return { connectionId, hub: "chat", userId: "ann", claims: "", clientQuery: "", forwardedFor: "" };
}
function dueOf(connectionId: string): DueDisconnect {
  return {
    facts: factsOf(connectionId),
    end: END,
    connectOutcomeUnknown: false,
    dueSinceMs: NOW_MS,
    triedForMs: 0,
    refusedForMs: 0,
  };
}

/** A real one: SQLite is told by the kernel. */
describe.skipIf(!canMount())("a full disk", () => {
  let disk: SmallDisk;
  let opened: SqliteJournal[];
  let told: string[];
  let writableAgain: PromiseWithResolvers<void>;

  beforeEach(() => {
    disk = new SmallDisk();
    opened = [];
    told = [];
    writableAgain = Promise.withResolvers();
  });
  afterEach(async () => {
    for (const journal of opened) await journal.close();
    disk[Symbol.dispose]();
  });

  async function open(): Promise<SqliteJournal> {
    const report = hearing({
      "journal-damaged": () => void told.push("damaged"),
      "journal-lost": ({ reason }) => void told.push(`lost: ${reason}`),
      "journal-unwritable": () => void told.push("unwritable"),
      "journal-writable": () => {
        told.push("writable");
        writableAgain.resolve();
      },
    });
    const journal = await SqliteJournal.open({ dataDir: join(disk.folder, "data"), synchronous: "normal", report });
    opened.push(journal);
    return journal;
  }

  /** Fills the disk until the journal, too, can write no more. */
  async function fill(journal: SqliteJournal): Promise<void> {
    const deadline = Date.now() + DEADLINE_MS;
    for (let number = 0; journal.isWritable && Date.now() < deadline; number++) {
      disk.fill();
      const [written] = await Promise.allSettled([journal.connecting(factsOf(`filler-${number}`))]);
      if (written.status === "fulfilled") await Promise.allSettled([journal.settled(`filler-${number}`)]);
    }
    expect(journal.isWritable).toBe(false);
  }

  async function waitingIds(journal: SqliteJournal): Promise<string[]> {
    return (await journal.waiting(0, 100_000)).map(({ connectionId }) => connectionId);
  }
  async function deadIds(journal: SqliteJournal): Promise<string[]> {
    return (await journal.deadLetters(0, 100_000)).map(({ facts }) => facts.connectionId);
  }
  async function isRejected(promise: Promise<unknown>): Promise<boolean> {
    return promise.then(
      () => false,
      () => true,
    );
  }

  test("refuses what must be on it, keeps the rest, shows both as one, and has it all once there is space", async () => {
    const journal = await open();
    for (const id of ["lives", "leaves", "dies", "waited"]) await journal.connecting(factsOf(id));
    await journal.due(dueOf("waited"));
    await journal.due(dueOf("dies"));
    await fill(journal);

    expect(await isRejected(journal.connecting(factsOf("new")))).toBe(true);
    expect(await isRejected(journal.connected("lives", "ann"))).toBe(true);
    await journal.settled("leaves");
    const place = await journal.due(dueOf("owed"));
    await journal.died("dies", { diedAtMs: NOW_MS, cause: "none", keptForMs: 0 });
    await journal.due(dueOf("waited"));
    await journal.due(dueOf("both"));
    await journal.died("both", { diedAtMs: NOW_MS, cause: "soon", keptForMs: 0 });
    const asItIs = async () => ({
      waiting: await waitingIds(journal),
      dead: await deadIds(journal),
      owed: await journal.read("owed"),
      dies: await journal.read("dies"),
      both: await journal.read("both"),
    });
    const expected = {
      waiting: ["owed", "waited"],
      dead: ["dies", "both"],
      owed: dueOf("owed"),
      dies: null,
      both: null,
    };
    expect(await asItIs()).toEqual(expected);
    expect((await journal.waiting(0, 1))[0]?.place).toBe(place);
    expect(await isRejected(journal.drop(null))).toBe(true);
    expect(await isRejected(journal.revive(null, NOW_MS))).toBe(true);
    expect(told).toEqual(["unwritable"]);

    disk.free();
    await within(writableAgain.promise, "the journal to be writable again");
    expect(journal.isWritable).toBe(true);
    expect(await asItIs()).toEqual(expected);
    await journal.close();

    const again = await open();
    expect(await again.recover(END, NOW_MS)).toBe(1);
    expect(await waitingIds(again)).toEqual(["owed", "waited", "lives"]);
    expect(await deadIds(again)).toEqual(["dies", "both"]);
    expect(told).toEqual(["unwritable", "writable"]);
  });

  test("keeps thousands, refuses a connect without a word to the thread, and writes them in parts once there is space", async () => {
    using threads = new JournalThreads();
    const ids = Array.from({ length: 2500 }, (_, index) => `c${index}`);
    const journal = await open();
    await fill(journal);
    await Promise.all(ids.map((id) => journal.due(dueOf(id))));
    await Promise.all(ids.map((id, index) => (index % 2 === 0 ? journal.settled(id) : undefined)));
    const odd = ids.filter((_, index) => index % 2 === 1);
    threads.batchSizes.length = 0;
    const refused = [journal.connecting(factsOf("new")), journal.connected("c1", "ann"), journal.drop(null)];
    expect(await Promise.all(refused.map(isRejected))).toEqual([true, true, true]);
    expect(threads.batchSizes).toEqual([]);
    expect((await journal.waiting(0, 100_000)).map(({ connectionId }) => connectionId)).toEqual(odd);
    expect((await journal.waiting(0, 10)).map(({ connectionId }) => connectionId)).toEqual(odd.slice(0, 10));
    expect(await journal.read("c1")).toEqual(dueOf("c1"));
    expect(await journal.read("c2")).toBeNull();

    disk.free();
    await within(writableAgain.promise, "the journal to be writable again");
    expect(Math.max(...threads.batchSizes)).toBe(1001);
    // By another connection: the journal itself would answer from memory.
    const file = new Database(join(disk.folder, "data", "journal.sqlite"), { readonly: true });
    expect(file.query("SELECT COUNT(*) FROM connections WHERE id LIKE 'c%'").values()).toEqual([[odd.length]]);
    file.close();
    await journal.close();
    expect(await waitingIds(await open())).toEqual(odd);
  });

  test("that has space again is noticed although nothing is to be written", async () => {
    const journal = await open();
    await fill(journal);
    disk.free();
    await within(writableAgain.promise, "the journal to be writable again");
    await journal.connecting(factsOf("c1"));
    expect(told).toEqual(["unwritable", "writable"]);
  });

  test("lets a journal without a file start, which has one once there is space", async () => {
    disk.fill();
    const journal = await open();
    expect([journal.isWritable, told]).toEqual([false, ["unwritable"]]);
    expect(await journal.recover(END, NOW_MS)).toBe(0);
    expect(await isRejected(journal.connecting(factsOf("c1")))).toBe(true);
    await journal.due(dueOf("c2"));
    disk.free();
    await within(writableAgain.promise, "the journal to be writable again");
    expect(await waitingIds(journal)).toEqual(["c2"]);
    await journal.connecting(factsOf("c1"));
    await journal.close();
    expect(await (await open()).recover(END, NOW_MS)).toBe(1);
  });

  test("hides what an earlier process left at most until there is space", async () => {
    const earlier = await open();
    await earlier.connecting(factsOf("left"));
    await earlier.close();
    disk.fill();
    const journal = await open();
    await journal.recover(END, NOW_MS);
    // The files may have had space left.
    await fill(journal);
    disk.free();
    await within(writableAgain.promise, "the journal to be writable again");
    expect(await waitingIds(journal)).toEqual(["left"]);
  });
});
