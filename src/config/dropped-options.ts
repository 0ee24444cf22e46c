import { type Option, optionName } from "./options.ts";

/**
 * The effect of a reload that leaves out an option that was given before: one row for each option of the schema.
 *
 * A file that was cut while it was written has lost keys, and the default of most protections is "off". So every option says
 * whether its default may allow more than what was written. test/docs.test.ts fails for an option without a row.
 */

/** What a reload does when an option is left out that was given before. */
export type Dropping =
  /** The default may open what the value had closed. `means` continues the sentence "is not given any more, which …". */
  | { readonly kind: "opens"; readonly means: string; readonly opens: Comparison }
  /** The default protects as well, or the option protects nothing: the reload is taken. */
  | { readonly kind: "harmless" }
  /** The option, and all below it, takes effect at the next start only: no reload can drop it. */
  | { readonly kind: "fixed" };

/** Whether the value in force after a reload lets more happen than the one before. */
type Comparison = (before: unknown, after: unknown) => boolean;

const HARMLESS: Dropping = { kind: "harmless" };
const FIXED: Dropping = { kind: "fixed" };

const opens = (means: string, comparison: Comparison): Dropping => ({ kind: "opens", means, opens: comparison });

const isAnother: Comparison = (before, after) => before !== after;
const isGone: Comparison = (before, after) => before !== null && after === null;
const isEmptied: Comparison = (before, after) => countItems(before) > 0 && countItems(after) === 0;

const isOpenedToAnonymous: Comparison = (before, after) => before === "deny" && after === "allow";

const isRepeating: Comparison = (before, after) => before === false && after === true;

/** Lists of what is allowed, in which `*` means all. */
const isWider: Comparison = (before, after) => {
  if (!Array.isArray(before) || !Array.isArray(after) || before.includes("*")) return false;
  const known = new Set<unknown>(before);
  return after.some((item) => !known.has(item));
};

/** A header that is not sent any more. Names compare without case. */
const isHeaderLost: Comparison = (before, after) => {
  const left = new Set(headerNames(after));
  return left.size > 0 && headerNames(before).some((name) => !left.has(name));
};

/** A pattern that takes everything, in place of one that names what it takes. */
const isUnbound: Comparison = (before, after) => before !== "*" && after === "*";

/** The type of an entry's `auth`. */
const isUnproved: Comparison = (before, after) => authType(before) !== "none" && authType(after) === "none";

/** A value that is not known to be harmless is not dropped. */
const UNDECLARED: Dropping = opens("changes what it protects", isAnother);

const isMore: Comparison = (before, after) => Number(after) > Number(before);

/** Numbers of which 0 means no limit. */
const isFaster: Comparison = (before, after) => isMore(orUnlimited(before), orUnlimited(after));

/** An upper bound: its default may be higher. */
const bound = (means: string) => opens(means, isMore);
/** A limit on a rate: its default may be higher, or none. */
const rate = (means: string) => opens(means, isFaster);

function countItems(value: unknown): number {
  return Array.isArray(value) ? value.length : 0;
}

function headerNames(value: unknown): string[] {
  return typeof value === "object" && value !== null ? Object.keys(value).map((name) => name.toLowerCase()) : [];
}

function authType(value: unknown): unknown {
  return typeof value === "object" && value !== null && "type" in value ? value.type : "none";
}

function orUnlimited(value: unknown): unknown {
  return value === 0 ? Number.POSITIVE_INFINITY : value;
}

/**
 * One row for each option, by its name (`optionName`). Blocks need none, unless they are `fixed` or have a default of their
 * own: what they hold has rows.
 */
