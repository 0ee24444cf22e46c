import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { CommandGateway } from "./command-gateway.ts";
import { until } from "./deadline.ts";
import { KEYS } from "./gateway.ts";
import { NatsServer } from "./nats-server.ts";
import { RestClient, type RestRequest } from "./rest-client.ts";

export interface ClusterOptions {
  readonly nodeCount: number;
  readonly urlTemplate: string;
  /** Keys of the configuration besides those of a cluster. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Where NATS listens. Default: 127.0.0.1. */
  readonly natsHost?: string;
}

/** Several gateways, each in a process of its own, on one real nats-server. */
export class Cluster {
  readonly nats: NatsServer;
  readonly nodes: CommandGateway[] = [];
  readonly config: Readonly<Record<string, unknown>>;

  private constructor(nats: NatsServer, { urlTemplate, config = {} }: ClusterOptions) {
    this.nats = nats;
    this.config = {
      accessKeys: KEYS,
      upstreams: [{ urlTemplate }],
      shutdown: { spreadMs: 0, drainTimeoutMs: 8000 },
      cluster: { nats: { servers: [nats.url] } },
      ...config,
    };
  }

  /** Starts NATS and the nodes, and waits until each is ready. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const cluster = new Cluster(await NatsServer.start({ host: options.natsHost ?? "127.0.0.1" }), options);
    try {
      await Promise.all(Array.from({ length: options.nodeCount }, () => cluster.add()));
      return cluster;
    } catch (fault) {
      await cluster[Symbol.asyncDispose]();
      throw fault;
    }
  }

  /** Starts one more node, or one in a given folder, and waits until it is ready. */
  async add(config: Readonly<Record<string, unknown>> = {}): Promise<CommandGateway> {
    const node = await CommandGateway.start({ through: "bun", config: { ...this.config, ...config } });
    this.nodes.push(node);
    await ready(node.port);
    return node;
  }

  /** The node of this number, from 0. */
  node(index: number): CommandGateway {
    const node = this.nodes[index];
    if (node === undefined) throw new Error(`there is no node ${index}`);
    return node;
  }

  /** Waits until other nodes could take over what these words name: ids of connections, or their users in JSON. */
  async copied(words: Iterable<string>): Promise<void> {
    await copied(words, this);
  }

  /** Log lines with which a node reports a bug in hubwire. */
  faults(): string[] {
    const faults = this.nodes.flatMap((node) => node.logLines().filter(({ msg }) => msg === "fault of the service"));
    return faults.map((line) => JSON.stringify(line));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of this.nodes) await node[Symbol.asyncDispose]();
    await this.nats[Symbol.asyncDispose]();
  }
}

/** Waits until a node's health is 200. */
export async function ready(port: number, host = "127.0.0.1"): Promise<void> {
  await until(async () => (await health(port, host)) === 200, `the node on ${port} to be ready`);
}

/** A node's health; 0 where nobody answers. */
export async function health(port: number, host = "127.0.0.1"): Promise<number> {
  try {
    return (await fetch(`http://${host}:${port}/api/health`, { signal: AbortSignal.timeout(2000) })).status;
  } catch {
    return 0;
  }
}

/** One call of a node's REST API on a connection of its own; its status and the code of its error. */
export async function callNode(
  port: number,
  request: RestRequest,
): Promise<{ status: number; retryAfter: string; code: string }> {
  using client = await RestClient.dial(port);
  const { status, head, body } = await client.call(request);
  const text = body.toString("utf8");
  const code = text.startsWith("{") ? String((JSON.parse(text) as { code: unknown }).code) : "";
  return { status, retryAfter: head.all("retry-after").join(), code };
}

/** Waits until the replica of the journal in JetStream, from which other nodes take over, holds each of these words. */
export async function copied(words: Iterable<string>, { nats }: { readonly nats: NatsServer }): Promise<void> {
  const connection = await connect({ servers: nats.url });
  try {
    const manager = await jetstreamManager(connection);
    const missing = new Set(words);
    let next = 1;
    const look = async () => {
      const { last_seq: last } = (await manager.streams.info("hubwire_journal")).state;
      for (; next <= last; next++) {
        const found = await manager.streams.getMessage("hubwire_journal", { seq: next }).catch(() => null);
        const text = found?.string() ?? "";
        for (const word of missing) if (text.includes(word)) missing.delete(word);
      }
      return missing.size === 0;
    };
    await until(look, "the replica of the journal");
  } finally {
    await connection.close();
  }
}
