import pino, { type Logger } from "pino";
import type { Report, Undelivered } from "../core/ports.ts";

/** Lines that cannot be written are kept up to this, then dropped: a full disk behind the log must not fill the memory. */
const MAX_UNWRITTEN_BYTES = 1_048_576;

/**
 * The process's log: pino JSON lines on standard error, so that standard output stays for people.
 *
 * Shape:  `index` is the process's number where several write to one log; it stands in every line then.
 */
export function createLog(index?: string): Logger {
  const destination = pino.destination({ fd: 2, sync: true, maxLength: MAX_UNWRITTEN_BYTES });
  // Whoever read the log may have gone, with a terminal or a pipe: no reason to end what is logged about.
  destination.on("error", () => {});
  const base = index === undefined ? null : { process: Number(index) };
  return pino({ base, timestamp: pino.stdTimeFunctions.isoTime }, destination);
}

/** What an upstream entry reports; declared here since adapters do not know each other. */
export interface EntryReport {
  breakerOpened(entry: string): void;
  breakerClosed(entry: string): void;
  tokenFailed(entry: string, detail: string): void;
}

/** What the journal reports; declared here for the same reason. */
export interface JournalReport {
  damaged(movedTo: string, reason: string): void;
  unwritable(reason: string): void;
  writable(): void;
}

/** What a start reports of the run before. */
export interface RestartReport {
  recovered(count: number): void;
  rulesDamaged(movedTo: string, reason: string): void;
}

/** What a node of a cluster reports of NATS and the other nodes; declared here for the same reason. */
export interface ClusterReport {
  readonly nats: {
    up(server: string): void;
    down(cause: string): void;
    refused(cause: string, unsaidCount: number): void;
  };
  /** The copy of the journal, which another node takes over from. */
  readonly copy: {
    stopped(cause: string): void;
    copied(count: number): void;
    fenced(nodeId: string): void;
    tooLarge(connectionId: string): void;
    differs(detail: string): void;
    skipped(nodeId: string, count: number): void;
  };
  messagesDropped(count: number, reason: string): void;
  nodesAwaited(nodeIds: readonly string[]): void;
  leasesUnavailable(reason: string): void;
  leasesAvailable(): void;
  leaseIgnored(key: string): void;
  /** Another node has taken over this one's connections, `count` of them. */
  leaseLost(nodeId: string, newNodeId: string, count: number): void;
  rulesUnavailable(reason: string): void;
}

export interface LogReportOptions {
  /** The client's address in a whole `X-Forwarded-For` of ours. */
  readonly clientOf: (forwardedFor: string) => string;
}

/** Said where a client that is no trusted proxy sent `X-Forwarded-For`: behind it may be all clients of a proxy. */
const CHAIN_NOTE = "X-Forwarded-For is not believed: if this address is a proxy of yours, list it in trustedProxies";

/**
 * Writes every fact as one log line. Where it is about a client, the line has its address, `clientAddress`.
 *
 * Cost:   opens and closes are `debug` lines, which the default level leaves out; what was lost or refused is `warn`.
 *         Nothing here holds a token, key, query string or header value.
 */
export function createLogReport(
  log: Logger,
  { clientOf }: LogReportOptions,
): Report & EntryReport & { readonly journal: JournalReport } & RestartReport & ClusterReport {
  const withClient = ({ forwardedFor, ...fact }: Undelivered) => ({
    ...fact,
    clientAddress: forwardedFor === null ? null : clientOf(forwardedFor),
  });
  return {
    ...createClusterReport(log),
    connectionOpened: ({ connectionId, hub, forwardedFor }) =>
      log.debug({ connectionId, hub, clientAddress: clientOf(forwardedFor) }, "connection opened"),
    connectionClosed: ({ connectionId, hub, forwardedFor }, { code, reason }) =>
      log.debug(
        { connectionId, hub, clientAddress: clientOf(forwardedFor), closeCode: code, closeReason: reason },
        "connection closed",
      ),
    connectionRefused: ({ hub, status, code, message, clientAddress, isChainIgnored }) => {
      const note = isChainIgnored ? { note: CHAIN_NOTE } : {};
      log.info({ hub, status, code, cause: message, clientAddress, ...note }, "connection refused");
    },
    clientLeft: (hub, clientAddress) => log.info({ hub, clientAddress }, "client left before it was answered"),
    undelivered: (fact) => log.warn(withClient(fact), "event not delivered"),
    disconnectsWaiting: (entry, cause) => log.warn({ entry, cause }, "disconnect events wait for the upstream"),
    disconnectsFlowing: (entry) => log.info({ entry }, "disconnect events are taken again"),
    deadLetter: (fact) => log.error(withClient(fact), "disconnect event given up: see hubwire dead-letters"),
    nodeTakenOver: (nodeId, count) =>
      log.warn({ nodeId, count }, "node lost: its disconnect events are sent from here"),
    takeoverFailed: (nodeId, cause) => log.warn({ nodeId, cause }, "takeover of a lost node failed: tried again"),
    fault: (where, error) => log.error({ where, err: error }, "fault of the service"),
    breakerOpened: (entry) => log.warn({ entry }, "circuit breaker opened"),
    breakerClosed: (entry) => log.info({ entry }, "circuit breaker closed"),
    tokenFailed: (entry, detail) => log.warn({ entry, detail }, "no token for the upstream"),
    recovered: (count) => log.warn({ count }, "connections of an earlier run: their disconnect events are sent now"),
    rulesDamaged: (movedTo, reason) => log.error({ movedTo, reason }, "group rules damaged: moved aside"),
    journal: {
      damaged: (movedTo, reason) => log.error({ movedTo, reason }, "journal damaged: moved aside"),
      unwritable: (reason) => log.error({ reason }, "journal cannot be written: nobody is let in"),
      writable: () => log.info("journal is written again"),
    },
  };
}

function createClusterReport(log: Logger): ClusterReport {
  return {
    nats: {
      up: (server) => log.info({ server }, "NATS reached"),
      down: (cause) => log.warn({ cause }, "NATS out of reach: pushes and questions are answered 503"),
      refused: (cause, unsaidCount) => log.error({ cause, unsaidCount }, "NATS refused something"),
    },
    copy: {
      stopped: (cause) =>
        log.warn({ cause }, "journal not copied: no other node could take over what changes from here on"),
      copied: (count) => log.info({ count }, "journal copied"),
      fenced: (nodeId) => log.warn({ nodeId }, "journal's copy taken over by another node"),
      tooLarge: (connectionId) => log.warn({ connectionId }, "connection not copied: its entry is too large"),
      differs: (detail) => log.warn({ detail }, "the journal's stream has other settings, which are left as they are"),
      skipped: (nodeId, count) =>
        log.error({ nodeId, count }, "messages or entries of a lost node's journal could not be used"),
    },
    messagesDropped: (count, reason) => log.warn({ count, reason }, "messages between nodes dropped"),
    nodesAwaited: (nodeIds) =>
      log.warn(
        { nodeIds },
        "nodes have not answered since NATS is back: pushes and questions are answered 503 till then",
      ),
    leasesUnavailable: (reason) => log.warn({ reason }, "lease not renewed: lost nodes are not taken over"),
    leasesAvailable: () => log.info("lease renewed again"),
    leaseIgnored: (key) => log.warn({ key }, "ignored in the bucket of leases: this key is no node's name"),
    leaseLost: (nodeId, newNodeId, count) =>
      log.error({ nodeId, newNodeId, count }, "lease lost: another node has taken over these connections"),
    rulesUnavailable: (reason) => log.warn({ reason }, "group rules out of reach"),
  };
}
