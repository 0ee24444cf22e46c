import type { ConnectionEnd } from "./close-causes.ts";
import type { ConnectionFacts } from "./facts.ts";

/**
 * Something that happened in hubwire and that an operator may want to know: for the log, for counters, for other listeners.
 *
 * Shape:  a value with a `kind`. The part in which it happened makes one, and knows none of the listeners. An event of every
 *         message makes no notice: it is a number of `core/meters.ts`.
 *         No notice has a token or a key. `facts` has what clients sent (claims, query): a listener shows only what it names.
 *         In all others every field may be shown.
 * Source: decision 0048.
 */
export type Notice =
  | ClientNotice
  | DisconnectNotice
  | UpstreamNotice
  | FileNotice
  | JournalNotice
  | RulesNotice
  | ReplicaNotice
  | NatsNotice
  | NodeNotice
  | Fault;

/** The notices of a kind. */
export type NoticeOf<Kind extends Notice["kind"]> = Extract<Notice, { kind: Kind }>;

/** Tells the listeners. */
export type Report = (notice: Notice) => void;

/** A bug in hubwire that an edge caught. */
export interface Fault {
  readonly kind: "fault";
  readonly where: string;
  readonly error: unknown;
}

/**
 * An event that a backend does not get; as a `dead-letter`, a disconnect event that is given up after all its tries, and that
 * `hubwire dead-letters` has now.
 */
export interface Undelivered<Kind extends "undelivered" | "dead-letter" = "undelivered" | "dead-letter"> {
  readonly kind: Kind;
  readonly connectionId: string;
  readonly hub: string;
  /** The connection's whole `X-Forwarded-For`, from which a listener finds the client; null where it is not at hand. */
  readonly forwardedFor: string | null;
  readonly event: "connect" | "message" | "disconnect";
  readonly eventId: string;
  /** In words: cause and detail of the outcome. */
  readonly cause: string;
  /** How many events this is about; above one where a queue was discarded whole. */
  readonly count: number;
  /** How long its call took until it failed; null where no call was made for it, and for disconnect events. Units: whole milliseconds. */
  readonly tookMs: number | null;
}

/** A client that was refused. */
export interface RefusedClient {
  readonly kind: "connection-refused";
  /** Empty where the request names none. */
  readonly hub: string;
  readonly status: number;
  readonly code: string;
  /** The refusal's sentence. */
  readonly message: string;
  readonly clientAddress: string;
  /** Whether the client, which is not a trusted proxy, sent `X-Forwarded-For`. */
  readonly isChainIgnored: boolean;
}

/** Notices about clients. */
export type ClientNotice =
  | RefusedClient
  | Undelivered<"undelivered">
  | Undelivered<"dead-letter">
  | { readonly kind: "connection-opened"; readonly facts: ConnectionFacts }
  | { readonly kind: "connection-closed"; readonly facts: ConnectionFacts; readonly end: ConnectionEnd }
  /** A client ended its TCP connection before its handshake was answered. */
  | { readonly kind: "client-left"; readonly hub: string; readonly clientAddress: string }
  /** Connect was answered with 2xx after it had timed out: a second disconnect event follows. */
  | { readonly kind: "accepted-late"; readonly facts: ConnectionFacts };

/** Disconnect events on their way. `entry` names one of `upstreams` without any secret. */
export type DisconnectNotice =
  /** A start has found so many connections of an earlier run. */
  | { readonly kind: "connections-recovered"; readonly count: number }
  /** The entry did not take a disconnect event: it and those after it wait. */
  | { readonly kind: "disconnects-waiting"; readonly entry: string; readonly cause: string }
  /** It takes them again. */
  | { readonly kind: "disconnects-flowing"; readonly entry: string }
  /** It refuses a disconnect event with a status that a backend also says while it is deployed: the event is tried again for a while. */
  | { readonly kind: "disconnect-refused"; readonly entry: string; readonly cause: string };

/** What happens to an entry of `upstreams`. `entry` names it without any secret. */
export type UpstreamNotice =
  /** From here on its connect and message events are refused, but for one probe a second. */
  | { readonly kind: "breaker-opened"; readonly entry: string }
  | { readonly kind: "breaker-closed"; readonly entry: string }
  /** The token that authenticates calls was not issued or renewed. */
  | { readonly kind: "token-failed"; readonly entry: string; readonly detail: string }
  /** Too many connect events have timed out: the answer to the oldest is not waited for any more. */
  | { readonly kind: "late-answer-dropped"; readonly entry: string };

/** What happens to the small files of `dataDir`, and to the files for TLS and login; `where` is the option that names them. */
export type FileNotice =
  /** A file was removed or emptied, and is there again. */
  | { readonly kind: "file-restored"; readonly name: string; readonly reason: string }
  /** It cannot be restored. Told once for each cause. */
  | { readonly kind: "file-lost"; readonly name: string; readonly reason: string }
  | { readonly kind: "certificate-renewed"; readonly where: string }
  /** The files that were read before stay in use. */
  | { readonly kind: "certificate-refused"; readonly where: string; readonly reason: string };

