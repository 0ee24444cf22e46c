import { randomBytes } from "node:crypto";
import { NatsBroker } from "../broker/nats.ts";
import { countReplicas } from "../config/cluster-schema.ts";
import type { Config } from "../config/schema.ts";
import type { Renewal } from "../config/tls-files.ts";
import { endOldConnections } from "../core/drain.ts";
import type { Broker, BrokerHandler } from "../core/ports/broker.ts";
import { listKnown, Takeover } from "../core/takeover.ts";
import { JetstreamJournal } from "../journal/jetstream.ts";
import { ReplicaStream } from "../journal/replica-stream.ts";
import { ReplicaWait } from "../journal/replica-wait.ts";
import { Replicas } from "../journal/replicas.ts";
import { ReplicatedJournal } from "../journal/replicated.ts";
import type { SqliteJournal } from "../journal/sqlite.ts";
import { KvLeases } from "../leases/kv.ts";
import { readNodeId, writeNodeId } from "../leases/node-id-file.ts";
import { NatsLink } from "../nats/link.ts";
import { describeUnsafe, isUnsafeVersion } from "../nats/server-version.ts";
import { NODE_ID_LENGTH, nodeOf } from "../protocol/connection-id.ts";
import { OLDEST_FORM } from "../protocol/forms.ts";
import type { Report } from "../protocol/notices.ts";
import { KvRuleStore } from "../rules/kv.ts";
import { openLocalJournal, randomConnectionId } from "./lone-node.ts";
import { systemClock } from "./system-clock.ts";
import type { Core, NodeParts, Running, StopStack } from "./wiring.ts";

/** How long a node without NATS still counts as ready. Source: PROTOCOL.md, "Several nodes". */
const READY_GRACE_MS = 5000;

/** How long the end waits for the replica of the journal. */
const LEAVE_LIMIT_MS = 2000;

/** 6 random bytes are eight characters of base64url. */
const NODE_ID_BYTES = (NODE_ID_LENGTH * 3) / 4;

type NatsConfig = NonNullable<Config["cluster"]>["nats"];

interface Around {
  readonly running: Running;
  readonly report: Report;
  readonly stack: StopStack;
}

/** Builds what a node of a cluster has of its own: the connection to NATS, and all that goes over it. */
export async function buildClusterNode(
  running: Running,
  { report, stack, wasUsed }: { report: Report; stack: StopStack; wasUsed: boolean },
): Promise<NodeParts> {
  const { cluster } = running.config;
  if (cluster === null) throw new Error("the configuration has no cluster");
  const link = NatsLink.start(cluster.nats, report);
  stack.push(() => link.stop());
  warnOfVersions(link, report);
  const node = new ClusterNode({ running, report, stack }, cluster.nats, link);
  await node.openJournal(wasUsed);
  return node;
}

/** Says once of each version that is too old that a server of it is used. */
function warnOfVersions(link: NatsLink, report: Report): void {
  const said = new Set<string>();
  const look = (): void => {
    const version = link.connection?.info?.version ?? "";
    if (said.has(version) || !isUnsafeVersion(version)) return;
    said.add(version);
    report({ kind: "nats-unsafe", reason: describeUnsafe(version) });
  };
  link.onChange((isUp) => isUp && look());
  link.onMove({ open: async () => {}, leave: () => {}, moved: look, abandoned: () => {} });
}

/**
 * This node among the others: its name, and the parts that go by it.
 *
 * Order: a name holds from the start, or the loss of a lease, to the next loss. It is written to `dataDir` before it is used, so
 *        that the next process in the folder can reclaim its lease.
 */
