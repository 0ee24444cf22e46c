import {
  DeliverPolicy,
  DiscardPolicy,
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo,
} from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import { findStream } from "../nats/find-stream.ts";
import type { NatsLink } from "../nats/link.ts";
import { journalSubject } from "../nats/subjects.ts";
import type { Report } from "../protocol/notices.ts";

/** How long the server may take to answer. Lost acks are found out by asking, so this only bounds the silence. */
const TIMEOUT_MS = 3000;

/** How many messages of a replica are asked for at once: at most 16 MB of full ones. Asked by bytes, Debian's server may stop without an answer. */
const READ_AHEAD_MESSAGES = 64;

/** The part of the server's `max_payload` that the message's headers take. */
const HEADER_BYTES = 1024;

/** The smallest `max_payload` that is believed: what is there before the server has told. */
const DEFAULT_MAX_PAYLOAD = 1024 * 1024;

/** A message of a replica, as it is stored. */
export interface StoredMessage {
  readonly sequence: number;
  readonly bytes: Uint8Array;
}

/** What the stream of all nodes' replicas needs. */
export interface ReplicaStreamOptions {
  readonly link: NatsLink;
  readonly prefix: string;
  readonly replicas: number;
  readonly report: Report;
}

/**
 * The stream in which every node has a replica of its own, as far as NATS goes: it knows bytes and sequences.
 *
 * Errors: everything rejects where NATS is away, at once where the link is lost meanwhile, and in 3 s where it is silent.
 *         It is not known then what the server has done; a later call may even be overtaken by it.
 */
