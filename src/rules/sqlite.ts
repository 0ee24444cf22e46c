import { Database, type Statement } from "bun:sqlite";
import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { closeToOthers, makeFolder, makePrivateFile } from "../auth/private-files.ts";
import type { GroupRule, RuleChange, RuleKey, RuleStore, RuleWrite } from "../core/rule-store.ts";
import { hubKey } from "../protocol/names.ts";

const FILE_NAME = "rules.sqlite";

/** What `PRAGMA user_version` says of a file that this version wrote. */
const SCHEMA_VERSION = 1;

/** What SQLite keeps beside the file. Left behind, the log of one file would be played into the next of that name. */
const COMPANIONS = ["", "-wal", "-shm"];

/** How long another process may hold the file, as a backup does. Nothing else happens in ours meanwhile. */
const BUSY_TIMEOUT_MS = 100;

const SCHEMA = `
  CREATE TABLE rules (
    hub_key TEXT NOT NULL,
    hub TEXT NOT NULL,
    user_id TEXT NOT NULL,
    group_name TEXT NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    PRIMARY KEY (hub_key, user_id, group_name)
  ) STRICT, WITHOUT ROWID;
  PRAGMA user_version = ${SCHEMA_VERSION};
`;

/** What the store needs of the gateway. */
export interface SqliteRuleStoreOptions {
  /** Its folder, made with mode 0700 where it is missing. */
  readonly dataDir: string;
  /** Called when a file was found damaged: it stands under `movedTo` now, and the store goes on empty. */
  readonly onDamaged: (movedTo: string, reason: string) => void;
}

/** A file at work. */
interface OpenFile {
  readonly database: Database;
  readonly all: Statement<GroupRule, []>;
  readonly put: Statement<unknown, [string, string, string, string, number]>;
  readonly remove: Statement<unknown, [string, string, string]>;
}

/**
 * Keeps group rules in `rules.sqlite`.
 *
 * Shape:  file 0600, folder 0700 where it is missing. The file is made with the first rule; a gateway without rules has none.
 * Order:  WAL with `synchronous=NORMAL`: what was put survives a crash of the process; a power cut may take the last.
 * Errors: every method rejects where the disk fails, and where a newer version wrote the file. A damaged file is moved
 *         aside instead, together with what SQLite keeps beside it.
 */
export class SqliteRuleStore implements RuleStore {
  readonly #dataDir: string;
  readonly #path: string;
  readonly #onDamaged: SqliteRuleStoreOptions["onDamaged"];
  #file: OpenFile | null = null;
  /** Of this process only: the file keeps none. */
  #revision = 0;
  #listener: (change: RuleChange) => void = () => {};
  #closed = false;

  constructor({ dataDir, onDamaged }: SqliteRuleStoreOptions) {
    this.#dataDir = dataDir;
    this.#path = join(dataDir, FILE_NAME);
    this.#onDamaged = onDamaged;
  }

  readonly isCurrent = true;

  async watch(listener: (change: RuleChange) => void): Promise<void> {
    for (const rule of this.#openExisting()?.all.all() ?? []) listener({ ...rule, revision: ++this.#revision });
    this.#listener = listener;
  }

  async put(rule: GroupRule): Promise<RuleWrite> {
    const { hub, userId, group, expiresAtMs } = rule;
    this.#open().put.run(hubKey(hub), hub, userId, group, expiresAtMs);
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
    this.#delete(ended);
  }

  async close(): Promise<void> {
    this.#closed = true;
    const file = this.#file;
    this.#file = null;
    if (file === null) return;
    for (const statement of [file.all, file.put, file.remove]) statement.finalize();
    file.database.close();
  }

  #changed(change: Omit<RuleChange, "revision">): RuleWrite {
    const revision = ++this.#revision;
    this.#listener({ ...change, revision });
    return { kind: "written", revision };
  }

  /** All or none. */
  #delete(keys: readonly RuleKey[]): void {
    const file = this.#openExisting();
    if (file === null || keys.length === 0) return;
    file.database.transaction(() => {
      for (const { hub, userId, group } of keys) file.remove.run(hubKey(hub), userId, group);
    })();
  }

  #openExisting(): OpenFile | null {
    return this.#file !== null || this.#closed || existsSync(this.#path) ? this.#open() : null;
  }

  #open(): OpenFile {
    if (this.#closed) throw new Error("the store of group rules is closed");
    if (this.#file !== null) return this.#file;
    makePrivate(this.#dataDir, this.#path);
    try {
      this.#file = openFile(this.#path);
    } catch (error) {
      if (!isDamage(error)) throw error;
      const movedTo = moveAside(this.#path);
      makePrivate(this.#dataDir, this.#path);
      this.#file = openFile(this.#path);
      this.#onDamaged(movedTo, error.message);
    }
    return this.#file;
  }
}

/** Makes folder and file where they are missing. SQLite gives the mode of the file to those that it keeps beside it. */
function makePrivate(dataDir: string, path: string): void {
  makeFolder(dataDir);
  makePrivateFile(path);
  for (const companion of COMPANIONS) closeToOthers(path + companion);
}

function openFile(path: string): OpenFile {
  const database = new Database(path, { readwrite: true, create: false, strict: true });
  try {
    database.run(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    checkWhole(database);
    database.run("PRAGMA journal_mode = WAL");
    database.run("PRAGMA synchronous = NORMAL");
    // Whoever is no longer in a group should not be found in the file either.
    database.run("PRAGMA secure_delete = ON");
    bringUpToDate(database, path);
    return { database, ...prepareStatements(database) };
  } catch (error) {
    database.close();
    throw error;
  }
}

/** The file as SQLite sees it has a flaw. */
class DamagedFile extends Error {
  constructor(reason: string) {
    super(reason);
    this.name = "DamagedFile";
  }
}

function checkWhole(database: Database): void {
  const found = database.query<{ quick_check: string }, []>("PRAGMA quick_check(1)").get()?.quick_check;
  if (found !== "ok") throw new DamagedFile(found ?? "quick_check said nothing");
}

function bringUpToDate(database: Database, path: string): void {
  const version = database.query<{ user_version: number }, []>("PRAGMA user_version").get()?.user_version ?? 0;
  if (version > SCHEMA_VERSION) {
    throw new Error(`${path} was written by a newer version of hubwire: start that one, or move the file away`);
  }
  if (version < SCHEMA_VERSION) database.transaction(() => database.run(SCHEMA))();
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
    remove: database.prepare("DELETE FROM rules WHERE hub_key = ? AND user_id = ? AND group_name = ?"),
  };
}

function isDamage(error: unknown): error is Error {
  if (error instanceof DamagedFile) return true;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return code === "SQLITE_NOTADB" || code.startsWith("SQLITE_CORRUPT");
}

/** Moves a file and its companions to the first free name; returns that name. */
function moveAside(path: string): string {
  let number = 1;
  while (existsSync(`${path}.damaged-${number}`)) number++;
  const aside = `${path}.damaged-${number}`;
  for (const companion of COMPANIONS) {
    if (existsSync(path + companion)) renameSync(path + companion, aside + companion);
  }
  return aside;
}
