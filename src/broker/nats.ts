import { randomBytes } from "node:crypto";
import { type Msg, RequestError } from "@nats-io/transport-node";
import type { Broker, BrokerHandler, Verdict, VerdictScope } from "../core/ports/broker.ts";
import type { Clock } from "../core/ports/clock.ts";
import type { NatsLink } from "../nats/link.ts";
import { answerSubject, beatSubject, memberSubject, nodeSubject } from "../nats/subjects.ts";
import { nodeOf } from "../protocol/connection-id.ts";
import type { Envelope, Question, Target } from "../protocol/envelope.ts";
import { decodeNodeMessage, encodeEnvelope, encodeQuestion } from "../protocol/node-message.ts";
import type { Report } from "../protocol/notices.ts";
import { NodeTable } from "./node-table.ts";
import { cutIntoParts, isPart, PartJoiner } from "./parts.ts";
import { Subscriptions } from "./subscriptions.ts";

/** How long a node may take for an answer. Source: PROTOCOL.md, "Several nodes". */
const ANSWER_MS = 500;

/** How often unfinished messages are looked at, and how often at most what was dropped is reported. */
const SWEEP_MS = 1000;
const REPORT_MS = 10_000;

/** Bytes that may be on their way to a server that does not take them; then it counts as out of reach. */
const MAX_UNSENT_BYTES = 64 * 1024 * 1024;

/** After so many bytes the server is asked whether it has them. */
const FLUSH_BYTES = 1024 * 1024;

/** The size that a server allows if it has not said one. */
const DEFAULT_MAX_PAYLOAD_BYTES = 1_048_576;

/** Why a message was dropped that no newer version wrote. */
const INVALID = "another version wrote it, or a name in it is invalid";

/** A node's reply where a bug kept it from answering. */
const FAULT = "fault";

export interface NatsBrokerOptions {
  readonly link: NatsLink;
  readonly prefix: string;
  readonly nodeId: string;
  /** The name of the process before this one in its folder, if any. */
  readonly nodeIdBefore: string | null;
  readonly handler: BrokerHandler;
  readonly clock: Clock;
  /** The form that every node reads. */
  readonly form: () => number;
  readonly report: Report;
  /** Whether this node holds its lease: a node whose lease has run out reaches only a part of the others. */
  readonly isMember: () => boolean;
}

/** Which word of several nodes is the answer. */
const STRONGEST = {
  "first-yes": ["yes", "limit", FAULT, "unavailable"],
  "every-node": [FAULT, "unavailable", "limit", "yes"],
} as const;

/** The outcome of one question to one subject. */
type Reply = Verdict | "fault" | "nobody" | "silent";

/**
 * The broker between nodes, over core NATS.
 *
 *     publish ─▶ subject of hub, group, user ─▶ every node with a member ─▶ handler.receive
 *             └▶ subject of the node that a connection's id names
 *     ask ─▶ first yes: the members' subject; its "no responders" is no, at once
 *         └▶ every node: each node's own subject, and all that the table knows must answer
 *
 * Order:  one connection each way, so what one node publishes arrives in its order, on whichever subjects; parts of a long message
 *         are together in it. This node's own members get only what came from NATS.
 * Errors: `unavailable` while NATS is away or this node is no member; after NATS is back until 1.2 s have passed and every node
 *         that was known has answered or is silent for 10 s; and where a node that must answer has not. A bug at any
 *         node that is asked rejects.
 * Source: decision 0014.
 */
export class NatsBroker implements Broker {
  readonly #options: NatsBrokerOptions;
  readonly #subscriptions: Subscriptions;
  readonly #table: NodeTable;
  readonly #joiner: PartJoiner;
  readonly #publisher = randomBytes(8).readBigUInt64BE();
  #sequence = 0;
  #unsentBytes = 0;
  #isAskingForReceipt = false;
  /** Raised with every change of the link. */
  #round = 0;
  #isSubscribed = false;
  #isStopped = false;
  #droppedCount = 0;
  #droppedReason = "";
  #mayReportAtMs = Number.NEGATIVE_INFINITY;
  #cancelSweep: (() => void) | null = null;

  constructor(options: NatsBrokerOptions) {
    const { link, clock } = options;
    this.#options = options;
    this.#subscriptions = new Subscriptions(link, (message) => this.#received(message));
    this.#table = new NodeTable(options);
    this.#joiner = new PartJoiner({ nowMs: () => clock.now(), onLost: (reason) => this.#dropped(reason) });
  }

  /** Whether all nodes can be reached: subscriptions hold, and every node has had the time to answer. */
  get isReady(): boolean {
    const { link, isMember } = this.#options;
    return link.isUp && this.#isSubscribed && this.#table.isComplete && !this.#isStopped && isMember();
  }