export const DROPPED_OPTIONS: Readonly<Record<string, Dropping>> = {
  listen: FIXED,
  publicUrls: opens("accepts tokens for any host that a client names", isEmptied),
  "accessKeys.primary": opens("puts the key of dataDir in force in its place", isGone),
  // One key fewer: what is left out opens nothing any more. This is how a key rotation ends.
  "accessKeys.secondary": HARMLESS,
  dataDir: FIXED,
  trustedProxies: opens("shows the upstream the address of the proxy in place of the client's", isEmptied),
  clientCertHeader: opens("hides the clients' certificates from the upstream", isGone),
  anonymous: opens("lets clients without a token through to the connect event", isOpenedToAnonymous),
  allowedOrigins: opens("lets browsers of other origins in", isWider),
  // A hub that is left out has left out the options below. Its spelling is compared for all hubs, those of patterns too.
  hubs: HARMLESS,
  // A path that is left out takes no clients any more. Its hub's spelling is compared with those of all hubs.
  paths: HARMLESS,
  "paths[].pattern": HARMLESS,
  "paths[].hub": HARMLESS,
  "hubs.{name}.anonymous": opens("lets clients without a token through to the connect event", isOpenedToAnonymous),
  "hubs.{name}.allowedOrigins": opens("lets browsers of other origins in", isWider),
  "hubs.{name}.compression": HARMLESS,
  upstreams: opens("lets clients with a token in without asking any backend", isEmptied),
  "upstreams[].hubPattern": opens("sends this entry the events of every hub", isUnbound),
  "upstreams[].categoryPattern": opens("sends this entry the events of every category", isUnbound),
  "upstreams[].eventPattern": opens("sends this entry every event", isUnbound),
  // Required: an entry without it is a fault.
  "upstreams[].urlTemplate": HARMLESS,
  "upstreams[].dialect": HARMLESS,
  "upstreams[].connectEventName": opens("calls the connect event by a name that the backend may not check", isAnother),
  "upstreams[].timeoutMs": HARMLESS,
  "upstreams[].onMessageFailure": HARMLESS,
  "upstreams[].repeatOnStaleSocket": opens("sends this backend a message again where a kept socket died", isRepeating),
  "upstreams[].keepAliveMs": HARMLESS,
  // At most maxConcurrency, which has a row of its own.
  "upstreams[].maxIdleSockets": HARMLESS,
  "upstreams[].maxConcurrency": bound("allows more calls to this backend at the same time"),
  // Three quarters of maxConcurrency may be less than what was given. It counts as more, since that is the usual case.
  "upstreams[].maxConcurrencyPerAddress": opens(
    "lets one address take three quarters of this backend's places",
    isGone,
  ),
  "upstreams[].maxWaitMs": HARMLESS,
  "upstreams[].forwardHeaders": opens("hides headers of the client that this backend may decide by", isEmptied),
  "upstreams[].passResponseHeaders": HARMLESS,
  "upstreams[].breaker.failureRatio": HARMLESS,
  "upstreams[].breaker.minCalls": HARMLESS,
  "upstreams[].breaker.windowMs": HARMLESS,
  "upstreams[].auth": opens("sends this backend calls without authentication", isUnproved),
  "upstreams[].auth.type": HARMLESS,
  "upstreams[].auth.headers": opens("sends this backend calls without a header that they had", isHeaderLost),
  "upstreams[].auth.tokenUrl": HARMLESS,
  "upstreams[].auth.clientId": HARMLESS,
  "upstreams[].auth.clientSecret": HARMLESS,
  "upstreams[].auth.scope": opens("asks for tokens of a scope that the token endpoint chooses", isGone),
  "upstreams[].auth.resource": HARMLESS,
  "upstreams[].tls.caFile": opens("trusts every authority of the system for this backend", isGone),
  "upstreams[].tls.certFile": opens("calls this backend without a client certificate", isGone),
  "upstreams[].tls.keyFile": opens("calls this backend without a client certificate", isGone),
  allowedUpstreamHosts: opens("allows calls to other hosts", isWider),
  "websocket.compression": HARMLESS,
  "websocket.pingAfterMs": HARMLESS,
  "websocket.pongTimeoutMs": HARMLESS,
  "limits.maxConnections": bound("allows more connections"),
  "limits.maxPendingUpgrades": bound("lets more clients wait for the connect event"),
  // A quarter of maxPendingUpgrades may be less than what was given. It counts as more, since that is the usual case.
  "limits.maxPendingUpgradesPerAddress": opens("lets one address hold a quarter of those who wait", isGone),
  "limits.maxMessageBytes": bound("accepts longer messages"),
  "limits.maxResponseBytes": bound("accepts longer answers of the upstream"),
  "limits.maxInboxMessages": bound("lets more messages of one connection wait"),
  "limits.maxInboxBytes": bound("lets more bytes of one connection wait"),
  "limits.inboxPauseTimeoutMs": bound("keeps connections with a full inbox for longer"),
  "limits.inboxDrainTimeoutMs": bound("keeps the messages of closed connections for longer"),
  "limits.maxOutboxBytes": bound("lets more bytes wait for a client that reads slowly"),
  "limits.outboxStallTimeoutMs": bound("lets bytes wait for longer for a client that does not read"),
  "limits.maxBufferedBytes": bound("lets more bytes wait in the process"),
  "limits.maxGroupsPerConnection": bound("allows more groups for each connection"),
  "limits.connectsPerSecondPerAddress": rate("allows more connects of one address"),
  "limits.maxLogBufferBytes": bound("lets more log lines wait while nobody reads them"),
  "limits.messagesPerSecond": rate("allows more messages of one connection"),
  "limits.bytesPerSecond": rate("allows more bytes of one connection"),
  "limits.controlFramesPerSecond": rate("allows more pings of one connection"),
  "disconnect.retryForSeconds": HARMLESS,
  "disconnect.retryRefusedForSeconds": HARMLESS,
  "disconnect.maxPerSecond": bound("sends a backend more disconnect events at a time"),
  journal: FIXED,
  "shutdown.delayMs": HARMLESS,
  "shutdown.spreadMs": HARMLESS,
  "shutdown.drainTimeoutMs": HARMLESS,
  cluster: FIXED,
};

/** Whether an option has a row, or is in a block that needs no rows for its options. */
export function isDeclared(option: Option): boolean {
  return isFixed(option) || Object.hasOwn(DROPPED_OPTIONS, optionName(option)) || isPlainBlock(option);
}

/** What dropping an option means. One without a row is taken for a protection. */
export function droppingOf(option: Option): Dropping {
  if (isFixed(option)) return FIXED;
  return DROPPED_OPTIONS[optionName(option)] ?? (isPlainBlock(option) ? HARMLESS : UNDECLARED);
}

function isFixed({ path }: Option): boolean {
  return path.some((_, position) => DROPPED_OPTIONS[optionName({ path: path.slice(0, position + 1) })] === FIXED);
}

/** A block that is the same whether it is left out or empty. */
function isPlainBlock({ kind, nullable, fallback }: Option): boolean {
  return kind === "block" && !nullable && fallback === undefined;
}
