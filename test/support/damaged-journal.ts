import { Database } from "bun:sqlite";
import { expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DueDisconnect } from "../../src/core/ports/journal.ts";
import { SqliteJournal } from "../../src/journal/sqlite.ts";
import type { ConnectionFacts } from "../../src/protocol/facts.ts";
import { hearing } from "./notices.ts";

/** More than a journal will hold in a test. */
export const ALL = 1_000_000;

/** The size of a page of SQLite's. */
export const PAGE_BYTES = 4096;

/** Of each kind in a filled journal: alive, owed, given up. About 200 pages of rows, with some of each on every page. */
export const EACH = 500;

export const NOW_MS = 1_700_000_000_000;
const END = { code: 1006, reason: "gateway restarted" };
const OWN_END = { code: 4001, reason: "bye" };

/** A page of something else. */
export const FOREIGN_PAGE: Buffer = Buffer.alloc(PAGE_BYTES, 255);

export function factsOf(connectionId: string): ConnectionFacts {
  const facts = { hub: "chat", userId: `user of ${connectionId}`, clientQuery: "a=b", forwardedFor: "10.0.0.1" };
  return { connectionId, claims: "sub: ann; ".repeat(20), ...facts };
}

export function dueOf(connectionId: string): DueDisconnect {
  return {
    facts: factsOf(connectionId),
    end: OWN_END,
    connectOutcomeUnknown: false,
    dueSinceMs: NOW_MS,
    triedForMs: 0,
    refusedForMs: 0,
  };
}

function idsOf(kind: string): string[] {
  return Array.from({ length: EACH }, (_, index) => `${kind}-${String(index).padStart(4, "0")}`);
}

/** A journal's file that is filled, damaged, and opened again. */
export class DamagedJournalStage {
  readonly folder = mkdtempSync(join(tmpdir(), "hubwire-damaged-"));
  dataDir = join(this.folder, "data");
  /** What was told of damage. */
  readonly told: string[] = [];
  readonly writableAgain: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly #opened: SqliteJournal[] = [];

  get path(): string {
    return join(this.dataDir, "journal.sqlite");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const journal of this.#opened) await journal.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async open(): Promise<SqliteJournal> {
    const report = hearing({
      "journal-damaged": ({ movedTo, reason }) => void this.told.push(`${movedTo}: ${reason}`),
      "journal-lost": ({ reason }) => void this.told.push(`lost: ${reason}`),
      "journal-unwritable": () => {},
      "journal-writable": () => this.writableAgain.resolve(),
    });
    const journal = await SqliteJournal.open({ dataDir: this.dataDir, synchronous: "normal", report });
    this.#opened.push(journal);
    return journal;
  }

  /** Connections of every state, in turns; the second half of those alive has its user's final name. */
  async fill(journal: SqliteJournal): Promise<void> {
    const [live, owed, dead] = [idsOf("live"), idsOf("owed"), idsOf("dead")];
    for (const [index, id] of live.entries()) {
      void journal.connecting(factsOf(id));
      void journal.due(dueOf(owed[index] ?? ""));
      void journal.due(dueOf(dead[index] ?? ""));
    }
    for (const id of live.slice(EACH / 2)) void journal.connected(id, `late ${id}`);
    for (const id of dead) await journal.died(id, { diedAtMs: NOW_MS, cause: "gave up", keptForMs: 0 });
  }

  async writeFilled(): Promise<void> {
    const journal = await this.open();
    await this.fill(journal);
    await journal.close();
  }

  overwrite(offset: number, bytes: Buffer, file = this.path): void {
    const whole = readFileSync(file);
    bytes.copy(whole, offset);
    writeFileSync(file, whole);
  }

  /** Where the page begins that has this connection's row. */
  rowPageOf(connectionId: string): number {
    return this.#pageWith(`user of ${connectionId}`, 13);
  }

  /** Where the page of the index of ids begins that has this connection. */
  indexPageOf(connectionId: string): number {
    return this.#pageWith(connectionId, 10);
  }

  /** Where the first page of a table or index begins. */
  rootPageOf(name: string): number {
    const database = new Database(this.path, { readonly: true });
    const sql = "SELECT rootpage AS page FROM sqlite_schema WHERE name = ?";
    const row = database.query<{ page: number }, [string]>(sql).get(name);
    database.close();
    return ((row?.page ?? Number.NaN) - 1) * PAGE_BYTES;
  }

  /** Source: sqlite.org/fileformat2, section 1.6: the first byte tells the leaves of tables, 13, from those of indexes, 10. */
  #pageWith(text: string, kind: number): number {
    const whole = readFileSync(this.path);
    for (let at = whole.indexOf(text); at !== -1; at = whole.indexOf(text, at + 1)) {
      const page = Math.floor(at / PAGE_BYTES) * PAGE_BYTES;
      if (whole[page] === kind) return page;
    }
    throw new Error(`no page of kind ${kind} has ${text}`);
  }
}

/** What a journal holds, by state, once every live connection is due. */
export async function contentOf(journal: SqliteJournal) {
  const orphans = await journal.recover(END, NOW_MS);
  const waiting = await journal.waiting(0, ALL);
  const dead = await journal.deadLetters(0, ALL);
  return { orphans, waiting: waiting.map(({ connectionId }) => connectionId), dead };
}

/** Expects a filled journal, as it was but for some rows. */
export async function expectAlmostAll(journal: SqliteJournal, lostAtMost: number): Promise<void> {
  const { orphans, waiting, dead } = await contentOf(journal);
  const owed = waiting.slice(0, waiting.length - orphans);
  const live = waiting.slice(owed.length);
  expect(3 * EACH - orphans - owed.length - dead.length).toBeLessThanOrEqual(lostAtMost);
  // Each is one that was there, none twice, and what was owed is owed in its old order.
  expect(new Set(waiting).size).toBe(waiting.length);
  expect(idsOf("owed").filter((id) => owed.includes(id))).toEqual(owed);
  expect(live.filter((id) => !idsOf("live").includes(id))).toEqual([]);
  for (const letter of dead) {
    expect(letter).toMatchObject({ ...dueOf(letter.facts.connectionId), diedAtMs: NOW_MS, cause: "gave up" });
  }
  for (const id of [owed[0], owed.at(-1)]) expect(await journal.read(id ?? "")).toEqual(dueOf(id ?? ""));
  const [early = "", late = ""] = [live.toSorted()[0], live.toSorted().at(-1)];
  expect(await journal.read(early)).toMatchObject({ facts: factsOf(early), connectOutcomeUnknown: true, end: END });
  expect(await journal.read(late)).toMatchObject({
    facts: { ...factsOf(late), userId: `late ${late}` },
    connectOutcomeUnknown: false,
    end: END,
  });
}
