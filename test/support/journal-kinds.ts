import { join } from "node:path";
import type { DueDisconnect, Journal } from "../../src/core/ports/journal.ts";
import { JetstreamJournal } from "../../src/journal/jetstream.ts";
import { MemoryJournal } from "../../src/journal/memory.ts";
import { ReplicaStream } from "../../src/journal/replica-stream.ts";
import { ReplicatedJournal } from "../../src/journal/replicated.ts";
import { SqliteJournal } from "../../src/journal/sqlite.ts";
import { NatsLink } from "../../src/nats/link.ts";
import type { ConnectionFacts } from "../../src/protocol/facts.ts";
import { within } from "./deadline.ts";
import { NatsServer } from "./nats-server.ts";
import { hearing, unexpected } from "./notices.ts";

/** Every kind of journal, each on a disk or a log that is new, for the tests of their contract. */
export const JOURNAL_KINDS: readonly (readonly [
  name: string,
  isInNats: boolean,
  create: (makers: JournalMakers, folder: string) => Promise<Journal>,
])[] = [
  ["MemoryJournal", false, async () => new MemoryJournal()],
  ["SqliteJournal", false, (makers, folder) => makers.openSqlite(folder)],
  ["JetstreamJournal", true, (makers) => makers.openJetstream()],
  [
    "ReplicatedJournal",
    true,
    async (makers, folder) => new ReplicatedJournal(await makers.openSqlite(folder), await makers.openJetstream()),
  ],
];

/** The time at which those of `dueOf` were found undelivered. */
export const NOW_MS = 1_700_000_000_000;

/** What the journals of one test file need: a NATS server, started for the first that asks, and connections to it. */
export class JournalMakers {
  #server: Promise<NatsServer> | null = null;
  readonly #links: NatsLink[] = [];

  async [Symbol.asyncDispose](): Promise<void> {
    for (const link of this.#links) await link.stop();
    await (await this.#server)?.[Symbol.asyncDispose]();
  }

  /** On a log that is new, as that of a node that starts. */
  async openJetstream(): Promise<JetstreamJournal> {
    const copied = Promise.withResolvers<void>();
    const report = hearing({
      "nats-up": () => {},
      "nats-down": () => {},
      "replica-complete": () => copied.resolve(),
    });
    const credentials = { user: null, password: null, token: null, credsFile: null, tls: null };
    this.#server ??= NatsServer.start();
    const { url } = await this.#server;
    const link = NatsLink.start({ servers: [url], ...credentials }, report);
    this.#links.push(link);
    const stream = new ReplicaStream({ link, prefix: "hubwire", replicas: 1, report });
    const nodeId = crypto.randomUUID().slice(0, 8);
    const journal = new JetstreamJournal({ nodeId, stream, form: () => 2, report, onFenced: fail });
    await within(copied.promise, "the log to begin");
    return journal;
  }

  openSqlite(folder: string): Promise<Journal> {
    return SqliteJournal.open({ dataDir: join(folder, "data"), synchronous: "normal", report: unexpected });
  }
}

/** Facts of a connection, the same each time. */
export function factsOf(connectionId: string, changes: Partial<ConnectionFacts> = {}): ConnectionFacts {
  const facts = { hub: "Chat", userId: null, claims: "sub: ann", clientQuery: "room=1", forwardedFor: "203.0.113.9" };
  return { connectionId, ...facts, ...changes };
}

/** A disconnect of a connection that was tried in vain just now. */
export function dueOf(connectionId: string, changes: Partial<DueDisconnect> = {}): DueDisconnect {
  const facts = factsOf(connectionId, { userId: "ann" });
  const ages = { triedForMs: 0, refusedForMs: 0 };
  // As it is stored: without the category of `CLOSE.pingTimeout`.
  const end = { code: 1006, reason: "ping timeout" };
  return { facts, end, connectOutcomeUnknown: false, dueSinceMs: NOW_MS, ...ages, ...changes };
}

function fail(...facts: readonly (string | number)[]): never {
  throw new Error(`all is good, and yet: ${facts.join(", ")}`);
}
