import { Database, type Statement } from "bun:sqlite";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { GroupRule, RuleChange, RuleKey, RuleStore, RuleWrite } from "../core/rule-store.ts";
import { hubKey } from "../protocol/names.ts";
import { checkWhole, isDamage, makePrivate, moveAside } from "../storage/database-file.ts";
import { type Migration, migrate, refuseNewer } from "../storage/migrations.ts";

const FILE_NAME = "rules.sqlite";

/** How long another process may hold the file, as a backup does. Nothing else happens in ours meanwhile. */
const BUSY_TIMEOUT_MS = 100;

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

/** The tables, version by version. A released migration never changes. */
const MIGRATIONS: readonly Migration[] = [(database) => void database.run(TABLES)];

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
 * Errors: every method rejects where the disk fails. The constructor throws `NewerFile` where a newer version wrote the file.
 *         A damaged file is moved aside instead, together with what SQLite keeps beside it.
 */
export class SqliteRuleStore implements RuleStore {
  readonly #path: string;
  readonly #onDamaged: SqliteRuleStoreOptions["onDamaged"];
  #file: OpenFile | null = null;
  /** Of this process only: the file keeps none. */
  #revision = 0;
  #listener: (change: RuleChange) => void = () => {};
  #closed = false;

  constructor({ dataDir, onDamaged }: SqliteRuleStoreOptions) {
    this.#path = join(dataDir, FILE_NAME);
    this.#onDamaged = onDamaged;
    refuseNewer(this.#path, MIGRATIONS.length);
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
    makePrivate(this.#path);
    try {
      this.#file = openFile(this.#path);
    } catch (error) {
      if (!isDamage(error)) throw error;
      const movedTo = moveAside(this.#path);
      makePrivate(this.#path);
      this.#file = openFile(this.#path);
      this.#onDamaged(movedTo, error.message);
    }
    return this.#file;
  }
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
    remove: database.prepare("DELETE FROM rules WHERE hub_key = ? AND user_id = ? AND group_name = ?"),
  };
}