class ClusterNode implements NodeParts {
  readonly #around: Around;
  readonly #prefix: string;
  readonly #replicas: number;
  readonly #link: NatsLink;
  readonly #copy: JetstreamJournal;
  readonly #logs: Replicas;
  readonly ruleStore: KvRuleStore;
  /** The name of the process before this one in the folder. */
  readonly #nameBefore: string | null;
  #nodeId = randomBytes(NODE_ID_BYTES).toString("base64url");
  #openJournal: ReplicatedJournal | null = null;
  #localJournal: SqliteJournal | null = null;
  #broker: NatsBroker | null = null;
  #leases: KvLeases | null = null;
  #core: Core | null = null;
  #wasReady = false;
  #unreadySinceMs: number | null = null;
  #isReclaimed = false;
  #isStopping = false;
  /** Until NATS has this node's lease: the others take over no replica of a node that they do not know. */
  #leasing: PromiseWithResolvers<void> | null = Promise.withResolvers();

  constructor(around: Around, nats: NatsConfig, link: NatsLink) {
    const { running, report, stack } = around;
    this.#around = around;
    this.#link = link;
    this.#prefix = nats.subjectPrefix;
    this.#replicas = countReplicas(nats);
    this.#nameBefore = readNodeId(running.config.dataDir);
    this.#keepName();
    const common = { link, prefix: this.#prefix, replicas: this.#replicas };
    const stream = new ReplicaStream({ ...common, report });
    const form = () => this.#form();
    this.#copy = new JetstreamJournal({
      nodeId: this.#nodeId,
      stream,
      form,
      report,
      onFenced: () => this.#leaseLost(),
    });
    const whenReplicated = async () => {
      await this.#openJournal?.whenFollowed();
      await this.#copy.whenReplicated();
    };
    this.#logs = new Replicas({ stream, whenReplicated, report });
    this.ruleStore = new KvRuleStore({
      ...common,
      form,
      report,
    });
    stack.push(() => this.ruleStore.close());
  }

  async openJournal(wasUsed: boolean): Promise<void> {
    const { running, report, stack } = this.#around;
    const local = await openLocalJournal(running.config, {
      report,
      wasUsed,
      onWritable: () => this.#core?.redelivery.start(),
    });
    this.#localJournal = local;
    const journal = new ReplicatedJournal(local, this.#copy, this.#makeWait());
    this.#openJournal = journal;
    stack.push(() => journal.close());
  }

  #makeWait(): ReplicaWait | null {
    const { running, report } = this.#around;
    if (running.config.cluster?.journalCopy !== "wait") return null;
    return new ReplicaWait({ copy: this.#copy, whenLeased: () => this.#leasing?.promise, report });
  }

  get journal(): ReplicatedJournal {
    return opened(this.#openJournal);
  }

  makeBroker(handler: BrokerHandler): Broker {
    const { report } = this.#around;
    this.#broker = new NatsBroker({
      link: this.#link,
      prefix: this.#prefix,
      nodeId: this.#nodeId,
      nodeIdBefore: this.#nameBefore,
      handler,
      clock: systemClock,
      form: () => this.#form(),
      report,
      isMember: () => this.ruleStore.isCurrent && this.#leases?.isHeld === true,
    });
    return this.#broker;
  }

  /** The form that every node reads. */
  #form(): number {
    return this.#leases?.commonForm ?? OLDEST_FORM;
  }

  newConnectionId(): string {
    return this.#nodeId + randomConnectionId();
  }

  isOwn(connectionId: string): boolean {
    return nodeOf(connectionId) === this.#nodeId;
  }

  isReady(): boolean {
    if (!opened(this.#localJournal).checkFile()) return false;
    if (opened(this.#broker).isReady) {
      this.#wasReady = true;
      this.#unreadySinceMs = null;
      return true;
    }
    this.#unreadySinceMs ??= systemClock.now();
    return this.#wasReady && systemClock.now() - this.#unreadySinceMs < READY_GRACE_MS;
  }

  renewCertificates(): readonly Renewal[] {
    return this.#link.renewCertificates();
  }

  journalQueueLength(): number {
    return opened(this.#localJournal).queueLength;
  }

  async start(core: Core): Promise<void> {
    const { stack, report } = this.#around;
    this.#core = core;
    // Before any of it is sent: what has been is in the journal no more.
    let known: ReadonlySet<string> = this.#nameBefore === null ? new Set() : await listKnown(core.journal);
    // The time without NATS counts from its loss, not from the first health check.
    this.#link.onChange((isUp) => {
      if (!isUp) this.#unreadySinceMs ??= systemClock.now();
    });
    this.#leases = new KvLeases({
      link: this.#link,
      prefix: this.#prefix,
      replicas: this.#replicas,
      nodeId: this.#nodeId,
      clock: systemClock,
      report,
      onGone: (nodeId) => void takeover.takeOver(nodeId),
      onLost: () => this.#leaseLost(),
      onForm: () => this.#copy.formChanged(),
      onHeld: () => {
        this.#leasing?.resolve();
        this.#leasing = null;
        this.#reclaimOnce(takeover, known);
        known = new Set();
      },
    });
    const { journal, redelivery } = core;
    const parts = {
      leases: this.#leases,
      nodeJournals: this.#logs,
      journal,
      redelivery,
      timeOfDayMs: Date.now,
      report,
    };
    const takeover = new Takeover(parts);
    stack.push(() => this.#leave());
    void core.rules.load();
    opened(this.#broker).start();
    this.#leases.start();
  }

  /** No other node needs to take over what the process before has left in this folder. */
  #reclaimOnce(takeover: Takeover, known: ReadonlySet<string>): void {
    if (this.#isReclaimed || this.#nameBefore === null) return;
    this.#isReclaimed = true;
    void takeover.reclaim(this.#nameBefore, known);
  }

  /** A full disk does not stop the start: the next process then knows an older name, and other nodes take this one's lease over. */
  #keepName(): void {
    const { running, report } = this.#around;
    try {
      writeNodeId(running.config.dataDir, this.#nodeId);
    } catch (error) {
      report({ kind: "fault", where: "the node's name in dataDir", error });
    }
  }

  /** Another node has taken over what this one owed. Both ways to notice lead here. */
  #leaseLost(): void {
    if (this.#isStopping) return;
    const { running, report } = this.#around;
    const before = this.#nodeId;
    this.#nodeId = randomBytes(NODE_ID_BYTES).toString("base64url");
    this.#keepName();
    this.#leasing ??= Promise.withResolvers();
    const disowned = this.#copy.moveTo(this.#nodeId);
    report({ kind: "lease-lost", nodeId: before, newNodeId: this.#nodeId, count: disowned.length });
    this.#broker?.rename(this.#nodeId);
    this.#leases?.rename(this.#nodeId);
    this.journal
      .disown(disowned)
      .catch((error) => report({ kind: "fault", where: "the journal of a lost lease", error }));
    const { spreadMs } = running.options;
    if (this.#core === null) return;
    endOldConnections({ ...this.#core, clock: systemClock }, { disowned: new Set(disowned), spreadMs }).catch((error) =>
      report({ kind: "fault", where: "connections of a lost lease", error }),
    );
  }

  /** Where something is owed, or the replica does not say yet that nothing is, the lease runs out and another node takes it over. */
  async #leave(): Promise<void> {
    this.#isStopping = true;
    await this.#broker?.stop();
    await this.journal.whenFollowed();
    const late = Promise.withResolvers<false>();
    const cancel = systemClock.after(LEAVE_LIMIT_MS, () => late.resolve(false));
    const copied = this.#copy.whenReplicated().then(
      () => true,
      () => false,
    );
    const isReplicated = await Promise.race([copied, late.promise]);
    cancel();
    await this.#leases?.stop({ release: isReplicated && this.#copy.entries.size === 0 });
  }
}

function opened<Part>(part: Part | null): Part {
  if (part === null) throw new Error("a part of the node was asked for before it was there");
  return part;
}
