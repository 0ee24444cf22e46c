import { z } from "zod";
import type { HubSpellings } from "../protocol/names.ts";
import {
  absoluteUrlFault,
  addressRangeFault,
  allowedHostFault,
  isHeaderName,
  normaliseOrigin,
  originFault,
} from "./addresses.ts";
import { clusterSchema } from "./cluster-schema.ts";
import { optionDocs, refusing } from "./option-docs.ts";
import { upstreamSchema } from "./upstream-schema.ts";

/**
 * Every option of hubwire: name, default, limits, unit, sentence. The loader, the environment and flag twins and
 * docs/configuration.md are all derived from here.
 */

/** A value that cannot be changed, all the way down. */
export type DeepReadonly<Value> = Value extends readonly (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : Value extends object
    ? { readonly [Key in keyof Value]: DeepReadonly<Value[Key]> }
    : Value;

const text = () => z.string().min(1);
const count = (fallback: number, min: number, max: number) => z.int().min(min).max(max).default(fallback);
/** Timers hold 2^31 - 1 ms at most; an hour is beyond any use of these. */
const ms = (fallback: number, min = 0) => count(fallback, min, 3_600_000);
const bytes = (fallback: number, min: number, max: number) => count(fallback, min, max);
const GIB = 1_073_741_824;

/** Where data is kept when nothing is said; as in a file, relative to the file's folder. */
export const DEFAULT_DATA_DIR = "./data";

const listenTlsSchema = z.strictObject({
  certFile: text().register(optionDocs, {
    unit: "path",
    doc: "PEM file of the certificate and its chain. Read again when one of these files changes, and at a reload; open connections stay.",
  }),
  keyFile: text().register(optionDocs, { unit: "path", doc: "PEM file of the certificate's key." }),
  clientCaFile: text().nullable().default(null).register(optionDocs, {
    unit: "path",
    doc: "PEM file of the CA certificates that verify client certificates. Required unless clientCert is `none`.",
  }),
  clientCert: z.enum(["none", "optional", "require"]).default("none").register(optionDocs, {
    unit: "",
    doc: "Whether clients show a certificate; its thumbprint goes to the upstream. Costs about 2 µs of CPU a message.",
  }),
});

const apiListenerSchema = z.strictObject({
  host: text().default("127.0.0.1").register(optionDocs, {
    unit: "",
    doc: "Address to listen on for the REST API; 0.0.0.0 or :: for every interface.",
  }),
  port: z.int().min(0).max(65_535).register(optionDocs, {
    unit: "port",
    doc: "Another port than listen.port, unless both hosts are IP addresses that differ. 0 lets the system choose a free one.",
  }),
});

const listenSchema = z.strictObject({
  host: text().default("127.0.0.1").register(optionDocs, {
    unit: "",
    doc: "Address to listen on; 0.0.0.0 or :: for every interface. The default is reachable from this machine only.",
  }),
  port: count(8080, 0, 65_535).register(optionDocs, { unit: "port", doc: "0 lets the system choose a free one." }),
  reusePort: z.boolean().default(false).register(optionDocs, {
    unit: "",
    doc: "Lets several processes of one machine share the port, and that of listen.api; the system spreads connections over them.",
  }),
  keepAliveMs: count(75_000, 1000, 255_000).register(optionDocs, {
    unit: "ms",
    doc: "How long a connection for REST calls stays open while nothing comes over it; answers say so in Keep-Alive. Longer than the idle time of a load balancer in front, often 60 s, so that it never calls over a connection that is being closed.",
  }),
  tls: listenTlsSchema.nullable().default(null).register(optionDocs, {
    unit: "",
    doc: "Certificate of the listener, and of listen.api; null listens without TLS.",
  }),
  api: apiListenerSchema.nullable().default(null).register(optionDocs, {
    unit: "",
    doc: "A listener for the REST API alone; the public one then answers 404 for it. Takes tls and reusePort of listen: with clientCert require, callers need a certificate too. null: clients and the REST API share one listener.",
  }),
});

const accessKeysSchema = z.strictObject({
  primary: text().nullable().default(null).register(optionDocs, {
    unit: "",
    doc: "Signs events and proves tokens. null: this key and a second one are made at the first start and kept in dataDir. A cluster needs it, the same on every node. A secret: never logged.",
  }),
  secondary: text().nullable().default(null).register(optionDocs, {
    unit: "",
    doc: "Second key in force, so that keys can be changed without a gap; needs primary. A secret: never logged.",
  }),
});

const originsSchema = () => z.array(z.string().superRefine(refusing(originFault)).transform(normaliseOrigin));

const hubSchema = z.strictObject({
  anonymous: z.enum(["allow", "deny"]).optional().register(optionDocs, {
    unit: "",
    doc: "As the top-level option, for this hub. Left out: the top-level option.",
  }),
  allowedOrigins: originsSchema().optional().register(optionDocs, {
    unit: "",
    doc: "As the top-level option, for this hub. Left out: the top-level option.",
  }),
  compression: z.boolean().optional().register(optionDocs, {
    unit: "",
    doc: "As websocket.compression, for this hub. Left out: websocket.compression.",
  }),
});

const websocketSchema = z.strictObject({
  compression: z.boolean().default(false).register(optionDocs, {
    unit: "",
    doc: "Offers permessage-deflate. Costs CPU per message; memory is shared. Inflates no further than maxMessageBytes.",
  }),
  pingAfterMs: ms(20_000, 100).register(optionDocs, {
    unit: "ms",
    doc: "A connection from which nothing came for this long is pinged; after half of it already, where many are due at one time.",
  }),
  pongTimeoutMs: ms(8000, 100).register(optionDocs, {
    unit: "ms",
    doc: "A ping without an answer for this long ends the connection with 1006, `ping timeout`.",
  }),
});

const limitsSchema = z.strictObject({
  maxConnections: count(50_000, 1, 10_000_000).register(optionDocs, {
    unit: "count",
    doc: "Open connections; the next one gets 503. Lowered to what the process's file limit allows. An idle one costs about 4 kB.",
  }),
  maxPendingUpgrades: count(1024, 1, 1_000_000).register(optionDocs, {
    unit: "count",
    doc: "Clients that wait for the connect event's answer at the same time; the next one gets 503.",
  }),
  maxPendingUpgradesPerAddress: z.int().min(1).max(1_000_000).nullable().default(null).register(optionDocs, {
    unit: "count",
    doc: "Those of one client address, or of one /64 of IPv6 addresses; the next one gets 429. A client that leaves counts until the call to its backend has ended. null: a quarter of maxPendingUpgrades.",
  }),
  maxMessageBytes: bytes(1_048_576, 1, GIB).register(optionDocs, {
    unit: "bytes",
    doc: "Longest message of a client, inflated and joined; a longer one closes with 1009.",
  }),
  maxResponseBytes: bytes(1_048_576, 1, GIB).register(optionDocs, {
    unit: "bytes",
    doc: "Longest body of an upstream's answer; a longer one counts as no answer.",
  }),
  maxInboxMessages: count(128, 1, 1_000_000).register(optionDocs, {
    unit: "count",
    doc: "Messages of one connection that wait for the upstream. Reading pauses here and resumes at half: nothing is lost.",
  }),
  maxInboxBytes: bytes(4_194_304, 1, GIB).register(optionDocs, { unit: "bytes", doc: "The same bound in bytes." }),
  inboxPauseTimeoutMs: ms(30_000, 1).register(optionDocs, {
    unit: "ms",
    doc: "Paused for this long without progress: closed with 1013, `inbox full`.",
  }),
  inboxDrainTimeoutMs: ms(30_000).register(optionDocs, {
    unit: "ms",
    doc: "How long queued messages are still posted after a connection has closed; 0 discards them.",
  }),
  maxOutboxBytes: bytes(16_777_216, 1, GIB).register(optionDocs, {
    unit: "bytes",
    doc: "What may wait for one client that reads slowly; beyond it the connection closes with 1013, `slow consumer`.",
  }),
  outboxStallTimeoutMs: ms(30_000, 1).register(optionDocs, {
    unit: "ms",
    doc: "How long a client for whom bytes wait may take less than 1000 bytes per second of them; then it closes with 1013, `slow consumer`.",
  }),
  maxBufferedBytes: bytes(268_435_456, 1, 1024 * GIB).register(optionDocs, {
    unit: "bytes",
    doc: "Waiting in the whole process: messages in flight and in inboxes (256 bytes each beyond the payload), their requests until these are written, outboxes, bodies of REST calls, answers on their way. Past half of it clients with messages that wait are read no further, and messages that the backend has not answered for 2 s are not kept for a repeat. Past 80 % clients that read too slowly, and those whose messages were not answered for 2 s, are closed with 1013, then new clients and sends through the API get 503; past it, or after 5 s past 80 %, the connections that hold most are closed. Incomplete messages are not counted: when the process has grown by 1.5 times this (at least 128 MiB, and 8 KiB for each connection), new clients and sends get 503 and clients in the middle of a message are closed, then those with the longest queries and claims.",
  }),
  maxGroupsPerConnection: count(1024, 1, 1_000_000).register(optionDocs, {
    unit: "count",
    doc: "Groups that one connection may be in.",
  }),
  connectsPerSecondPerAddress: count(0, 0, 1_000_000).register(optionDocs, {
    unit: "count per second",
    doc: "New connections of one client address, or of one /64 of IPv6 addresses; more get 429. 0: no limit.",
  }),
  maxLogBufferBytes: bytes(1_048_576, 65_536, GIB).register(optionDocs, {
    unit: "bytes",
    doc: "Log lines that wait while nobody reads standard error; more are dropped, and their number is logged once lines are read again. Costs as much memory.",
  }),
  messagesPerSecond: count(0, 0, 10_000_000).register(optionDocs, {
    unit: "count per second",
    doc: "Messages of one connection; more close it with 1008. 0: no limit.",
  }),
  bytesPerSecond: count(0, 0, 1024 * GIB).register(optionDocs, {
    unit: "bytes per second",
    doc: "Bytes of one connection's messages, pings and unasked pongs; more close it with 1008. 0: no limit.",
  }),
  controlFramesPerSecond: count(50, 0, 10_000_000).register(optionDocs, {
    unit: "count per second",
    doc: "Pings and unasked pongs of one connection, four times as many in a burst; more close it with 1008. 0: no limit.",
  }),
});

const disconnectSchema = z.strictObject({
  retryForSeconds: count(86_400, 0, 31_536_000).register(optionDocs, {
    unit: "s",
    doc: "How long a disconnect event is tried again while the upstream does not take it, through restarts; then it is a dead letter. Time while hubwire is not running does not count. Each that waits costs about 200 bytes of memory. 0: it is one at once.",
  }),
  retryRefusedForSeconds: count(300, 0, 31_536_000).register(optionDocs, {
    unit: "s",
    doc: "How long a disconnect event is tried again while the upstream refuses it with 401, 403, 404, 405, 407, 410 or 421, as in a rolling deployment, through restarts; then it is a dead letter. Each costs the backend a request every 30 s. 0: it is one at once.",
  }),
  maxPerSecond: count(500, 1, 1_000_000).register(optionDocs, {
    unit: "count per second",
    doc: "Disconnect events that are tried again, for each upstream entry, at most; live traffic goes first. They use no more than a quarter of its maxConcurrency.",
  }),
});

const journalSchema = z.strictObject({
  synchronous: z.enum(["normal", "full"]).default("normal").register(optionDocs, {
    unit: "",
    doc: "normal: what was promised survives a crash of the process. full: a power cut too; then a connect waits for the disk twice.",
  }),
});

const shutdownSchema = z.strictObject({
  delayMs: ms(0).register(optionDocs, {
    unit: "ms",
    doc: "Between health 503 and the end of accepting, so that a load balancer sees it first.",
  }),
  spreadMs: ms(5000).register(optionDocs, {
    unit: "ms",
    doc: "Time over which connections are closed with 1012, so that their clients do not all come back at once.",
  }),
  drainTimeoutMs: ms(15_000).register(optionDocs, {
    unit: "ms",
    doc: "The whole shutdown: delay, spread, calls in flight, disconnect events. What is undelivered then waits in the journal for the next start; 0 waits for nothing.",
  }),
});

/** The schema of a whole configuration. `upstreams` stands for `templates` too: the loader renames it. */
export const configSchema = z.strictObject({
  listen: listenSchema
    .prefault({})
    .register(optionDocs, { unit: "", doc: "Where clients and backends reach hubwire." }),
  publicUrls: z
    .array(z.string().superRefine(refusing((url) => absoluteUrlFault(url, ["http", "https", "ws", "wss"]))))
    .default([])
    .register(optionDocs, {
      unit: "",
      doc: "URLs under which clients and backends reach this gateway, the one of listen.api too; only their hosts may stand in a token's audience. Empty: the request's Host counts, which a client chooses, so start-up warns.",
    }),
  accessKeys: accessKeysSchema.prefault({}).register(optionDocs, {
    unit: "",
    doc: "The keys that client tokens are made with and events are signed with.",
  }),
  dataDir: text().default(DEFAULT_DATA_DIR).register(optionDocs, {
    unit: "path",
    doc: "Folder for what must outlive the process. Made with mode 0700 where it is missing; the mode of one that exists is not changed. A relative path starts at the configuration file's folder.",
  }),
  trustedProxies: z
    .array(z.string().superRefine(refusing(addressRangeFault)))
    .default([])
    .register(optionDocs, {
      unit: "",
      doc: "IP addresses and networks (CIDR) of your proxies. Only these may set X-Forwarded-For and clientCertHeader.",
    }),
  clientCertHeader: text()
    .superRefine(refusing((name) => (isHeaderName(name) ? null : "must be a header's name")))
    .nullable()
    .default(null)
    .register(optionDocs, {
      unit: "",
      doc: "Request header in which a trusted proxy that ends TLS gives the client certificate's SHA-1 thumbprint; null: none.",
    }),
  anonymous: z.enum(["allow", "deny"]).default("allow").register(optionDocs, {
    unit: "",
    doc: "Whether clients without a token are let through to the connect event.",
  }),
  allowedOrigins: originsSchema().default(["*"]).register(optionDocs, {
    unit: "",
    doc: "Values of Origin that browsers may come from (`https://app.example`), or `*` for all. Clients that send no Origin are not asked.",
  }),
  hubs: z.record(z.string(), hubSchema).default({}).register(optionDocs, {
    unit: "",
    doc: "Settings of single hubs, by name; names compare without case. Events carry a hub as it is written here, else as hubPattern writes it, else in lower case.",
  }),
  upstreams: z.array(upstreamSchema).default([]).register(optionDocs, {
    unit: "",
    doc: "Backends, in order; the first entry whose three patterns match takes the event. A file may say `templates` instead.",
  }),
  allowedUpstreamHosts: z
    .array(z.string().superRefine(refusing(allowedHostFault)))
    .default(["*"])
    .register(optionDocs, {
      unit: "",
      doc: "Hosts that event URLs and token URLs may name: `*`, names, `*.example.com`, IP addresses and networks (CIDR). Link-local and metadata addresses are refused unless listed by themselves, or by the exact name that resolves to them; `*` does not list them.",
    }),
  websocket: websocketSchema.prefault({}).register(optionDocs, { unit: "", doc: "The client's side of the wire." }),
  limits: limitsSchema.prefault({}).register(optionDocs, { unit: "", doc: "Every queue's bound." }),
  disconnect: disconnectSchema.prefault({}).register(optionDocs, { unit: "", doc: "Retries of disconnect events." }),
  journal: journalSchema.prefault({}).register(optionDocs, { unit: "", doc: "The journal of connections." }),
  shutdown: shutdownSchema
    .prefault({})
    .register(optionDocs, { unit: "", doc: "How the process ends on SIGTERM and SIGINT." }),
  cluster: clusterSchema.nullable().default(null).register(optionDocs, {
    unit: "",
    doc: "Several machines, or several processes of one machine, as one gateway; accessKeys.primary must be given. null: this process is a gateway of its own.",
  }),
});

type ParsedConfig = z.output<typeof configSchema>;

/** What holds for one hub, with the general options filled in where the hub leaves them out. */
export interface HubConfig {
  readonly anonymous: "allow" | "deny";
  readonly allowedOrigins: readonly string[];
  readonly compression: boolean;
}

/**
 * A checked configuration: every option has a value, nothing can be changed. `load.ts` makes it.
 *
 * Shape:  `hubs` is keyed by `hubKey(name)` and has no prototype; use `hubConfig` to look a hub up. `hubSpellings` follows from
 *         `hubs` and `upstreams`: how the hubs are written that one of them names.
 */
export type Config = DeepReadonly<Omit<ParsedConfig, "hubs">> & {
  readonly hubs: Readonly<Record<string, HubConfig>>;
  readonly hubSpellings: HubSpellings;
};
/** One entry of `upstreams`. */
export type UpstreamEntry = Config["upstreams"][number];
/** How calls to an upstream prove who sends them. */
export type UpstreamAuth = UpstreamEntry["auth"];
/** Files for TLS towards an upstream; absolute paths or null. */
export type UpstreamTls = UpstreamEntry["tls"];
/** The NATS that a cluster works on, and how to log in there. */
export type NatsOptions = NonNullable<Config["cluster"]>["nats"];
/** Where the REST API listens where it has a listener of its own. */
export type ApiListener = NonNullable<Config["listen"]["api"]>;
/** The TLS listener's files and what it asks of clients. */
export type ListenTls = NonNullable<Config["listen"]["tls"]>;
