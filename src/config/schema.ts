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
import { clientPathsSchema } from "./client-path-schema.ts";
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

/** Default of `dataDir`, relative to the configuration file's folder. */
export const DEFAULT_DATA_DIR = "./data";

const listenTlsSchema = z.strictObject({
  certFile: text().register(optionDocs, {
    unit: "path",
    doc: "PEM file of the certificate and its chain. These files are read again when one changes and at a reload; open connections stay open.",
  }),
  keyFile: text().register(optionDocs, { unit: "path", doc: "PEM file of the certificate's key." }),
  clientCaFile: text().nullable().default(null).register(optionDocs, {
    unit: "path",
    doc: "PEM file of the CA certificates that verify client certificates. Required unless clientCert is `none`.",
  }),
  clientCert: z.enum(["none", "optional", "require"]).default("none").register(optionDocs, {
    unit: "",
    doc: "Whether clients may or must present a certificate. The upstream gets its thumbprint. Costs about 2 µs of CPU per message.",
  }),
});

const apiListenerSchema = z.strictObject({
  host: text().default("127.0.0.1").register(optionDocs, {
    unit: "",
    doc: "Address to listen on for the REST API; 0.0.0.0 or :: for every interface.",
  }),
  port: z.int().min(0).max(65_535).register(optionDocs, {
    unit: "port",
    doc: "Port of the REST API. It must differ from listen.port, unless both hosts are different IP addresses. 0 lets the system choose a free port.",
  }),
});

const listenSchema = z.strictObject({
  host: text().default("127.0.0.1").register(optionDocs, {
    unit: "",
    doc: "Address to listen on; 0.0.0.0 or :: for every interface. The default is reachable from this machine only.",
  }),
  port: count(8080, 0, 65_535).register(optionDocs, {
    unit: "port",
    doc: "Port to listen on. 0 lets the system choose a free port.",
  }),
  reusePort: z.boolean().default(false).register(optionDocs, {
    unit: "",
    doc: "Lets several processes of one machine share this port and that of listen.api. The system distributes connections among them. Not together with client certificates.",
  }),
  keepAliveMs: count(75_000, 1000, 255_000).register(optionDocs, {
    unit: "ms",
    doc: "How long an idle connection for REST calls stays open; answers announce it in Keep-Alive. Set it higher than the idle timeout of a load balancer in front (often 60 s), so that the balancer never uses a connection that is being closed.",
  }),
  tls: listenTlsSchema.nullable().default(null).register(optionDocs, {
    unit: "",
    doc: "TLS of this listener and of listen.api. null: no TLS.",
  }),
  api: apiListenerSchema.nullable().default(null).register(optionDocs, {
    unit: "",
    doc: "A separate listener for the REST API; the public listener then answers 404 for it. It uses tls and reusePort of listen: with clientCert require, callers need a certificate too. null: clients and the REST API share one listener.",
  }),
});

const accessKeysSchema = z.strictObject({
  primary: text().nullable().default(null).register(optionDocs, {
    unit: "",
    doc: "Key that signs events and verifies tokens. null: the first start generates this key and a second one, and keeps them in dataDir. A cluster needs the same key on every node. A secret: never logged.",
  }),
  secondary: text().nullable().default(null).register(optionDocs, {
    unit: "",
    doc: "Second valid key, so that keys can be rotated without an interruption; needs primary. A secret: never logged.",
  }),
});

const originsSchema = () => z.array(z.string().superRefine(refusing(originFault)).transform(normaliseOrigin));

const hubSchema = z.strictObject({
  anonymous: z.enum(["allow", "deny"]).optional().register(optionDocs, {
    unit: "",
    doc: "The same as the top-level option, for this hub. If absent, the top-level option applies.",
  }),
  allowedOrigins: originsSchema().optional().register(optionDocs, {
    unit: "",
    doc: "The same as the top-level option, for this hub. If absent, the top-level option applies.",
  }),
  compression: z.boolean().optional().register(optionDocs, {
    unit: "",
    doc: "The same as websocket.compression, for this hub. If absent, websocket.compression applies.",
  }),
});