export class ReplicaStream {
  readonly name: string;
  readonly #options: ReplicaStreamOptions;
  /** Ends of what is under way. Not one promise for all: each race would leave something behind in it. */
  readonly #underWay = new Set<(error: Error) => void>();
  /** Those of the connection that the link had when they were made. */
  #clients: {
    readonly of: NatsConnection;
    readonly jetstream: JetStreamClient;
    readonly manager: JetStreamManager;
  } | null = null;
  #lastDifference = "";

  constructor(options: ReplicaStreamOptions) {
    this.#options = options;
    this.name = `${options.prefix}_journal`;
    options.link.onChange((isUp) => {
      if (isUp) return;
      for (const end of [...this.#underWay]) end(new Error("the connection to NATS was lost"));
    });
  }

  get isUp(): boolean {
    return this.#options.link.isUp;
  }

  /** The largest message that the server takes. */
  get maxMessageBytes(): number {
    return (this.#options.link.connection?.info?.max_payload ?? DEFAULT_MAX_PAYLOAD) - HEADER_BYTES;
  }

  /** Calls back at every change of the link, at once where it is up. */
  onChange(listener: (isUp: boolean) => void): void {
    this.#options.link.onChange(listener);
  }

  /** Makes the stream where it is missing. Resolves with what tells this stream from a later one of its name. */
  async setUp(): Promise<string> {
    const { manager } = await this.#reach();
    const wanted = this.#settings();
    const info = await this.#within(this.#findOrMake(manager, wanted));
    this.#compare(wanted, info.config);
    return info.created;
  }

  async #findOrMake(manager: JetStreamManager, wanted: Partial<StreamConfig> & { name: string }): Promise<StreamInfo> {
    const found = await findStream(manager, this.name);
    if (found !== null) return found;
    try {
      return await manager.streams.add(wanted);
    } catch (refusal) {
      // Another node may have made it just now, and with other settings: a later version, say.
      return (await manager.streams.info(this.name).catch(() => null)) ?? Promise.reject(refusal);
    }
  }

  /** The last message of a node's replica; null where it has none. */
  async last(nodeId: string): Promise<StoredMessage | null> {
    const { manager } = await this.#reach();
    const query = { last_by_subj: this.#subject(nodeId) };
    const message = await this.#within(manager.streams.getMessage(this.name, query));
    return message === null ? null : { sequence: message.seq, bytes: message.data };
  }

  /**
   * Adds a message behind the one that is known to be last; behind any other, where that is null. Resolves with its sequence.
   *
   * Errors: rejects where another is last.
   */
  async append(nodeId: string, text: string, lastSequence: number | null): Promise<number> {
    const { jetstream } = await this.#reach();
    const expect = {
      streamName: this.name,
      ...(lastSequence === null ? {} : { lastSubjectSequence: lastSequence }),
    };
    const published = jetstream.publish(this.#subject(nodeId), text, { expect, timeout: TIMEOUT_MS });
    return (await this.#within(published)).seq;
  }

  /** Removes what a node's replica has in front of a sequence. */
  async purge(nodeId: string, beforeSequence: number): Promise<void> {
    const { manager } = await this.#reach();
    await this.#within(manager.streams.purge(this.name, { filter: this.#subject(nodeId), seq: beforeSequence }));
  }

  /** Removes a node's replica. */
  async remove(nodeId: string): Promise<void> {
    const { manager } = await this.#reach();
    await this.#within(manager.streams.purge(this.name, { filter: this.#subject(nodeId) }));
  }

  /** Visits a node's replica in order, up to the message of that sequence, which must be there. */
  async read(nodeId: string, upToSequence: number, visit: (message: StoredMessage) => void): Promise<void> {
    const { jetstream } = await this.#reach();
    const options = { filter_subjects: this.#subject(nodeId), deliver_policy: DeliverPolicy.All };
    const consumer = await this.#within(jetstream.consumers.get(this.name, options));
    const messages = await this.#within(consumer.consume({ max_messages: READ_AHEAD_MESSAGES }));
    try {
      const iterator = messages[Symbol.asyncIterator]();
      for (;;) {
        const step = await this.#within(iterator.next());
        if (step.done) throw new Error("the server ended the reading of a replica");
        visit({ sequence: step.value.seq, bytes: step.value.data });
        if (step.value.seq >= upToSequence) return;
      }
    } finally {
      void messages.close().then(() => consumer.delete().catch(() => false));
    }
  }

  #subject(nodeId: string): string {
    return journalSubject(this.#options.prefix, nodeId);
  }

  /** File storage, and without any limit: a limit would drop disconnects, which no node would send. */
  #settings(): Partial<StreamConfig> & { name: string } {
    return {
      name: this.name,
      subjects: [this.#subject("*")],
      description: "hubwire: what each node owes its backend",
      retention: RetentionPolicy.Limits,
      storage: StorageType.File,
      num_replicas: this.#options.replicas,
      // Should an operator set a limit, the newest are refused, and that is noticed.
      discard: DiscardPolicy.New,
      max_msgs: -1,
      max_bytes: -1,
      max_age: 0,
      max_msgs_per_subject: -1,
    };
  }

  #compare(wanted: Partial<StreamConfig>, found: StreamConfig): void {
    const names = Object.keys(wanted).filter((name) => name !== "description") as (keyof StreamConfig)[];
    const differences = names
      .filter((name) => JSON.stringify(wanted[name]) !== JSON.stringify(found[name]))
      .map((name) => `${name} is ${JSON.stringify(found[name])}, not ${JSON.stringify(wanted[name])}`);
    const difference = differences.join(", ");
    if (difference !== "" && difference !== this.#lastDifference) {
      this.#options.report({ kind: "replica-settings-differ", detail: `stream ${this.name}: ${difference}` });
    }
    this.#lastDifference = difference;
  }

  async #reach() {
    const { link } = this.#options;
    const { connection } = link;
    if (!link.isUp || connection === null) throw new Error("NATS is away");
    if (this.#clients?.of === connection) return this.#clients;
    const clients = {
      of: connection,
      jetstream: jetstream(connection, { timeout: TIMEOUT_MS }),
      manager: await jetstreamManager(connection, { timeout: TIMEOUT_MS, checkAPI: false }),
    };
    this.#clients = clients;
    return clients;
  }

  /** The client's own requests are not ended by a lost connection, and its iterators wait without end. */
  #within<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const end = (error: Error) => {
        clearTimeout(timer);
        this.#underWay.delete(end);
        reject(error);
      };
      const timer = setTimeout(() => end(new Error("NATS does not answer")), 2 * TIMEOUT_MS);
      this.#underWay.add(end);
      promise.then((value) => {
        clearTimeout(timer);
        this.#underWay.delete(end);
        resolve(value);
      }, end);
    });
  }
}
