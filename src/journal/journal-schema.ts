import type { Migration } from "../storage/migrations.ts";
import { PLACES_AT_ONCE } from "./operation.ts";

/** `connections.state`. */
export const STATE = { connecting: 0, connected: 1, due: 2, dead: 3 } as const;

/**
 * Times are REAL: a fraction of a millisecond is no reason to refuse a row. The table has a rowid of its own, since rows that
 * are added one behind the other fill pages; by their random ids they would touch one page each.
 * `places`: what is below has been given out, in this life of the file or an earlier one.
 */
const TABLES = `
  CREATE TABLE connections (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state INTEGER NOT NULL,
    hub TEXT NOT NULL,
    user_id TEXT NOT NULL,
    claims TEXT NOT NULL,
    client_query TEXT NOT NULL,
    forwarded_for TEXT NOT NULL,
    close_code INTEGER NOT NULL DEFAULT 0,
    close_reason TEXT NOT NULL DEFAULT '',
    connect_unknown INTEGER NOT NULL DEFAULT 0,
    due_since_ms REAL NOT NULL DEFAULT 0,
    place INTEGER NOT NULL DEFAULT 0,
    died_at_ms REAL NOT NULL DEFAULT 0,
    cause TEXT NOT NULL DEFAULT ''
  ) STRICT;
  CREATE INDEX waiting ON connections (place) WHERE state = ${STATE.due};
  CREATE INDEX dead ON connections (place) WHERE state = ${STATE.dead};
  CREATE TABLE journal (places INTEGER NOT NULL, probes INTEGER NOT NULL) STRICT;
`;

/**
 * `kept_ms` grows with the time that processes have kept dead letters; `kept_from_ms` is what it was when one died. So all of them
 * grow older by one write. `other_facts`: see `ConnectionFacts.others`.
 */
const AGES_AND_OTHER_FACTS = `
  ALTER TABLE connections ADD COLUMN tried_for_ms REAL NOT NULL DEFAULT 0;
  ALTER TABLE connections ADD COLUMN kept_from_ms REAL NOT NULL DEFAULT 0;
  ALTER TABLE connections ADD COLUMN other_facts TEXT NOT NULL DEFAULT '';
  ALTER TABLE journal ADD COLUMN kept_ms REAL NOT NULL DEFAULT 0;
`;

/** See `RetryAges.refusedForMs`. */
const REFUSED_FOR = "ALTER TABLE connections ADD COLUMN refused_for_ms REAL NOT NULL DEFAULT 0";

/** See `OwedDisconnect.nth`: 0 where it is absent, 1 and 2. */
const NTH = "ALTER TABLE connections ADD COLUMN nth INTEGER NOT NULL DEFAULT 0";

/**
 * `facts` takes the place of `claims`, `client_query`, `forwarded_for` and `other_facts`, which are empty from here on. They stay, since
 * columns keep their positions: see below.
 */
const ONE_FACTS = "ALTER TABLE connections ADD COLUMN facts TEXT NOT NULL DEFAULT ''";

/**
 * Brings the facts of rows that an earlier version wrote into `facts`. Rows of this version stay as they are.
 *
 * Shape: as `formatFacts` writes them, the rare ones byte for byte as they were. Damaged text in `other_facts` is left out.
 */
export const GATHER_FACTS = `
  UPDATE connections SET
    facts = rtrim(json_object('claims', claims, 'clientQuery', client_query, 'forwardedFor', forwarded_for), '}')
      || CASE WHEN json_valid(other_facts) AND other_facts LIKE '{"%' THEN ',' || substr(other_facts, 2) ELSE '}' END,
    claims = '', client_query = '', forwarded_for = '', other_facts = ''
  WHERE facts = ''
`;

/**
 * The journal's tables, version by version. A released migration never changes.
 *
 * A new column goes to the end of its table, with a default, and a new table behind the others. So the pages at which the tables
 * begin are the same in every version, and `salvage` can read a damaged file of an earlier one.
 */
export const MIGRATIONS: readonly Migration[] = [
  (database) => {
    database.run(TABLES);
    // Below are the places of a process that could not open its file.
    database.run("INSERT INTO journal (places, probes) VALUES (?, 0)", [PLACES_AT_ONCE]);
  },
  (database) => void database.run(AGES_AND_OTHER_FACTS),
  (database) => void database.run(REFUSED_FOR),
  (database) => void database.run(NTH),
  (database) => {
    database.run(ONE_FACTS);
    database.run(GATHER_FACTS);
  },
];