const websocketSchema = z.strictObject({
  compression: z.boolean().default(false).register(optionDocs, {
    unit: "",
    doc: "Whether to negotiate permessage-deflate. Costs CPU per message; the compressor's memory is shared. A message may be maxMessageBytes long when inflated.",
  }),
  pingAfterMs: ms(20_000, 100).register(optionDocs, {
    unit: "ms",
    doc: "Idle time after which a client is pinged. When many pings are due at one time, some are sent after half of it.",
  }),
  pongTimeoutMs: ms(8000, 100).register(optionDocs, {
    unit: "ms",
    doc: "How long to wait for the answer to a ping. Then the connection ends with 1006, `ping timeout`.",
  }),
});

const limitsSchema = z.strictObject({
  maxConnections: count(50_000, 1, 10_000_000).register(optionDocs, {
    unit: "count",
    doc: "Maximum number of open connections; further clients get 503. Lowered if the process's file limit does not allow it. An idle connection costs about 4 kB.",
  }),
  maxPendingUpgrades: count(1024, 1, 1_000_000).register(optionDocs, {
    unit: "count",
    doc: "Maximum number of clients that wait for the answer to connect at one time; further clients get 503.",
  }),
  maxPendingUpgradesPerAddress: z.int().min(1).max(1_000_000).nullable().default(null).register(optionDocs, {
    unit: "count",
    doc: "The same limit for one client address, or one /64 of IPv6 addresses; further clients get 429. A client that leaves counts until the call to its backend has ended. null: a quarter of maxPendingUpgrades.",
  }),
  maxMessageBytes: bytes(1_048_576, 1, GIB).register(optionDocs, {
    unit: "bytes",
    doc: "Maximum length of a client's message, after joining fragments and inflating; a longer one closes the connection with 1009.",
  }),
  maxResponseBytes: bytes(1_048_576, 1, GIB).register(optionDocs, {
    unit: "bytes",
    doc: "Maximum length of the body of an upstream's answer; a longer one counts as no answer.",
  }),
  maxInboxMessages: count(128, 1, 1_000_000).register(optionDocs, {
    unit: "count",
    doc: "Maximum number of messages of one connection that wait for the upstream. At this number hubwire stops reading from the client, and resumes at half of it; no message is lost.",
  }),
  maxInboxBytes: bytes(4_194_304, 1, GIB).register(optionDocs, { unit: "bytes", doc: "The same limit, in bytes." }),
  inboxPauseTimeoutMs: ms(30_000, 1).register(optionDocs, {
    unit: "ms",
    doc: "How long reading may be paused without progress. Then the connection is closed with 1013, `inbox full`.",
  }),
  inboxDrainTimeoutMs: ms(30_000).register(optionDocs, {
    unit: "ms",
    doc: "How long waiting messages are still posted after their connection has closed; 0 discards them.",
  }),
  maxOutboxBytes: bytes(16_777_216, 1, GIB).register(optionDocs, {
    unit: "bytes",
    doc: "Maximum number of bytes that wait for one client; beyond it the client is disconnected (1013, `slow consumer`). Messages are never skipped.",
  }),
  outboxStallTimeoutMs: ms(30_000, 1).register(optionDocs, {
    unit: "ms",
    doc: "How long a client with waiting bytes may read less than 1000 bytes per second; then it is disconnected (1013, `slow consumer`).",
  }),
  maxBufferedBytes: bytes(268_435_456, 1, 1024 * GIB).register(optionDocs, {
    unit: "bytes",
    doc: "Limit on all waiting bytes of the process. It counts messages in flight and in inboxes (256 bytes each beyond the payload), their requests until they are written, outboxes, bodies of REST calls, and answers that are being delivered. Above half of it, hubwire stops reading from clients with waiting messages, and does not keep messages for a repeat that the backend has not answered for 2 s. Above 80 %, clients that read too slowly and clients whose messages were not answered for 2 s are closed with 1013; then new clients and sends through the REST API get 503. Above the limit, or after 5 s above 80 %, the connections that hold the most are closed. Incomplete messages cannot be counted: when the process has grown by 1.5 times this limit (at least 128 MiB, and 8 KiB for each connection), new clients and sends get 503, and clients in the middle of a message are closed, then those with the longest queries and claims.",
  }),
  maxGroupsPerConnection: count(1024, 1, 1_000_000).register(optionDocs, {
    unit: "count",
    doc: "Maximum number of groups of one connection; a further join is refused with 409.",
  }),
  connectsPerSecondPerAddress: count(0, 0, 1_000_000).register(optionDocs, {
    unit: "count per second",
    doc: "Maximum rate of new connections of one client address, or one /64 of IPv6 addresses; further ones get 429. 0: no limit.",
  }),
  maxLogBufferBytes: bytes(1_048_576, 65_536, GIB).register(optionDocs, {
    unit: "bytes",
    doc: "Maximum size of log lines that wait while nobody reads standard error. Further lines are dropped, and their number is logged when reading resumes. Costs the same amount of memory.",
  }),
  messagesPerSecond: count(0, 0, 10_000_000).register(optionDocs, {
    unit: "count per second",
    doc: "Maximum rate of messages of one connection; exceeding it closes the connection with 1008. 0: no limit.",
  }),
  bytesPerSecond: count(0, 0, 1024 * GIB).register(optionDocs, {
    unit: "bytes per second",
    doc: "Maximum rate of bytes of one connection's messages, pings and unsolicited pongs; exceeding it closes the connection with 1008. 0: no limit.",
  }),
  controlFramesPerSecond: count(50, 0, 10_000_000).register(optionDocs, {
    unit: "count per second",
    doc: "Maximum rate of pings and unsolicited pongs of one connection, with bursts of four times as many; exceeding it closes the connection with 1008. 0: no limit.",
  }),
});

