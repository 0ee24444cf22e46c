import { afterAll, describe, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dueOf, factsOf, JOURNAL_KINDS, JournalMakers, NOW_MS } from "../../test/support/journal-kinds.ts";
import { needs } from "../../test/support/programs.ts";
import type { Journal } from "../core/ports/journal.ts";
import type { DialectName } from "../protocol/dialect-names.ts";

/** Facts that only a newer version knows. */
const rare = { news: "https://a.example", more: [1, { é: null }], dialect: "newer" as unknown as DialectName };
const END = { code: 1006, reason: "gateway restarted" };

const makers = new JournalMakers();

afterAll(() => makers[Symbol.asyncDispose]());

/** What every journal keeps to. Source: `Journal` in core/ports/journal.ts. */
describe.each(JOURNAL_KINDS)("%s", (_name, isInNats, create) => {
  const { afterEach, beforeEach, test } = isInNats ? needs("nats-server") : needs();
  let folder: string;
  let journal: Journal;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "hubwire-journal-"));
    journal = await create(makers, folder);
  });
  afterEach(async () => {
    await journal.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function waitingIds(): Promise<string[]> {
    return (await journal.waiting(0, 1_000_000)).map(({ connectionId }) => connectionId);
  }
  async function deadIds(): Promise<string[]> {
    return (await journal.deadLetters(0, 1_000_000)).map(({ facts }) => facts.connectionId);
  }
  async function bury(...connectionIds: string[]): Promise<void> {
    for (const [index, id] of connectionIds.entries()) {
      await journal.due(dueOf(id));
      await journal.died(id, { diedAtMs: NOW_MS + index, cause: `it answered 500 to ${id}`, keptForMs: 0 });
    }
  }

  test("is writable, and has nothing to begin with", async () => {
    expect(journal.isWritable).toBe(true);
    expect(await journal.recover(END, NOW_MS)).toBe(0);
    expect(await waitingIds()).toEqual([]);
    expect(await deadIds()).toEqual([]);
    expect(await journal.read("nobody")).toBeNull();
  });

  test("makes a connection due that was connecting, with an unknown outcome", async () => {
    await journal.connecting(factsOf("c1"));
    expect(await journal.recover(END, NOW_MS)).toBe(1);
    const due = {
      facts: factsOf("c1"),
      end: END,
      connectOutcomeUnknown: true,
      dueSinceMs: NOW_MS,
      triedForMs: 0,
      refusedForMs: 0,
    };
    expect(await journal.read("c1")).toEqual(due);
  });

  test("makes a connection due that was connected, with the user that the upstream named", async () => {
    await journal.connecting(factsOf("c1", { userId: "of the token", rare }));
    await journal.connected("c1", "of the answer");
    expect(await journal.recover(END, NOW_MS)).toBe(1);
    const facts = factsOf("c1", { userId: "of the answer", rare });
    expect(await journal.read("c1")).toEqual({
      facts,
      end: END,
      connectOutcomeUnknown: false,
      dueSinceMs: NOW_MS,
      triedForMs: 0,
      refusedForMs: 0,
    });
  });

  test("makes a connection due that was connected without a user, also where the token had named one", async () => {
    await journal.connecting(factsOf("c1", { userId: null }));
    await journal.connected("c1", null);
    await journal.connecting(factsOf("c2", { userId: "of the token" }));
    await journal.connected("c2", null);
    expect(await journal.recover(END, NOW_MS)).toBe(2);
    for (const id of ["c1", "c2"]) expect((await journal.read(id))?.facts.userId).toBeNull();
  });

  test("recovers in the order of connecting, behind what waits, and leaves due and dead as they are", async () => {
    await journal.due(dueOf("waits"));
    await bury("dead");
    for (const id of ["b", "a", "c"]) await journal.connecting(factsOf(id));
    await journal.connected("a", "ann");
    expect(await journal.recover(END, NOW_MS + 5)).toBe(3);
    expect(await waitingIds()).toEqual(["waits", "b", "a", "c"]);
    expect(await journal.read("waits")).toEqual(dueOf("waits"));
    expect(await deadIds()).toEqual(["dead"]);
    expect(await journal.due(dueOf("later"))).toBeGreaterThan((await journal.waiting(0, 4)).at(-1)?.place ?? 0);
  });

  test("owes nothing any more for settled connections, from any state", async () => {
    for (const id of ["connecting", "connected", "due"]) await journal.connecting(factsOf(id));
    await journal.connected("connected", "ann");
    await journal.due(dueOf("due"));
    await bury("dead");
    for (const id of ["connecting", "connected", "due", "dead"]) await journal.settled(id);
    expect(await journal.recover(END, NOW_MS)).toBe(0);
    expect(await waitingIds()).toEqual([]);
    expect(await deadIds()).toEqual([]);
  });

  test("keeps what is not settled when another is", async () => {
    await Promise.all([journal.connecting(factsOf("c1")), journal.connecting(factsOf("C1"))]);
    await journal.settled("c1");
    expect(await journal.recover(END, NOW_MS)).toBe(1);
    expect(await waitingIds()).toEqual(["C1"]);
  });

  test("takes unknown ids: settled and died do nothing, operators find none, connected rejects", async () => {
    await journal.settled("nobody");
    await journal.died("nobody", { diedAtMs: NOW_MS, cause: "none", keptForMs: 0 });
    expect(await journal.revive(["nobody"], NOW_MS)).toBe(0);
    expect(await journal.drop(["nobody"])).toBe(0);
    expect(await refusalOf(journal.connected("nobody", "ann"))).toContain("the journal has no connection nobody");
    expect(await journal.recover(END, NOW_MS)).toBe(0);
    expect(await waitingIds()).toEqual([]);
    expect(await deadIds()).toEqual([]);
  });

  test("connected does not bring back what is due", async () => {
    await journal.connecting(factsOf("c1"));
    await journal.due(dueOf("c1"));
    expect(await refusalOf(journal.connected("c1", "ann"))).toContain("no connection c1");
    expect(await journal.read("c1")).toEqual(dueOf("c1"));
  });

  test("keeps every fact of a due disconnect, and gives it back once only", async () => {
    const due = dueOf("c1", {
      facts: factsOf("c1", { rare }),
      end: { code: 4321, reason: "bye" },
      connectOutcomeUnknown: true,
      dueSinceMs: 1.5,
      triedForMs: 2.5,
      refusedForMs: 1.5,
      nth: "second",
    });
    await journal.connecting(due.facts);
    const place = await journal.due(due);
    expect(await journal.read("c1")).toEqual(due);
    const ages = { triedForMs: 2.5, refusedForMs: 1.5 };
    expect(await journal.waiting(0, 10)).toEqual([
      { connectionId: "c1", hub: "Chat", dialect: rare.dialect, place, ...ages },
    ]);
    expect(await journal.recover(END, NOW_MS)).toBe(0);
  });

  test("takes a due disconnect whose connection it never heard of", async () => {
    await journal.due(dueOf("c1"));
    expect(await journal.read("c1")).toEqual(dueOf("c1"));
  });

  test("reads nothing that does not wait", async () => {
    await journal.connecting(factsOf("c1"));
    await bury("c2");
    expect(await journal.read("c1")).toBeNull();
    expect(await journal.read("c2")).toBeNull();
  });

  test("gives later ones larger places, and one that is due again a new one", async () => {
    const first = await journal.due(dueOf("c1"));
    const second = await journal.due(dueOf("c2"));
    expect(first).toBeGreaterThan(0);
    expect(second).toBeGreaterThan(first);
    const again = await journal.due(dueOf("c1", { dueSinceMs: NOW_MS + 1 }));
    expect(again).toBeGreaterThan(second);
    expect((await journal.waiting(0, 10)).map(({ place }) => place)).toEqual([second, again]);
    expect(await waitingIds()).toEqual(["c2", "c1"]);
    await journal.settled("c1");
    expect(await journal.due(dueOf("c3"))).toBeGreaterThan(again);
  });

  test("pages: behind a place, at most the limit", async () => {
    const ids = Array.from({ length: 25 }, (_, index) => `c${index}`);
    await Promise.all(ids.map((id) => journal.due(dueOf(id))));
    const seen: string[] = [];
    for (let after = 0; ; ) {
      const page = await journal.waiting(after, 10);
      expect(page.length).toBeLessThanOrEqual(10);
      seen.push(...page.map(({ connectionId }) => connectionId));
      const last = page.at(-1);
      if (last === undefined) break;
      after = last.place;
    }
    expect(seen).toEqual(ids);
  });

  test("keeps a dead letter with its death, in order, until it is dropped", async () => {
    await bury("c2", "c1", "c3");
    const letters = await journal.deadLetters(0, 10);
    const place = letters[1]?.place ?? 0;
    const death = { diedAtMs: NOW_MS + 1, keptForMs: 0, cause: "it answered 500 to c1" };
    expect(letters[1]).toEqual({ ...dueOf("c1"), ...death, place });
    expect(await waitingIds()).toEqual([]);
    expect((await journal.deadLetters(place, 10)).map(({ facts }) => facts.connectionId)).toEqual(["c3"]);
    expect(await journal.deadLetters(0, 2)).toHaveLength(2);
    expect(await journal.drop(["c1", "c1", "nobody"])).toBe(1);
    expect(await deadIds()).toEqual(["c2", "c3"]);
    expect(await journal.drop(null)).toBe(2);
    expect(await deadIds()).toEqual([]);
  });

  test("gives up only what waits", async () => {
    await journal.connecting(factsOf("c1"));
    await journal.died("c1", { diedAtMs: NOW_MS, cause: "too early", keptForMs: 0 });
    expect(await deadIds()).toEqual([]);
    expect(await journal.recover(END, NOW_MS)).toBe(1);
  });

  test("revives some: they wait behind the others, counted from now", async () => {
    await bury("c1", "c2", "c3");
    const before = await journal.due(dueOf("waits"));
    expect(await journal.revive(["c3", "c1", "c3", "waits"], NOW_MS + 9)).toBe(2);
    expect(await deadIds()).toEqual(["c2"]);
    expect(await waitingIds()).toEqual(["waits", "c3", "c1"]);
    expect((await journal.waiting(0, 2))[1]?.place).toBeGreaterThan(before);
    expect(await journal.read("c1")).toEqual(dueOf("c1", { dueSinceMs: NOW_MS + 9 }));
  });

  test("revives all, in their order, and none of those that wait", async () => {
    await journal.due(dueOf("waits"));
    await bury("c2", "c1");
    expect(await journal.revive(null, NOW_MS + 9)).toBe(2);
    expect(await waitingIds()).toEqual(["waits", "c2", "c1"]);
    expect(await journal.revive(null, NOW_MS + 9)).toBe(0);
    const last = (await journal.waiting(0, 3))[2]?.place ?? 0;
    expect(await journal.due(dueOf("later"))).toBeGreaterThan(last);
  });

  test("drops no one that waits or is connected", async () => {
    await journal.connecting(factsOf("c1"));
    await journal.due(dueOf("c2"));
    expect(await journal.drop(null)).toBe(0);
    expect(await journal.drop(["c1", "c2"])).toBe(0);
    expect(await journal.ageDeadLetters(1000, 0)).toBe(0);
    expect(await journal.recover(END, NOW_MS)).toBe(1);
    expect(await waitingIds()).toEqual(["c2", "c1"]);
  });

  test("drops the letters that have been kept for so long, with any date of death", async () => {
    await bury("c0");
    await journal.ageDeadLetters(1000, 5000);
    await bury("c1");
    await journal.due(dueOf("of another node"));
    await journal.died("of another node", { diedAtMs: 3 * NOW_MS, cause: "its own", keptForMs: 2000 });
    expect((await journal.deadLetters(0, 9)).map(({ keptForMs }) => keptForMs)).toEqual([1000, 0, 2000]);
    expect(await journal.ageDeadLetters(2999, 5000)).toBe(0);
    expect(await journal.ageDeadLetters(1, 5000)).toBe(1);
    expect(await deadIds()).toEqual(["c0", "c1"]);
    expect(await journal.ageDeadLetters(1000, 5000)).toBe(1);
    expect(await deadIds()).toEqual(["c1"]);
  });

  test("stores how long a waiting one has been tried, in its place, and forgets that once it is revived", async () => {
    const ages = { triedForMs: 9000, refusedForMs: 3000 };
    await journal.due(dueOf("c1", { triedForMs: 500 }));
    await journal.due(dueOf("c2"));
    await journal.tried("c1", ages);
    await journal.tried("unknown", ages);
    expect(await journal.waiting(0, 9)).toMatchObject([
      { connectionId: "c1", ...ages },
      { connectionId: "c2", triedForMs: 0, refusedForMs: 0 },
    ]);
    expect(await journal.read("c1")).toEqual(dueOf("c1", ages));
    await journal.died("c1", { diedAtMs: NOW_MS, cause: "500", keptForMs: 0 });
    await journal.tried("c1", { triedForMs: 1, refusedForMs: 1 });
    expect(await journal.deadLetters(0, 9)).toMatchObject([ages]);
    await journal.revive(null, NOW_MS);
    expect(await journal.read("c1")).toEqual(dueOf("c1"));
    await journal.due(dueOf("c3", { nth: "first" }));
    await journal.died("c3", { diedAtMs: NOW_MS, cause: "500", keptForMs: 0 });
    await journal.revive(["c3"], NOW_MS);
    expect(await journal.read("c3")).toEqual(dueOf("c3", { nth: "first" }));
  });

  test("does in order what is called in one turn", async () => {
    const calls = [
      journal.connecting(factsOf("c1")),
      journal.connected("c1", "ann"),
      journal.due(dueOf("c1")),
      journal.due(dueOf("c2")),
      journal.died("c1", { diedAtMs: NOW_MS, cause: "none", keptForMs: 0 }),
      journal.settled("c2"),
      journal.connecting(factsOf("c2")),
    ];
    const between = journal.waiting(0, 10);
    calls.push(journal.due(dueOf("c3")));
    await Promise.all(calls);
    expect(await between).toEqual([]);
    expect(await waitingIds()).toEqual(["c3"]);
    expect(await deadIds()).toEqual(["c1"]);
    expect(await journal.recover(END, NOW_MS)).toBe(1);
  });

  test("keeps names and texts as they are, with any characters", async () => {
    const odd = [
      "",
      "größe 🙂",
      "'; DROP TABLE connections; --",
      '"%_\\?',
      "a\r\nb\tc\u0001",
      " \u202eשלום ",
      "x".repeat(100_000),
    ];
    for (const [index, text] of odd.entries()) {
      const userId = text === "" ? null : text;
      const facts = { hub: text, userId, claims: text, clientQuery: text, forwardedFor: text };
      const due = dueOf(`${text}${index}`, {
        facts: factsOf(`${text}${index}`, facts),
        end: { code: 1000, reason: text },
      });
      await journal.connecting(due.facts);
      await journal.connected(due.facts.connectionId, userId);
      await journal.due(due);
      expect(await journal.read(due.facts.connectionId)).toEqual(due);
      await journal.died(due.facts.connectionId, { diedAtMs: NOW_MS, cause: text, keptForMs: 0 });
      expect((await journal.deadLetters(0, 100)).at(-1)).toMatchObject({ ...due, cause: text });
    }
  });

  test("keeps the facts of the call, though their owner changes them later", async () => {
    const facts = { ...factsOf("c1") };
    const connecting = journal.connecting(facts);
    facts.userId = "someone else";
    await connecting;
    await journal.recover(END, NOW_MS);
    expect((await journal.read("c1"))?.facts).toEqual(factsOf("c1"));
  });

  test("keeps ten thousand", async () => {
    const ids = Array.from({ length: 10_000 }, (_, index) => `c${index}`);
    await Promise.all(ids.map((id) => journal.connecting(factsOf(id))));
    await Promise.all(ids.map((id) => journal.connected(id, `user of ${id}`)));
    expect(await journal.recover(END, NOW_MS)).toBe(10_000);
    expect(await waitingIds()).toEqual(ids);
    expect((await journal.read("c9999"))?.facts.userId).toBe("user of c9999");
    await Promise.all(ids.map((id) => journal.died(id, { diedAtMs: NOW_MS, cause: "none", keptForMs: 0 })));
    expect(await journal.revive(null, NOW_MS)).toBe(10_000);
    await Promise.all(ids.map((id) => journal.settled(id)));
    expect(await waitingIds()).toEqual([]);
  });

  test("may be closed twice", async () => {
    await journal.connecting(factsOf("c1"));
    await journal.close();
    await journal.close();
  });
});

/**
 * Why a promise was rejected.
 *
 * Not `expect(…).rejects`: Bun waits for the promise within that call, where no immediate runs, and the journal writes by one.
 */
async function refusalOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  throw new Error("it was not rejected");
}