/** What happens to the journal's file. */
export type JournalNotice =
  /** A start has found a folder that was in use, without its journal. */
  | { readonly kind: "journal-absent"; readonly reason: string }
  /** The file was damaged and is now at `movedTo`. `reason` also says how much of it the new file has. */
  | { readonly kind: "journal-damaged"; readonly movedTo: string; readonly reason: string }
  /** The file was removed, replaced or emptied while it was open. A new one is written from memory. */
  | { readonly kind: "journal-lost"; readonly reason: string }
  /** The journal's `isWritable` turns false. */
  | { readonly kind: "journal-unwritable"; readonly reason: string }
  /** The journal's `isWritable` turns true again. */
  | { readonly kind: "journal-writable" };

/** What happens to the group rules: to their file, or to their bucket in NATS. */
export type RulesNotice =
  /** The file was damaged and is now at `movedTo`. The rules go on empty. */
  | { readonly kind: "rules-damaged"; readonly movedTo: string; readonly reason: string }
  /** The file was removed, replaced or emptied while it was open. A new one is written from memory. */
  | { readonly kind: "rules-lost"; readonly reason: string }
  /** The clock does not fit the last run: rules may have ended too soon, or be kept too long. */
  | { readonly kind: "rules-clock-misfit"; readonly reason: string }
  /** The bucket was deleted and is there again, filled with so many rules that this node knows. */
  | { readonly kind: "rules-remade"; readonly count: number }
  /** The bucket cannot be read, or holds an invalid rule. */
  | { readonly kind: "rules-unavailable"; readonly reason: string };

/** What happens to the journal's replica in NATS, which another node takes over from. */
export type ReplicaNotice =
  /** Told once when copying stops, or where it cannot begin: another node could not take over later changes. */
  | { readonly kind: "replica-stopped"; readonly cause: string }
  /** All is copied, at the start and after every stop. `count` is the number of connections. */
  | { readonly kind: "replica-complete"; readonly count: number }
  /** Clients are accepted without a copy, where they should wait for it: the replica is not known to have so many entries. */
  | { readonly kind: "replica-missing"; readonly entriesWithoutCopy: number }
  /** Another node has taken over this node's replica. */
  | { readonly kind: "replica-fenced"; readonly nodeId: string }
  /** The facts of this connection do not fit into a message: no other node could take it over. */
  | { readonly kind: "replica-too-large"; readonly facts: ConnectionFacts }
  /** The stream has other settings than this version would give it. */
  | { readonly kind: "replica-settings-differ"; readonly detail: string }
  /**
   * So many messages or entries of a lost node's replica could not be used: damaged, written by no node of this version, or with a
   * name or value of which no event can be made.
   */
  | { readonly kind: "replica-skipped"; readonly nodeId: string; readonly count: number };

/** What happens to the connection to NATS. */
export type NatsNotice =
  | { readonly kind: "nats-up"; readonly server: string }
  /** Told once when it is lost, and where it could not be made at first. */
  | { readonly kind: "nats-down"; readonly cause: string }
  /** A server refused something, and which: a subject that the account may not use, for example. `unsaidCount` further ones were not reported. */
  | { readonly kind: "nats-refused"; readonly cause: string; readonly unsaidCount: number }
  /** A server is of a version that is known to lose writes. */
  | { readonly kind: "nats-unsafe"; readonly reason: string };

/** What nodes hear of each other, and what happens to their leases. */
export type NodeNotice =
  /** So many messages of other nodes were invalid or were lost in part since the last notice; `reason` is that of the last one. */
  | { readonly kind: "node-messages-dropped"; readonly count: number; readonly reason: string }
  /** Pushes and questions are refused since these nodes have not answered. Told once after each return of NATS. */
  | { readonly kind: "nodes-awaited"; readonly nodeIds: readonly string[] }
  /** Another node is gone, and this one has taken over its disconnect events. */
  | { readonly kind: "node-taken-over"; readonly nodeId: string; readonly count: number }
  /** A takeover failed; the next node that finds the claim ended tries again. */
  | { readonly kind: "takeover-failed"; readonly nodeId: string; readonly cause: string }
  /** The bucket of leases cannot be used. Told once for each time. */
  | { readonly kind: "lease-unavailable"; readonly reason: string }
  /** This node's lease is renewed again. */
  | { readonly kind: "lease-available" }
  /** The bucket was deleted and is there again, with this node's lease and those of so many others that it knows. */
  | { readonly kind: "leases-remade"; readonly count: number }
  /** The bucket has a key that is not a valid node name; the key, cut. */
  | { readonly kind: "lease-ignored"; readonly key: string }
  /** Another node has taken over this one's connections, `count` of them. */
  | { readonly kind: "lease-lost"; readonly nodeId: string; readonly newNodeId: string; readonly count: number };
