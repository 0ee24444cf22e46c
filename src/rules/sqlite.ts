import { constants, Database, type Statement } from "bun:sqlite";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { GroupRule, RuleChange, RuleKey, RuleStore, RuleWrite } from "../core/rule-store.ts";
import { hubKey } from "../protocol/names.ts";
import type { Report } from "../protocol/notices.ts";
import {
  COMPANIONS,
  checkWhole,
  isDamage,
  isEmptied,
  makePrivate,
  moveAside,
  watchFiles,
} from "../storage/database-file.ts";
import type { FileWatch } from "../storage/file-watch.ts";
import { type Migration, migrate, refuseNewer } from "../storage/migrations.ts";
import { type ClockPair, type Clocks, RuleTime } from "./rule-time.ts";

const FILE_NAME = "rules.sqlite";

/** How long another process may hold the file, as a backup does. This process does nothing else meanwhile. */
const BUSY_TIMEOUT_MS = 100;

/** How often it is looked whether the path still leads to the open file. */
const LOOK_MS = 1000;

const TABLES = `
  CREATE TABLE rules (
    hub_key TEXT NOT NULL,
    hub TEXT NOT NULL,
    user_id TEXT NOT NULL,
    group_name TEXT NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    PRIMARY KEY (hub_key, user_id, group_name)
  ) STRICT, WITHOUT ROWID;
`;

/** One row: when the rules were last at work, by their own time and by the clock of the machine. */
const CLOCK = `
  CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    rule_ms INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL
  ) STRICT;
`;

/** The tables, version by version. A released migration never changes. */
const MIGRATIONS: readonly Migration[] = [
  (database) => void database.run(TABLES),
  (database) => void database.run(CLOCK),
];

/** How often the clock's row is written. After a crash the time since then counts as a stop. */
const KEEP_CLOCK_MS = 60_000;

/** What the store needs of the gateway. */
export interface SqliteRuleStoreOptions {
  /** Its folder, made with mode 0700 where it is missing. */
  readonly dataDir: string;
  readonly report: Report;
  /** Left out: those of this machine. */
  readonly clocks?: Clocks;
}

/** A file at work. */
interface OpenFile {
  readonly database: Database;
  readonly all: Statement<GroupRule, []>;
  readonly put: Statement<unknown, [string, string, string, string, number]>;
  readonly remove: Statement<unknown, [string, string, string]>;
  readonly keepClock: Statement<unknown, [number, number]>;
}

/**
 * Keeps group rules in `rules.sqlite`.
 *
 * Shape:  file 0600, folder 0700 where it is missing. The file is made with the first rule; a gateway without rules has none.
 * Order:  WAL with `synchronous=NORMAL`: what was put survives a crash of the process; a power cut may take the last.
 * Errors: every method rejects where the disk fails. The constructor throws `NewerFile` where a newer version wrote the file.
 *         A damaged file is moved aside instead, together with SQLite's files next to it. One that is removed or emptied while it
 *         is open is written anew from memory, noticed within a second or by the next call.
 * Time:   dates are by `timeMs`, which a clock that is set does not change (`rule-time.ts`). While the length of the last stop is in
 *         doubt, rules that seem to have ended stay in the file.
 */
export class SqliteRuleStore implements RuleStore {
  readonly #path: string;
  readonly #report: Report;
  #file: OpenFile | null = null;
  /** Of this process only: the file keeps none. */
  #revision = 0;
  #listener: (change: RuleChange) => void = () => {};
  #closed = false;
  /** The rules of the file, by hub key, user and group. A new file is written from it where that one is lost. */
  readonly #rules = new Map<string, GroupRule>();
  readonly #files: FileWatch;
  /** The file on the disk lacks what is here. */
  #isLost = false;
  #lookTimer: ReturnType<typeof setInterval> | null = null;
  readonly #now: () => number;
  readonly #time: RuleTime;
  #clockKeptAtMs = Number.NEGATIVE_INFINITY;
  /** Rules that were put while the time was in doubt: their dates move with its correction. Null once it is not. */
  #doubtful: Set<string> | null = null;