const disconnectSchema = z.strictObject({
  retryForSeconds: count(86_400, 0, 31_536_000).register(optionDocs, {
    unit: "s",
    doc: "How long a disconnect event is retried while the upstream does not accept it, also after restarts; then it becomes a dead letter. Time while hubwire is not running does not count. Each waiting event costs about 200 bytes of memory. 0: it becomes a dead letter at once.",
  }),
  retryRefusedForSeconds: count(300, 0, 31_536_000).register(optionDocs, {
    unit: "s",
    doc: "How long a disconnect event is retried while the upstream refuses it with 401, 403, 404, 405, 407, 410 or 421, as during a rolling deployment, also after restarts; then it becomes a dead letter. Each costs the backend a request every 30 s. 0: it becomes a dead letter at once.",
  }),
  maxPerSecond: count(500, 1, 1_000_000).register(optionDocs, {
    unit: "count per second",
    doc: "Maximum rate of retried disconnect events for each entry of upstreams; live traffic has priority. They use at most a quarter of the entry's maxConcurrency.",
  }),
});

const journalSchema = z.strictObject({
  synchronous: z.enum(["normal", "full"]).default("normal").register(optionDocs, {
    unit: "",
    doc: "normal: owed disconnect events survive a crash of the process. full: they survive a power cut too; each connect then waits for two disk syncs.",
  }),
});

const shutdownSchema = z.strictObject({
  delayMs: ms(0).register(optionDocs, {
    unit: "ms",
    doc: "Time between health 503 and refusing new clients, so that a load balancer notices first.",
  }),
  spreadMs: ms(5000).register(optionDocs, {
    unit: "ms",
    doc: "Time over which connections are closed with 1012, so that clients do not all reconnect at once.",
  }),
  drainTimeoutMs: ms(15_000).register(optionDocs, {
    unit: "ms",
    doc: "Maximum duration of the shutdown: delay, spread, calls in flight and disconnect events. Undelivered disconnect events stay in the journal for the next start. 0 does not wait.",
  }),
});

