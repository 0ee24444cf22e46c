import type { Clock } from "../core/ports/clock.ts";
import type { NatsLink } from "../nats/link.ts";
import { answerSubject, beatSubject } from "../nats/subjects.ts";
import { isNodeId } from "../protocol/connection-id.ts";
import { NEWEST_FORM, OLDEST_FORM } from "../protocol/forms.ts";
import type { Report } from "../protocol/notices.ts";

/** How often a node announces itself. */
const BEAT_MS = 1000;

/** How long a node is known after its last beat: as long as its lease may hold, and its connections with it. */
const KNOWN_MS = 10_000;

/**
 * When the hello is said whose answers count. A server that has just come back asks the others for their interest first; what
 * is answered after that comes behind it.
 */
const SETTLED_MS = 1000;

/** How long beats are waited for before the known nodes count as all nodes. */
const LISTEN_MS = 1200;

/** After this time the log names the nodes that are still waited for. */
const AWAITED_MS = 3000;

/** The ticks are this far apart: this process was held up, and did not hear the others' beats. */
const STALLED_MS = 3000;

/** The longest text in which a node announces itself: form, word, name, number, and additions of a newer version. */
const SAID = /^(?:([1-9]\d{0,8}) )?(hello|beat|bye|here) ([^ ]+)(?: (\d{1,15}))?( .*)?$/;
const MAX_SAID_LENGTH = 128;

export interface NodeTableOptions {
  readonly link: NatsLink;
  readonly prefix: string;
  readonly nodeId: string;
  /** The name of the process before this one, which has certainly ended: it need not be waited for. */
  readonly nodeIdBefore: string | null;
  readonly clock: Clock;
  /** The form that every node reads. */
  readonly form: () => number;
  readonly report: Report;
}

/** The announcement of a node. */
interface Said {
  readonly nodeId: string;
  readonly word: string;
  readonly number: string;
  readonly form: number;
}

/** What is known of another node. */
interface OtherNode {
  lastBeatMs: number;
  /** Whether it has answered a hello of now that counts: what either publishes arrives at the other. */
  isConfirmed: boolean;
}

/**
 * The nodes of the cluster, by their announcements once a second.
 *
 *     hello ─▶ hello ─▶ (until all have answered) hello, … ─▶ beat, beat, … ─▶ bye, or ten seconds of silence
 *       └─▶ the others answer at once, on the subject of the asker's answers
 *
 * An answer says more than that a node is there. The hello went out behind all subscriptions of its node, the answer behind
 * all of the other's, and servers hand on interest and messages over one route in their order: so both servers know of both
 * nodes' subscriptions.
 *
 * Order: the owner of the link reports its changes here, so that subscriptions come first.
 */
export class NodeTable {
  readonly #options: NodeTableOptions;
  readonly #others = new Map<string, OtherNode>();
  /** Former names of which the others may not have heard yet that they are gone. */
  readonly #gone = new Set<string>();
  #nodeId: string;
  /** When this node said hello on the present connection; null without a connection. */
  #helloAtMs: number | null = null;
  /** Counts the hellos of this process; an answer repeats the number. */
  #helloNumber = 0;
  /** The first hello of now whose answers count. */
  #firstThatCounts = Number.POSITIVE_INFINITY;
  #isComplete = false;
  #isAwaitedSaid = false;
  #lastTickMs = Number.NEGATIVE_INFINITY;
  #cancel: (() => void) | null = null;
  #cancelSettled: (() => void) | null = null;

  constructor(options: NodeTableOptions) {
    this.#options = options;
    this.#nodeId = options.nodeId;
    if (options.nodeIdBefore !== null) this.#gone.add(options.nodeIdBefore);
  }

  /** This node's own name. */
  get nodeId(): string {
    return this.#nodeId;
  }

