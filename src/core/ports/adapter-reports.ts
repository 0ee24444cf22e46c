import type { ConnectionFacts } from "../../protocol/facts.ts";

/** What happens to an entry of `upstreams`. `entry` names it without any secret. */
export interface EntryReport {
  /** From here on its connect and message events are refused, but for one probe a second. */
  breakerOpened(entry: string): void;
  breakerClosed(entry: string): void;
  /** The token that proves who calls could not be had or renewed. */
  tokenFailed(entry: string, detail: string): void;
  /** Too many connect events have timed out: the answer to the oldest is not waited for any more. */
  lateAnswerDropped(entry: string): void;
}

/** What happens to the journal's file. */
export interface JournalReport {
  /** The file was damaged and is now at `movedTo`. `reason` also says how much of it the new file has. */
  damaged(movedTo: string, reason: string): void;
  /** The file was removed, replaced or emptied while it was open. A new one is written from memory. */
  lost(reason: string): void;
  /** The journal's `isWritable` turns false. */
  unwritable(reason: string): void;
  /** The journal's `isWritable` turns true again. */
  writable(): void;
}

/** What a start finds of the run before, and what happens to the file of group rules. */
export interface RestartReport {
  recovered(count: number): void;
  journalAbsent(reason: string): void;
  rulesDamaged(movedTo: string, reason: string): void;
  rulesLost(reason: string): void;
  rulesClock(reason: string): void;
}

/** What happens to the small files of `dataDir`. */
export interface DataDirReport {
  /** A file was removed or emptied, and is there again. */
  fileRestored(name: string, reason: string): void;
  /** It cannot be put there again. Reported once for each cause. */
  fileLost(name: string, reason: string): void;
}

/** What happens to the files for TLS and login that are read again; `where` is the option that names them. */
export interface RenewalReport {
  certificateRenewed(where: string): void;
  certificateRefused(where: string, reason: string): void;
}

/** What happens to the journal's replica in NATS, which another node takes over from. */
export interface ReplicaReport {
  /** Called once when copying stops, or where it cannot begin: another node could not take over later changes. */
  stopped(cause: string): void;
  /** Called when all is copied, at the start and after every stop. `count` is the number of connections. */
  copied(count: number): void;
  /** Connections are let in without a copy, where they should wait for it: the replica is not known to have so many entries. */
  missing(entryCount: number): void;
  /** Another node has taken over this node's replica. */
  fenced(nodeId: string): void;
  /** The facts of this connection do not fit into a message: no other node could take it over. */
  tooLarge(facts: ConnectionFacts): void;
}

/** What a node finds in the streams of replicas. */
export interface StreamReport {
  /** The stream has other settings than this version would give it. */
  differs(detail: string): void;
  /** So many messages or entries of a lost node's replica could not be used. */
  skipped(nodeId: string, count: number): void;
}

/** What happens to messages between nodes. */
export interface BrokerReport {
  /** So many messages of other nodes were invalid or were lost in part since the last report; `reason` is that of the last one. */
  messagesDropped(count: number, reason: string): void;
  /** Pushes and questions are refused since these nodes have not answered. Reported once after each return of NATS. */
  nodesAwaited(nodeIds: readonly string[]): void;
}

/** What happens to the leases of nodes. */
export interface LeaseReport {
  /** The bucket of leases cannot be used. Reported once for each time. */
  leasesUnavailable(reason: string): void;
  /** The bucket was deleted and is there again, with this node's lease and those of so many others that it knows. */
  leasesRemade(count: number): void;
  /** This node's lease is renewed again. */
  leasesAvailable(): void;
  /** The bucket has a key that is not a valid node name; the key, cut. */
  leaseIgnored(key: string): void;
}

/** What the wiring of a cluster's node reports. */
export interface ClusterReport {
  /** A server is of a version that is known to lose writes. */
  natsUnsafe(reason: string): void;
  rulesRemade(count: number): void;
  rulesUnavailable(reason: string): void;
  /** Another node has taken over this one's connections, `count` of them. */
  leaseLost(nodeId: string, newNodeId: string, count: number): void;
}