/** The schema of a whole configuration. `templates` is another name of `upstreams`: the loader renames it. */
export const configSchema = z.strictObject({
  listen: listenSchema
    .prefault({})
    .register(optionDocs, { unit: "", doc: "Where clients and backends reach hubwire." }),
  publicUrls: z
    .array(z.string().superRefine(refusing((url) => absoluteUrlFault(url, ["http", "https", "ws", "wss"]))))
    .default([])
    .register(optionDocs, {
      unit: "",
      doc: "URLs under which clients and backends reach this gateway, including the one of listen.api. A token's `aud` must name one of their hosts. Empty: the request's Host is accepted instead, which a client can choose, so start-up warns.",
    }),
  accessKeys: accessKeysSchema.prefault({}).register(optionDocs, {
    unit: "",
    doc: "Keys that sign client tokens and events.",
  }),
  dataDir: text().default(DEFAULT_DATA_DIR).register(optionDocs, {
    unit: "path",
    doc: "Folder for data that must outlive the process. It is created with mode 0700 if missing; the mode of an existing folder is not changed. A relative path starts at the configuration file's folder.",
  }),
  trustedProxies: z
    .array(z.string().superRefine(refusing(addressRangeFault)))
    .default([])
    .register(optionDocs, {
      unit: "",
      doc: "IP addresses and networks (CIDR) of your proxies. X-Forwarded-For and clientCertHeader are accepted from these only.",
    }),
  clientCertHeader: text()
    .superRefine(refusing((name) => (isHeaderName(name) ? null : "must be a header's name")))
    .nullable()
    .default(null)
    .register(optionDocs, {
      unit: "",
      doc: "Request header in which a trusted proxy that terminates TLS sends the SHA-1 thumbprint of the client certificate. null: no such header.",
    }),
  anonymous: z.enum(["allow", "deny"]).default("allow").register(optionDocs, {
    unit: "",
    doc: "Whether clients without a token may reach the connect event.",
  }),
  allowedOrigins: originsSchema().default(["*"]).register(optionDocs, {
    unit: "",
    doc: "Allowed values of the Origin header (`https://app.example`), or `*` for all. Requests without Origin are always allowed.",
  }),
  paths: clientPathsSchema(),
  hubs: z.record(z.string(), hubSchema).default({}).register(optionDocs, {
    unit: "",
    doc: "Settings for single hubs, by name; names are case-insensitive. Events spell a hub as it is written here, else as in hubPattern, else as in paths, else in lower case.",
  }),
  upstreams: z.array(upstreamSchema).default([]).register(optionDocs, {
    unit: "",
    doc: "Backends, in order. The first entry whose three patterns match gets the event. A file may use the name `templates` instead.",
  }),
  allowedUpstreamHosts: z
    .array(z.string().superRefine(refusing(allowedHostFault)))
    .default(["*"])
    .register(optionDocs, {
      unit: "",
      doc: "Hosts that event URLs and token URLs may name: `*`, names, `*.example.com`, IP addresses and networks (CIDR). Link-local and metadata addresses are refused unless they are listed explicitly, or the exact name that resolves to them is; `*` does not include them.",
    }),
  websocket: websocketSchema.prefault({}).register(optionDocs, { unit: "", doc: "WebSocket settings for clients." }),
  limits: limitsSchema
    .prefault({})
    .register(optionDocs, { unit: "", doc: "Limits on connections, messages, queues and rates." }),
  disconnect: disconnectSchema.prefault({}).register(optionDocs, { unit: "", doc: "Retries of disconnect events." }),
  journal: journalSchema.prefault({}).register(optionDocs, { unit: "", doc: "The journal of connections." }),
  shutdown: shutdownSchema
    .prefault({})
    .register(optionDocs, { unit: "", doc: "How the process ends on SIGTERM and SIGINT." }),
  cluster: clusterSchema.nullable().default(null).register(optionDocs, {
    unit: "",
    doc: "Settings for several machines, or several processes of one machine, that act as one gateway; needs accessKeys.primary. null: this process is a gateway without a cluster.",
  }),
});

type ParsedConfig = z.output<typeof configSchema>;

/** The options of one hub, with the general options filled in where the hub leaves them out. */
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
/** How calls to an upstream are authenticated. */
export type UpstreamAuth = UpstreamEntry["auth"];
/** Files for TLS towards an upstream; absolute paths or null. */
export type UpstreamTls = UpstreamEntry["tls"];
/** The NATS that a cluster works on, and how to log in there. */
export type NatsOptions = NonNullable<Config["cluster"]>["nats"];
/** Where the REST API listens where it has a listener of its own. */
export type ApiListener = NonNullable<Config["listen"]["api"]>;
/** The TLS listener's files and what it asks of clients. */
export type ListenTls = NonNullable<Config["listen"]["tls"]>;