  constructor({ dataDir, report, clocks = MACHINE_CLOCKS }: SqliteRuleStoreOptions) {
    this.#now = clocks.now;
    this.#time = new RuleTime(clocks);
    this.#path = join(dataDir, FILE_NAME);
    this.#report = report;
    this.#files = watchFiles(this.#path);
    refuseNewer(this.#path, MIGRATIONS.length);
  }

  readonly isCurrent = true;

  timeMs(): number {
    return this.#time.nowMs();
  }

  async watch(listener: (change: RuleChange) => void): Promise<void> {
    const file = this.#openExisting();
    const misfit = this.#time.begin(file === null ? null : readClock(file.database));
    // At once: what is put from here on has dates by this time.
    if (file !== null) this.#keepClock(file);
    if (this.#time.isInDoubt) this.#doubtful = new Set();
    for (const rule of file?.all.all() ?? []) {
      this.#rules.set(keyOf(rule), rule);
      listener({ ...rule, revision: ++this.#revision });
    }
    if (misfit !== null && this.#rules.size > 0) {
      this.#report({ kind: "rules-clock-misfit", reason: this.#describe(misfit) });
    }
    this.#listener = listener;
    this.#lookTimer = setInterval(() => this.look(), LOOK_MS);
  }

  /** The work of each second. */
  look(): void {
    this.checkFile();
    try {
      this.#settleTime();
      if (this.#file !== null && this.#now() - this.#clockKeptAtMs >= KEEP_CLOCK_MS) this.#keepClock(this.#file);
    } catch {
      // A full disk: the next look tries again.
    }
  }

  #describe(misfit: string): string {
    const count = [...this.#rules.values()].filter(({ expiresAtMs }) => expiresAtMs <= this.timeMs()).length;
    return `${misfit}; ${count} of ${this.#rules.size} rules have ended by it, and are judged again if it is set right within an hour`;
  }

  /** The doubt is over: every rule is judged again, and those that have ended can be forgotten. */
  #settleTime(): void {
    const doubtful = this.#doubtful;
    const shiftMs = doubtful === null ? null : this.#time.settle();
    if (doubtful === null || shiftMs === null) return;
    this.#doubtful = null;
    for (const [key, rule] of [...this.#rules]) {
      const moved = doubtful.has(key) ? { ...rule, expiresAtMs: rule.expiresAtMs + shiftMs } : rule;
      this.#rules.set(key, moved);
      if (moved !== rule) this.#write(this.#open(), moved);
      if (shiftMs !== 0 || moved.expiresAtMs <= this.timeMs()) this.#changed(moved);
    }
  }

  #keepClock(file: OpenFile): void {
    const { ruleMs, wallMs } = this.#time.pair();
    file.keepClock.run(ruleMs, wallMs);
    this.#clockKeptAtMs = this.#now();
  }

  #write({ put }: OpenFile, { hub, userId, group, expiresAtMs }: GroupRule): void {
    put.run(hubKey(hub), hub, userId, group, expiresAtMs);
  }

  /** Looks whether the path still leads to the open file; where it does not, a new one is written from memory. */
  checkFile(): void {
    const loss = this.#file === null || this.#closed ? null : this.#files.findLoss();
    if (loss !== null) this.#abandon(loss);
    if (!this.#isLost || this.#closed) return;
    try {
      this.#open();
    } catch {
      // Every write rejects until it can be opened, and the next look tries again.
    }
  }

  async put(rule: GroupRule): Promise<RuleWrite> {
    const { hub, userId, group, expiresAtMs } = rule;
    this.checkFile();
    const isNew = this.#file === null;
    const file = this.#open();
    this.#write(file, rule);
    this.#rules.set(keyOf(rule), { hub, userId, group, expiresAtMs });
    this.#doubtful?.add(keyOf(rule));
    if (isNew) this.#keepClock(file);
    return this.#changed({ hub, userId, group, expiresAtMs });
  }

  async remove(keys: readonly RuleKey[]): Promise<RuleWrite> {
    this.#delete(keys);
    let written: RuleWrite = { kind: "written", revision: this.#revision };
    for (const { hub, userId, group } of keys) written = this.#changed({ hub, userId, group, expiresAtMs: null });
    return written;
  }

  /** Revisions need no look: in one process nothing comes between the caller's own look and this. */
  async forget(ended: readonly RuleChange[]): Promise<void> {
    if (this.#doubtful === null) this.#delete(ended);
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#lookTimer !== null) clearInterval(this.#lookTimer);
    try {
      if (this.#file !== null && !this.#isLost) this.#keepClock(this.#file);
    } catch {
      // A full disk: what was kept last is less than a minute old.
    }
    this.#closeFile();
  }

  #closeFile(): void {
    const file = this.#file;
    this.#file = null;
    if (file === null) return;
    for (const statement of [file.all, file.put, file.remove, file.keepClock]) statement.finalize();
    file.database.close();
  }

  #abandon(loss: string): void {
    this.#isLost = true;
    this.#report({ kind: "rules-lost", reason: loss });
    // The rest of it is evidence; its WAL would be played into the new file.
    if (COMPANIONS.some((companion) => existsSync(this.#path + companion))) moveAside(this.#path);
    // Deleted by name when it is closed, it could be the new file's.
    this.#file?.database.fileControl(constants.SQLITE_FCNTL_PERSIST_WAL, 1);
    this.#closeFile();
  }

  #changed(change: Omit<RuleChange, "revision">): RuleWrite {
    const revision = ++this.#revision;
    this.#listener({ ...change, revision });
    return { kind: "written", revision };
  }

  /** All or none. */
  #delete(keys: readonly RuleKey[]): void {
    this.checkFile();
    const file = this.#openExisting();
    if (file === null || keys.length === 0) return;
    file.database.transaction(() => {
      for (const { hub, userId, group } of keys) file.remove.run(hubKey(hub), userId, group);
    })();
    for (const key of keys) this.#rules.delete(keyOf(key));
  }

  #openExisting(): OpenFile | null {
    return this.#file !== null || this.#closed || this.#isLost || existsSync(this.#path) ? this.#open() : null;
  }

  #open(): OpenFile {
    if (this.#closed) throw new Error("the store of group rules is closed");
    if (this.#file !== null) return this.#file;
    if (isEmptied(this.#path)) {
      const reason = "it has no bytes, and its WAL has some";
      this.#report({ kind: "rules-damaged", movedTo: moveAside(this.#path), reason });
    }
    makePrivate(this.#path);
    let file: OpenFile;
    try {
      file = openFile(this.#path);
    } catch (error) {
      if (!isDamage(error)) throw error;
      const movedTo = moveAside(this.#path);
      makePrivate(this.#path);
      file = openFile(this.#path);
      this.#report({ kind: "rules-damaged", movedTo, reason: error.message });
    }
    this.#file = file;
    if (this.#isLost) this.#writeAll(file);
    this.#isLost = false;
    this.#files.begin();
    return file;
  }

  #writeAll(file: OpenFile): void {
    try {
      file.database.transaction(() => {
        for (const rule of this.#rules.values()) this.#write(file, rule);
        const { ruleMs, wallMs } = this.#time.pair();
        file.keepClock.run(ruleMs, wallMs);
      })();
    } catch (error) {
      this.#closeFile();
      throw error;
    }
  }
}

const MACHINE_CLOCKS: Clocks = { now: () => performance.now(), wallMs: () => Date.now() };

/** Null where an earlier version wrote the file. */
function readClock(database: Database): ClockPair | null {
  return database.query<ClockPair, []>("SELECT rule_ms AS ruleMs, wall_ms AS wallMs FROM clock").get();
}

function keyOf({ hub, userId, group }: RuleKey): string {
  return JSON.stringify([hubKey(hub), userId, group]);
}

function openFile(path: string): OpenFile {
  const database = new Database(path, { readwrite: true, create: false, strict: true });
  try {
    database.run(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    checkWhole(database);
    database.run("PRAGMA journal_mode = WAL");
    database.run("PRAGMA synchronous = NORMAL");
    // A user who has left a group must not be found in the file either.
    database.run("PRAGMA secure_delete = ON");
    migrate(database, { path, migrations: MIGRATIONS });
    return { database, ...prepareStatements(database) };
  } catch (error) {
    database.close();
    throw error;
  }
}

function prepareStatements(database: Database): Omit<OpenFile, "database"> {
  return {
    all: database.prepare(
      'SELECT hub, user_id AS userId, group_name AS "group", expires_at_ms AS expiresAtMs FROM rules',
    ),
    put: database.prepare(
      `INSERT INTO rules (hub_key, hub, user_id, group_name, expires_at_ms) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET hub = excluded.hub, expires_at_ms = excluded.expires_at_ms`,
    ),
    keepClock: database.prepare(
      `INSERT INTO clock (id, rule_ms, wall_ms) VALUES (1, ?, ?)
       ON CONFLICT DO UPDATE SET rule_ms = excluded.rule_ms, wall_ms = excluded.wall_ms`,
    ),
    remove: database.prepare("DELETE FROM rules WHERE hub_key = ? AND user_id = ? AND group_name = ?"),
  };
}
