import type { Clock } from "../core/ports.ts";
import type { NatsLink } from "../nats/link.ts";
import { beatSubject } from "../nats/subjects.ts";

/** How often a node says that it is there. */
const BEAT_MS = 1000;

/** How long a node is known after its last beat: as long as its lease may hold, and its connections with it. */
const KNOWN_MS = 10_000;

/** How long everybody's beat is waited for before what is known counts as all there is. */
const LISTEN_MS = 1200;

export interface NodeTableOptions {
  readonly link: NatsLink;
  readonly prefix: string;
  readonly nodeId: string;
  readonly clock: Clock;
}

/**
 * The nodes that there are, by what each says of itself once a second.
 *
 *     hello ─▶ beat, beat, … ─▶ bye, or ten seconds of silence
 *       └─▶ the others beat at once
 *
 * Order: to be told of the link's changes by whoever owns it, so that subscriptions come first.
 */
export class NodeTable {
  readonly #options: NodeTableOptions;
  readonly #lastBeatMs = new Map<string, number>();
  #nodeId: string;
  /** When this node said hello on the connection of now; null while there is none. */
  #helloAtMs: number | null = null;
  #cancel: (() => void) | null = null;

  constructor(options: NodeTableOptions) {
    this.#options = options;
    this.#nodeId = options.nodeId;
  }

  /** This node's own name. */
  get nodeId(): string {
    return this.#nodeId;
  }

  /** Whether everybody has had the time to say that they are there. */
  get isComplete(): boolean {
    return this.#helloAtMs !== null && this.#options.clock.now() - this.#helloAtMs >= LISTEN_MS;
  }

  /** The names of all nodes, this one's among them. */
  all(): string[] {
    return [...new Set([this.#nodeId, ...this.#lastBeatMs.keys()])];
  }

  isKnown(nodeId: string): boolean {
    return nodeId === this.#nodeId || this.#lastBeatMs.has(nodeId);
  }

  start(): void {
    this.#cancel ??= this.#options.clock.every(BEAT_MS, () => this.#tick());
  }

  /** The link is up and subscriptions hold: everybody is to speak up. What was known stays so for ten seconds more. */
  linkUp(): void {
    const now = this.#options.clock.now();
    for (const nodeId of this.#lastBeatMs.keys()) this.#lastBeatMs.set(nodeId, now);
    this.#helloAtMs = now;
    this.#say("hello");
  }

  linkDown(): void {
    this.#helloAtMs = null;
  }

  /** Goes on under another name. */
  rename(nodeId: string): void {
    this.#say("bye");
    this.#nodeId = nodeId;
    if (this.#helloAtMs !== null) this.#say("hello");
  }

  /** Takes what another node says of itself. */
  heard(text: string): void {
    const [word, nodeId = ""] = text.split(" ");
    if (nodeId === this.#nodeId || !/^[A-Za-z0-9_-]{1,64}$/.test(nodeId)) return;
    if (word === "bye") this.#lastBeatMs.delete(nodeId);
    if (word === "hello" || word === "beat") this.#lastBeatMs.set(nodeId, this.#options.clock.now());
    // Not behind its bye, after which it would be known for ten seconds more.
    if (word === "hello" && this.#cancel !== null) this.#say("beat");
  }

  /** Says bye. May be called twice. */
  stop(): void {
    this.#cancel?.();
    if (this.#cancel !== null) this.#say("bye");
    this.#cancel = null;
    this.#helloAtMs = null;
  }

  #tick(): void {
    // Nobody can be heard, so nobody is silent.
    if (this.#helloAtMs === null) return;
    const oldestMs = this.#options.clock.now() - KNOWN_MS;
    for (const [nodeId, atMs] of this.#lastBeatMs) if (atMs < oldestMs) this.#lastBeatMs.delete(nodeId);
    this.#say("beat");
  }

  #say(word: "hello" | "beat" | "bye"): void {
    const { link, prefix } = this.#options;
    if (link.isUp) link.connection?.publish(beatSubject(prefix), `${word} ${this.#nodeId}`);
  }
}
