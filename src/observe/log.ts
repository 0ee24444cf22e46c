import type {
  BrokerReport,
  ClusterReport,
  DataDirReport,
  EntryReport,
  JournalReport,
  LeaseReport,
  RenewalReport,
  ReplicaReport,
  RestartReport,
  StreamReport,
} from "../core/ports/adapter-reports.ts";
import type { Report, Undelivered } from "../core/ports/report.ts";
import type { NatsReport } from "../nats/link.ts";
import type { Line, LineFacts, LineSums } from "./line-sums.ts";

/** Every fact that the log writes. Each is declared once: by the core, or in `adapter-reports.ts` and `nats/link.ts`. */
export type LogReport = Report & ServiceReport & ClusterNodeReport;

type ServiceReport = EntryReport & RestartReport & DataDirReport & RenewalReport & { readonly journal: JournalReport };

type ClusterNodeReport = ClusterReport &
  BrokerReport &
  LeaseReport & { readonly nats: NatsReport; readonly copy: ReplicaReport & StreamReport };

export interface LogReportOptions {
  /** The client's address in the whole `X-Forwarded-For` that the upstream gets. */
  readonly clientOf: (forwardedFor: string) => string;
}

/** Said where a client that is no trusted proxy sent `X-Forwarded-For`: behind it may be all clients of a proxy. */
const CHAIN_NOTE = "X-Forwarded-For is not believed: if this address is a proxy of yours, list it in trustedProxies";

/**
 * Writes every fact as a log line, and equal ones once a second. Where a fact is about a client, its line has the client's address,
 * `clientAddress`.
 *
 * Cost:   opens and closes are `debug` lines, which the default level leaves out; what was lost or refused is `warn`.
 *         Nothing here holds a token, key, query string or header value.
 */
export function createLogReport(lines: LineSums, { clientOf }: LogReportOptions): LogReport {
  return {
    ...createClientReport(lines, clientOf),
    ...createServiceReport(lines),
    ...createClusterReport(lines, clientOf),
  };
}

/** The facts that clients cause. */
type ClientFact =
  | "connectionOpened"
  | "connectionClosed"
  | "connectionRefused"
  | "clientLeft"
  | "acceptedLate"
  | "undelivered"
  | "deadLetter";

function createClientReport(lines: LineSums, clientOf: LogReportOptions["clientOf"]): Pick<Report, ClientFact> {
  const lost = ({ forwardedFor, ...fact }: Undelivered) => ({
    kind: fact.event,
    detail: fact.cause,
    facts: { ...fact, clientAddress: forwardedFor === null ? null : clientOf(forwardedFor) },
  });
  return {
    connectionOpened({ connectionId, hub, forwardedFor }) {
      if (!lines.isWritten("debug")) return;
      const facts = { connectionId, hub, clientAddress: clientOf(forwardedFor) };
      lines.write({ level: "debug", message: "connection opened", facts });
    },
    connectionClosed({ connectionId, hub, forwardedFor }, { code: closeCode, reason: closeReason }) {
      if (!lines.isWritten("debug")) return;
      const facts = { connectionId, hub, closeCode, closeReason, clientAddress: clientOf(forwardedFor) };
      lines.write({ level: "debug", message: "connection closed", detail: `${closeCode}`, facts });
    },
    connectionRefused({ hub, status, code, message, clientAddress, isChainIgnored }) {
      const note = isChainIgnored ? { note: CHAIN_NOTE } : {};
      const facts = { hub, status, code, cause: message, clientAddress, ...note };
      // A relayed refusal has its status from the backend.
      lines.write({
        level: "info",
        message: "connection refused",
        kind: `${code} ${isChainIgnored}`,
        detail: `${status}`,
        facts,
      });
    },
    clientLeft(hub, clientAddress) {
      lines.write({ level: "info", message: "client left before it was answered", facts: { hub, clientAddress } });
    },
    acceptedLate({ connectionId, hub, forwardedFor }) {
      const facts = { connectionId, hub, clientAddress: clientOf(forwardedFor) };
      lines.write({ level: "warn", message: "connect accepted after its time-out: raise timeoutMs", facts });
    },
    undelivered(fact) {
      lines.write({ level: "warn", message: "event not delivered", ...lost(fact) });
    },
    deadLetter(fact) {
      lines.write({ level: "error", message: "disconnect event given up: see hubwire dead-letters", ...lost(fact) });
    },
  };
}

