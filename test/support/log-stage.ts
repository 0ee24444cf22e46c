import type { DueDisconnect, JournalEntry } from "../../src/core/ports.ts";
import { JetstreamJournal } from "../../src/journal/jetstream.ts";
import { LogStream } from "../../src/journal/log-stream.ts";
import { NodeLogs } from "../../src/journal/node-logs.ts";
import { NatsLink } from "../../src/nats/link.ts";
import type { ConnectionFacts } from "../../src/protocol/events.ts";
import { within } from "./deadline.ts";

/** What was reported by one node, in words, and a way to wait for it. */
export class Reports {
  readonly told: string[] = [];
  #listeners: (() => void)[] = [];

  tell(words: string): void {
    this.told.push(words);
    for (const listener of this.#listeners) listener();
  }

  /** Resolves when a report that begins so has come `count` times in all. */
  async heard(words: string, count = 1): Promise<void> {
    const heard = Promise.withResolvers<void>();
    const look = () => {
      if (this.told.filter((one) => one.startsWith(words)).length >= count) heard.resolve();
    };
    this.#listeners.push(look);
    look();
    await within(heard.promise, `report ${count}: ${words}; there was: ${this.told.join("; ")}`);
  }
}

/** One node's part of the journal's copy, on a link of its own. */
export class LogNode {
  readonly link: NatsLink;
  readonly stream: LogStream;
  readonly journal: JetstreamJournal;
  readonly logs: NodeLogs;
  readonly reports = new Reports();

  constructor(url: string, { nodeId = crypto.randomUUID().slice(0, 8), prefix = "hubwire" } = {}) {
    const tell = (word: string) => (detail?: string | number) => this.reports.tell(`${word} ${detail ?? ""}`.trim());
    const credentials = { user: null, password: null, token: null, credsFile: null, tls: null };
    const linkReport = { up: () => this.reports.tell("up"), down: tell("down"), refused: tell("refused") };
    this.link = NatsLink.start({ servers: [url], ...credentials }, linkReport);
    this.stream = new LogStream({ link: this.link, prefix, replicas: 1, differs: tell("differs") });
    const report = {
      stopped: tell("stopped"),
      copied: tell("copied"),
      fenced: tell("fenced"),
      tooLarge: tell("too large"),
    };
    this.journal = new JetstreamJournal({ nodeId, stream: this.stream, report, onFenced: tell("onFenced") });
    this.logs = new NodeLogs({
      stream: this.stream,
      whenCopied: () => this.journal.whenCopied(),
      skipped: (id, count) => this.reports.tell(`skipped ${id} ${count}`),
    });
  }

  /** As a node is killed: nothing is written any more, and nothing is tidied up. */
  async kill(): Promise<void> {
    await this.link.stop();
  }
}

/** Facts of a connection, about as long as those of a real one. */
export function factsOf(connectionId: string, changes: Partial<ConnectionFacts> = {}): ConnectionFacts {
  const facts = { hub: "chat", userId: "ann", claims: "sub: ann; role: member", clientQuery: "room=1" };
  return { connectionId, ...facts, forwardedFor: "203.0.113.9", ...changes };
}

export function dueOf(connectionId: string, changes: Partial<DueDisconnect> = {}): DueDisconnect {
  const facts = factsOf(connectionId);
  const end = { code: 1006, reason: "ping timeout" };
  return { facts, end, connectOutcomeUnknown: false, dueSinceMs: 1_700_000_000_000, ...changes };
}

/** The connections of entries, each with its state, in order: `c1 due`. */
export function statesOf(entries: readonly JournalEntry[]): string[] {
  return entries.map((entry) => `${idOf(entry)} ${entry.state}`);
}

/** Whose entry it is. */
export function idOf(entry: JournalEntry): string {
  switch (entry.state) {
    case "due":
      return entry.due.facts.connectionId;
    case "dead":
      return entry.letter.facts.connectionId;
    default:
      return entry.facts.connectionId;
  }
}