  start(): void {
    const { link, prefix, clock } = this.#options;
    void this.#subscriptions.add(beatSubject(prefix));
    for (const subject of ownSubjects(prefix, this.#table.nodeId)) void this.#subscriptions.add(subject);
    this.#table.start();
    this.#cancelSweep = clock.every(SWEEP_MS, () => {
      this.#joiner.sweep();
      this.#reportDropped();
    });
    link.onChange((isUp) => (isUp ? void this.#linkUp() : this.#linkDown()));
  }

  /** Goes on under another name: questions to the old one get no answer. */
  rename(nodeId: string): void {
    const { prefix } = this.#options;
    for (const subject of ownSubjects(prefix, nodeId)) void this.#subscriptions.add(subject);
    for (const subject of ownSubjects(prefix, this.#table.nodeId)) this.#subscriptions.remove(subject);
    this.#table.rename(nodeId);
  }

  async publish(envelope: Envelope): Promise<"sent" | "unavailable"> {
    const { link, prefix, form } = this.#options;
    const { connection } = link;
    if (!this.isReady || connection === null || this.#unsentBytes > MAX_UNSENT_BYTES) return "unavailable";
    const subject = this.#subjectOf(envelope.target);
    if (subject === null) return "sent";
    const bytes = encodeEnvelope(envelope, form());
    const maxBytes = connection.info?.max_payload ?? DEFAULT_MAX_PAYLOAD_BYTES;
    try {
      if (bytes.length <= maxBytes) {
        link.publish(subject, bytes);
      } else {
        const parts = cutIntoParts(bytes, { maxBytes, publisher: this.#publisher, sequence: this.#sequence++ });
        for (const part of parts) link.publish(subject, part);
      }
    } catch {
      // It was closed at this moment.
      return "unavailable";
    }
    this.#countUnsent(bytes.length + prefix.length);
    return "sent";
  }

  async ask(question: Question, scope: VerdictScope): Promise<Verdict | "unavailable"> {
    if (!this.isReady) return "unavailable";
    const bytes = encodeQuestion(question, this.#options.form());
    const { target } = question;
    if (target.kind === "connection") return await this.#askItsNode(target.name, bytes);
    if (scope === "first-yes") {
      const reply = await this.#request(this.#subjectOf(target) ?? "", bytes);
      if (reply === "nobody") return "no";
      if (reply === "yes" || reply === "limit") return reply;
      if (reply === FAULT) throw new Error("a node could not answer");
      // The first said no, or nothing in time: only all nodes together can say no.
    }
    return await this.#askAll(bytes, scope);
  }

  join(target: Target): Promise<void> {
    const subject = target.kind === "connection" ? null : this.#subjectOf(target);
    return subject === null ? Promise.resolve() : this.#subscriptions.add(subject);
  }

  leave(target: Target): void {
    const subject = target.kind === "connection" ? null : this.#subjectOf(target);
    if (subject !== null) this.#subscriptions.remove(subject);
  }

  /** Says bye, and hears and answers nothing any more. May be called twice. */
  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#cancelSweep?.();
    this.#table.stop();
    this.#subscriptions.stop();
    const { link } = this.#options;
    if (link.isUp) await link.connection?.flush().catch(() => {});
  }

  async #linkUp(): Promise<void> {
    const round = ++this.#round;
    const isKnown = await this.#subscriptions.linkUp();
    if (!isKnown || round !== this.#round || this.#isStopped) return;
    this.#isSubscribed = true;
    this.#table.linkUp();
  }

  #linkDown(): void {
    this.#round++;
    this.#isSubscribed = false;
    this.#subscriptions.linkDown();
    this.#table.linkDown();
  }

  /** Null for the id of a connection that no node of a cluster made. */
  #subjectOf(target: Target): string | null {
    const { prefix } = this.#options;
    if (target.kind === "hub") return memberSubject(prefix, target);
    if (target.kind !== "connection") return memberSubject(prefix, { ...target, kind: target.kind });
    const nodeId = nodeOf(target.name);
    return nodeId === null ? null : nodeSubject(prefix, nodeId);
  }

  async #askItsNode(connectionId: string, bytes: Uint8Array): Promise<Verdict | "unavailable"> {
    const nodeId = nodeOf(connectionId);
    if (nodeId === null) return "no";
    const reply = await this.#askNode(nodeId, bytes);
    if (reply === FAULT) throw new Error("a node could not answer");
    return reply;
  }

  async #askAll(bytes: Uint8Array, scope: VerdictScope): Promise<Verdict | "unavailable"> {
    const asked = this.#table.all().map((nodeId) => this.#askNode(nodeId, bytes));
    // One yes is enough there, even if the others fail.
    const replies = await (scope === "first-yes"
      ? Promise.race([firstYes(asked), Promise.all(asked)])
      : Promise.all(asked));
    const strongest = STRONGEST[scope].find((word) => replies.includes(word)) ?? "no";
    if (strongest === FAULT) throw new Error("a node could not answer");
    return strongest;
  }

  async #askNode(nodeId: string, bytes: Uint8Array): Promise<Verdict | "fault" | "unavailable"> {
    const wasKnown = this.#table.isKnown(nodeId);
    const reply = await this.#request(nodeSubject(this.#options.prefix, nodeId), bytes);
    if (reply !== "nobody" && reply !== "silent") return reply;
    if (this.#table.isKnown(nodeId)) return "unavailable";
    // A node listens there that has not announced itself yet.
    if (reply === "silent" && !wasKnown) return "unavailable";
    // It never was, or has said bye meanwhile, and its connections are gone: that is an answer.
    return "no";
  }

  async #request(subject: string, bytes: Uint8Array): Promise<Reply> {
    const { link } = this.#options;
    // Not over one connection while pushes before it wait for another.
    if (link.isChanging) await link.whenChanged();
    const { connection } = link;
    if (connection === null) return "silent";
    try {
      const reply = await connection.request(subject, bytes, { timeout: ANSWER_MS });
      return parseReply(reply.string());
    } catch (error) {
      if (error instanceof RequestError && error.isNoResponders()) return "nobody";
      // Late, closed or lost meanwhile: whether it was done is not known.
      return "silent";
    }
  }

  #received(message: Msg): void {
    const { prefix, handler } = this.#options;
    if (this.#isStopped) return;
    if (message.subject === beatSubject(prefix) || message.subject === answerSubject(prefix, this.#table.nodeId)) {
      const heard = this.#table.heard(message.string());
      if (heard === "unknown") this.#dropped("a node says nothing of itself that this version knows");
      if (heard === "newer") this.#dropped("what a node of a newer version says of itself was read in part");
      return;
    }
    const bytes = isPart(message.data) ? this.#joiner.add(message.subject, message.data) : message.data;
    if (bytes === null) return;
    const read = decodeNodeMessage(bytes);
    if (read === null || read.kind === "newer") {
      this.#dropped(read?.reason ?? INVALID);
      return;
    }
    if (read.kind === "question") {
      void this.#answer(message, read.question);
      return;
    }
    try {
      handler.receive(read.envelope);
    } catch (error) {
      this.#options.report({ kind: "fault", where: "a message of another node", error });
    }
  }

  async #answer(message: Msg, question: Question): Promise<void> {
    let word: Verdict | typeof FAULT;
    try {
      word = await this.#options.handler.answer(question);
    } catch (error) {
      this.#options.report({ kind: "fault", where: "a question of another node", error });
      word = FAULT;
    }
    // The asker cannot hear it if the connection has gone meanwhile; after a move it is another one than the question came by.
    const { link } = this.#options;
    if (link.isUp && message.reply !== undefined && message.reply !== "") link.publish(message.reply, word);
  }

  #countUnsent(byteCount: number): void {
    this.#unsentBytes += byteCount;
    this.#askForReceipt();
  }

  #askForReceipt(): void {
    if (this.#isAskingForReceipt || this.#unsentBytes < FLUSH_BYTES) return;
    const asked = this.#unsentBytes;
    this.#isAskingForReceipt = true;
    const answered = () => {
      this.#isAskingForReceipt = false;
      this.#unsentBytes -= asked;
      // Nothing may be published past the bound, and nothing else would ask about what has come since.
      this.#askForReceipt();
    };
    // Messages that were on their way when the connection broke are lost, and hold no memory either.
    this.#options.link.connection?.flush().then(answered, answered);
  }

  #dropped(reason: string): void {
    this.#droppedCount++;
    this.#droppedReason = reason;
    this.#reportDropped();
  }

  #reportDropped(): void {
    const now = this.#options.clock.now();
    if (this.#droppedCount === 0 || now < this.#mayReportAtMs) return;
    const [count, reason] = [this.#droppedCount, this.#droppedReason];
    this.#options.report({ kind: "node-messages-dropped", count, reason });
    this.#droppedCount = 0;
    this.#mayReportAtMs = now + REPORT_MS;
  }
}

function ownSubjects(prefix: string, nodeId: string): string[] {
  return [nodeSubject(prefix, nodeId), answerSubject(prefix, nodeId)];
}

/** Resolves with the first yes or limit; never resolves without one. */
function firstYes<Word>(asked: readonly Promise<Word>[]): Promise<Word[]> {
  const { promise, resolve } = Promise.withResolvers<Word[]>();
  for (const reply of asked) void reply.then((word) => (word === "yes" || word === "limit") && resolve([word]));
  return promise;
}

/** An unknown reply counts as no reply. */
function parseReply(text: string): Reply {
  return text === "yes" || text === "no" || text === "limit" || text === FAULT ? text : "silent";
}