function createServiceReport(lines: LineSums): Omit<Report, ClientFact> & ServiceReport {
  const say = saying(lines);
  return {
    disconnectsWaiting: (entry, cause) => say("warn", "disconnect events wait for the upstream", { entry, cause }),
    disconnectRefused: (entry, cause) =>
      say("warn", "the upstream refuses a disconnect event, which is tried again", { entry, cause }),
    disconnectsFlowing: (entry) => say("info", "disconnect events are taken again", { entry }),
    nodeTakenOver: (nodeId, count) =>
      say("warn", "node lost: its disconnect events are sent from here", { nodeId, count }),
    takeoverFailed: (nodeId, cause) => say("warn", "takeover of a lost node failed: tried again", { nodeId, cause }),
    fault: (where, error) => writeFault(lines, error, { where }),
    breakerOpened: (entry) => say("warn", "circuit breaker opened", { entry }),
    breakerClosed: (entry) => say("info", "circuit breaker closed", { entry }),
    lateAnswerDropped: (entry) =>
      say("warn", "too many connect events timed out: the oldest one's answer is not waited for", { entry }),
    tokenFailed: (entry, detail) => say("warn", "no token for the upstream", { entry, detail }),
    recovered: (count) => say("warn", "connections of an earlier run: their disconnect events are sent now", { count }),
    journalAbsent: (reason) =>
      say("error", "journal lost while hubwire was stopped: clients of the last run may get no disconnect event", {
        reason,
      }),
    rulesLost: (reason) => say("error", "group rules lost while in use: written anew from memory", { reason }),
    rulesClock: (reason) => say("warn", "group rules: the clock does not fit the last run", { reason }),
    fileRestored: (name, reason) =>
      say("error", "file in dataDir lost while in use: it is there again", { name, reason }),
    fileLost: (name, reason) => say("error", "file in dataDir lost: it cannot be put there again", { name, reason }),
    certificateRenewed: (where) => say("info", "certificate files renewed", { where }),
    certificateRefused: (where, reason) =>
      say("error", "certificate files refused: those before go on", { where, reason }),
    rulesDamaged: (movedTo, reason) => say("error", "group rules damaged: moved aside", { movedTo, reason }),
    journal: {
      damaged: (movedTo, reason) => say("error", "journal damaged: moved aside", { movedTo, reason }),
      lost: (reason) => say("error", "journal lost while in use: a new one is written from memory", { reason }),
      unwritable: (reason) => say("error", "journal cannot be written: nobody is let in", { reason }),
      writable: () => say("info", "journal is written again"),
    },
  };
}

/** Writes a bug that an edge has caught. */
export function writeFault(lines: LineSums, error: unknown, facts: { readonly where?: string } = {}): void {
  const detail = `${facts.where} ${error instanceof Error ? error.message : String(error)}`;
  lines.write({ level: "error", message: "fault of the service", detail, facts: { ...facts, err: error } });
}

/** Lines that are equal where they say the same. */
function saying(lines: LineSums) {
  return (level: Line["level"], message: string, facts: LineFacts = {}): void => {
    const { count: _, ...told } = facts;
    lines.write({ level, message, detail: Object.values(told).join(" "), facts });
  };
}

function createClusterReport(lines: LineSums, clientOf: LogReportOptions["clientOf"]): ClusterNodeReport {
  const say = saying(lines);
  return {
    nats: {
      up: (server) => say("info", "NATS reached", { server }),
      down: (cause) => say("warn", "NATS out of reach: pushes and questions are answered 503", { cause }),
      refused: (cause, unsaidCount) => say("error", "NATS refused something", { cause, unsaidCount }),
    },
    copy: {
      stopped: (cause) =>
        say("warn", "journal not copied: no other node could take over what changes from here on", { cause }),
      copied: (count) => say("info", "journal copied", { count }),
      missing(entryCount) {
        const message = "clients let in without a copy in NATS: no other node can send their disconnect events";
        lines.write({ level: "error", message, facts: { entriesWithoutCopy: entryCount } });
      },
      fenced: (nodeId) => say("warn", "journal's copy taken over by another node", { nodeId }),
      tooLarge({ connectionId, hub, forwardedFor }) {
        const facts = { connectionId, hub, clientAddress: clientOf(forwardedFor) };
        lines.write({ level: "warn", message: "connection not copied: its entry is too large", facts });
      },
      differs: (detail) =>
        say("warn", "the journal's stream has other settings, which are left as they are", { detail }),
      skipped: (nodeId, count) =>
        say("error", "messages or entries of a lost node's journal could not be used", { nodeId, count }),
    },
    natsUnsafe: (reason) => say("warn", "NATS server is too old for the promise of disconnects", { reason }),
    messagesDropped: (count, reason) => say("warn", "messages between nodes dropped", { count, reason }),
    nodesAwaited: (nodeIds) =>
      say("warn", "nodes have not answered since NATS is back: pushes and questions are answered 503 till then", {
        nodeIds,
      }),
    leasesUnavailable: (reason) => say("warn", "lease not renewed: lost nodes are not taken over", { reason }),
    leasesAvailable: () => say("info", "lease renewed again"),
    leasesRemade: (count) =>
      say("error", "bucket of leases deleted from NATS: made again, and filled with the nodes that are known", {
        count,
      }),
    rulesRemade: (count) =>
      say("error", "bucket of group rules deleted from NATS: made again, and filled with the rules that are known", {
        count,
      }),
    leaseIgnored: (key) => say("warn", "ignored in the bucket of leases: this key is no node's name", { key }),
    leaseLost: (nodeId, newNodeId, count) =>
      say("error", "lease lost: another node has taken over these connections", { nodeId, newNodeId, count }),
    rulesUnavailable: (reason) => say("warn", "group rules out of reach", { reason }),
  };
}