  /** Whether every node has had the time to announce itself, and all known ones have answered. */
  get isComplete(): boolean {
    // Asked for with every message.
    if (!this.#isComplete) this.#isComplete = this.#hasHeardAll();
    return this.#isComplete;
  }

  /** The names of all nodes, this one's among them. */
  all(): string[] {
    return [...new Set([this.#nodeId, ...this.#others.keys()])];
  }

  isKnown(nodeId: string): boolean {
    return nodeId === this.#nodeId || this.#others.has(nodeId);
  }

  start(): void {
    this.#cancel ??= this.#options.clock.every(BEAT_MS, () => this.#tick());
  }

  /** The link is up and subscriptions hold: every node is asked to answer. Known nodes stay known for ten seconds more. */
  linkUp(): void {
    const { clock } = this.#options;
    this.linkDown();
    this.#restartSilence();
    for (const other of this.#others.values()) other.isConfirmed = false;
    this.#helloAtMs = clock.now();
    this.#isAwaitedSaid = false;
    for (const nodeId of this.#gone) this.#say(`bye ${nodeId}`);
    this.#gone.clear();
    this.#sayHello();
    this.#cancelSettled = clock.after(SETTLED_MS, () => {
      this.#firstThatCounts = this.#helloNumber + 1;
      this.#sayHello();
    });
  }

  linkDown(): void {
    this.#helloAtMs = null;
    this.#firstThatCounts = Number.POSITIVE_INFINITY;
    this.#isComplete = false;
    this.#cancelSettled?.();
    this.#cancelSettled = null;
  }

  /** Goes on under another name. Without a link the others hear of it when it is up. */
  rename(nodeId: string): void {
    const before = this.#nodeId;
    this.#nodeId = nodeId;
    if (this.#helloAtMs === null) {
      this.#gone.add(before);
      return;
    }
    this.#say(`bye ${before}`);
    this.#sayHello();
  }

  /**
   * Takes what another node says of itself: `hello NAME NUMBER`, `beat NAME`, `bye NAME`, `here NAME NUMBER`, each with its form in
   * front; no form is the oldest one.
   *
   * Shape: `unknown` for any other word, or where the name is invalid. `newer`: of a form that this version does not read it has taken
   *        what every form begins with, since a node that is not known would not be asked.
   */
  heard(text: string): "read" | "newer" | "unknown" {
    const found = text.length <= MAX_SAID_LENGTH ? SAID.exec(text) : null;
    const [, formText, word = "", nodeId = "", number = "", more] = found ?? [];
    const form = formText === undefined ? OLDEST_FORM : Number(formText);
    const isNewer = form > NEWEST_FORM;
    if (!isNodeId(nodeId) || (more !== undefined && !isNewer)) return "unknown";
    if (nodeId !== this.#nodeId) this.#heardOf({ nodeId, word, number, form });
    return isNewer ? "newer" : "read";
  }

  #heardOf({ nodeId, word, number, form }: Said): void {
    if (word === "bye") {
      this.#others.delete(nodeId);
      return;
    }
    const other = this.#others.get(nodeId) ?? { lastBeatMs: 0, isConfirmed: false };
    other.lastBeatMs = this.#options.clock.now();
    if (word === "here" && Number(number) >= this.#firstThatCounts) other.isConfirmed = true;
    this.#others.set(nodeId, other);
    // Not before its own subscriptions hold, and not behind its bye, after which it would be known for ten seconds more.
    if (word !== "hello" || this.#helloAtMs === null || this.#cancel === null) return;
    // A node that has just joined may read no newer form than the one of its hello, and its lease may not be visible yet.
    const answer = { form, subject: answerSubject(this.#options.prefix, nodeId) };
    this.#say(`here ${this.#nodeId} ${number}`, answer);
  }

  /** Says bye. May be called twice. */
  stop(): void {
    this.#cancel?.();
    if (this.#cancel !== null) this.#say(`bye ${this.#nodeId}`);
    this.#cancel = null;
    this.linkDown();
  }

  #hasHeardAll(): boolean {
    if (this.#helloAtMs === null || this.#options.clock.now() - this.#helloAtMs < LISTEN_MS) return false;
    for (const { isConfirmed } of this.#others.values()) if (!isConfirmed) return false;
    return true;
  }

  #tick(): void {
    // Without a link no node can be heard, so none counts as silent.
    if (this.#helloAtMs === null) return;
    const now = this.#options.clock.now();
    if (now - this.#lastTickMs >= STALLED_MS) this.#restartSilence();
    this.#lastTickMs = now;
    for (const [nodeId, { lastBeatMs }] of this.#others) {
      if (lastBeatMs < now - KNOWN_MS) this.#others.delete(nodeId);
    }
    if (this.isComplete) {
      this.#say(`beat ${this.#nodeId}`);
      return;
    }
    this.#sayHello();
    if (this.#isAwaitedSaid || now - this.#helloAtMs < AWAITED_MS) return;
    this.#isAwaitedSaid = true;
    const awaited = [...this.#others].filter(([, { isConfirmed }]) => !isConfirmed);
    this.#options.report({ kind: "nodes-awaited", nodeIds: awaited.map(([nodeId]) => nodeId) });
  }

  #restartSilence(): void {
    const now = this.#options.clock.now();
    for (const other of this.#others.values()) other.lastBeatMs = now;
    this.#lastTickMs = now;
  }

  #sayHello(): void {
    this.#helloNumber++;
    this.#say(`hello ${this.#nodeId} ${this.#helloNumber}`);
  }

  #say(
    text: string,
    { form = NEWEST_FORM, subject = beatSubject(this.#options.prefix) }: { form?: number; subject?: string } = {},
  ): void {
    const { link } = this.#options;
    const common = Math.min(form, this.#options.form());
    if (link.isUp) link.publish(subject, common === OLDEST_FORM ? text : `${common} ${text}`);
  }
}
