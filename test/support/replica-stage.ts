import { jetstreamManager, type StreamConfig } from "@nats-io/jetstream";
import type { DueDisconnect, JournalEntry } from "../../src/core/ports/journal.ts";
import { factsOf as factsOfEntry } from "../../src/journal/entries.ts";
import { JetstreamJournal } from "../../src/journal/jetstream.ts";
import { parseMessage } from "../../src/journal/replica-message.ts";
import { ReplicaReplay } from "../../src/journal/replica-replay.ts";
import { ReplicaStream } from "../../src/journal/replica-stream.ts";
import { Replicas } from "../../src/journal/replicas.ts";
import { NatsLink } from "../../src/nats/link.ts";
import type { ConnectionFacts } from "../../src/protocol/facts.ts";
import { NEWEST_FORM } from "../../src/protocol/forms.ts";
import type { Notice, Report } from "../../src/protocol/notices.ts";
import { within } from "./deadline.ts";
import { NatsProxy } from "./nats-proxy.ts";
import { NatsServer } from "./nats-server.ts";
import { wordsOf } from "./notices.ts";

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

type StreamSettings = Partial<Pick<StreamConfig, "subjects" | "max_bytes" | "discard">>;

/** One node's part of the journal's replica, on a link of its own. */
export class ReplicaNode {
  readonly link: NatsLink;
  readonly stream: ReplicaStream;
  readonly journal: JetstreamJournal;
  readonly logs: Replicas;
  readonly reports = new Reports();
  /** The form that all nodes read. */
  form = NEWEST_FORM;

  constructor(url: string, { nodeId = crypto.randomUUID().slice(0, 8), prefix = "hubwire" } = {}) {
    const credentials = { user: null, password: null, token: null, credsFile: null, tls: null };
    const report: Report = (notice) => this.reports.tell(inWords(notice));
    this.link = NatsLink.start({ servers: [url], ...credentials }, report);
    this.stream = new ReplicaStream({ link: this.link, prefix, replicas: 1, report });
    this.journal = new JetstreamJournal({
      nodeId,
      stream: this.stream,
      form: () => this.form,
      report,
      onFenced: () => this.reports.tell("onFenced"),
    });
    this.logs = new Replicas({
      stream: this.stream,
      whenReplicated: () => this.journal.whenReplicated(),
      report,
    });
  }

  /** What another node would find in this one's log, had it died now. */
  async readLog(): Promise<JournalEntry[]> {
    const last = await this.stream.last(this.journal.nodeId);
    const replay = new ReplicaReplay();
    if (last === null) return [];
    await this.stream.read(this.journal.nodeId, last.sequence, ({ bytes }) => {
      const message = parseMessage(bytes);
      if (message !== null) replay.read(message);
    });
    return replay.entries;
  }

  /** What the server has of all nodes' replicas. */
  async streamState(): Promise<{ readonly messages: number; readonly bytes: number }> {
    const { messages, bytes } = (await (await this.#streams()).info(this.stream.name)).state;
    return { messages, bytes };
  }

  async createStream(settings: StreamSettings): Promise<void> {
    await (await this.#streams()).add({ ...settings, name: this.stream.name });
  }

  async updateStream(settings: StreamSettings): Promise<void> {
    await (await this.#streams()).update(this.stream.name, settings);
  }

  async deleteStream(): Promise<void> {
    await (await this.#streams()).delete(this.stream.name);
  }

  async #streams() {
    if (this.link.connection === null) throw new Error("NATS was never there");
    return (await jetstreamManager(this.link.connection)).streams;
  }

  /** As a node is killed: nothing is written any more, and nothing is tidied up. */
  async kill(): Promise<void> {
    await this.link.stop();
  }
}

/** A real nats-server, nodes that copy their journal to it, and proxies between. */
export class ReplicaStage {
  readonly server: NatsServer;
  readonly #nodes: ReplicaNode[] = [];
  readonly #proxies: NatsProxy[] = [];

  private constructor(server: NatsServer) {
    this.server = server;
  }

  static async start(options: { readonly config?: string } = {}): Promise<ReplicaStage> {
    return new ReplicaStage(await NatsServer.start(options));
  }

  /** A node; its log may not have begun. */
  node(options: { readonly url?: string; readonly nodeId?: string } = {}): ReplicaNode {
    const node = new ReplicaNode(options.url ?? this.server.url, options);
    this.#nodes.push(node);
    return node;
  }

  /** A node whose log has begun. */
  async startNode(options: { readonly url?: string; readonly nodeId?: string } = {}): Promise<ReplicaNode> {
    const node = this.node(options);
    await node.reports.heard("replica-complete");
    return node;
  }

  async startProxy(): Promise<NatsProxy> {
    const proxy = await NatsProxy.start(this.server.port);
    this.#proxies.push(proxy);
    return proxy;
  }

  /** What another node finds that takes over: `c1 due`. */
  async seize(nodeId: string): Promise<string[]> {
    const other = await this.startNode();
    return statesOf(await other.logs.seize(nodeId));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of this.#nodes) await node.kill();
    for (const proxy of this.#proxies) await proxy.stop();
    await this.server[Symbol.asyncDispose]();
  }
}

/** A notice as one line; of a connection's facts only the id. */
function inWords(notice: Notice): string {
  return "facts" in notice ? `${notice.kind} ${notice.facts.connectionId}` : wordsOf(notice);
}

/** Facts of a connection, about as long as those of a real one. */
export function factsOf(connectionId: string, changes: Partial<ConnectionFacts> = {}): ConnectionFacts {
  const facts = { hub: "chat", userId: "ann", claims: "sub: ann; role: member", clientQuery: "room=1" };
  return { connectionId, ...facts, forwardedFor: "203.0.113.9", ...changes };
}

export function dueOf(connectionId: string, changes: Partial<DueDisconnect> = {}): DueDisconnect {
  const facts = factsOf(connectionId);
  const end = { code: 1006, reason: "ping timeout" };
  return {
    facts,
    end,
    connectOutcomeUnknown: false,
    dueSinceMs: 1_700_000_000_000,
    triedForMs: 0,
    refusedForMs: 0,
    ...changes,
  };
}

/** Why a promise was rejected. Not `expect(…).rejects`: Bun waits within that call, where no immediate runs. */
export function refusalOf(promise: Promise<unknown>): Promise<string> {
  const settled = promise.then(
    () => "it was not rejected",
    (error: Error) => error.message,
  );
  return within(settled, "the promise");
}

/** The connections of entries, each with its state, in order: `c1 due`. */
export function statesOf(entries: readonly JournalEntry[]): string[] {
  return entries.map((entry) => `${idOf(entry)} ${entry.state}`);
}

/** The connection that an entry is about. */
export function idOf(entry: JournalEntry): string {
  return factsOfEntry(entry).connectionId;
}
