import type { Notice, NoticeOf, Report, Undelivered } from "../protocol/notices.ts";
import type { Line, LineFacts, LineSums } from "./line-sums.ts";

export interface LogReportOptions {
  /** The client's address in the whole `X-Forwarded-For` that the upstream gets. */
  readonly clientOf: (forwardedFor: string) => string;
}

/** Said where a client that is not a trusted proxy sent `X-Forwarded-For`: behind it may be all clients of a proxy. */
const CHAIN_NOTE = "X-Forwarded-For was ignored: if this address is your proxy, list it in trustedProxies";

/** Notices with a line of their own form: those about a client, and those that are told apart by something else than their fields. */
type Special =
  | "connection-opened"
  | "connection-closed"
  | "connection-refused"
  | "client-left"
  | "accepted-late"
  | "undelivered"
  | "dead-letter"
  | "replica-missing"
  | "replica-too-large"
  | "fault";

type PlainNotice = Exclude<Notice, { kind: Special }>;

/** Level and message of each other notice. The line has its fields as they are, and lines are equal where these are. */
const PLAIN_LINES: Readonly<Record<PlainNotice["kind"], readonly [Line["level"], string]>> = {
  "connections-recovered": ["warn", "connections of an earlier run: their disconnect events are sent now"],
  "disconnects-waiting": ["warn", "disconnect events wait for the upstream"],
  "disconnects-flowing": ["info", "disconnect events are taken again"],
  "disconnect-refused": ["warn", "the upstream refuses a disconnect event, which is tried again"],
  "breaker-opened": ["warn", "circuit breaker opened: connect and message events are refused"],
  "breaker-closed": ["info", "circuit breaker closed"],
  "token-failed": ["warn", "no token for the upstream: its calls are not sent"],
  "late-answer-dropped": ["warn", "too many connect events timed out: the oldest one's answer is not waited for"],
  "file-restored": ["error", "file in dataDir lost while in use: it was restored"],
  "file-lost": ["error", "file in dataDir lost: it cannot be restored, so check the folder and the disk"],
  "certificate-renewed": ["info", "certificate files renewed"],
  "certificate-refused": ["error", "certificate files cannot be used: the previous ones stay in use"],
  "journal-absent": [
    "error",
    "journal lost while hubwire was stopped: clients of the last run may get no disconnect event",
  ],
  "journal-damaged": ["error", "journal damaged: moved aside"],
  "journal-lost": ["error", "journal lost while in use: a new one is written from memory"],
  "journal-unwritable": ["error", "journal cannot be written: new clients get 503 until it can"],
  "journal-writable": ["info", "journal can be written again: new clients are accepted"],
  "rules-damaged": ["error", "group rules damaged: moved aside"],
  "rules-lost": ["error", "group rules lost while in use: a new file is written from memory"],
  "rules-clock-misfit": ["warn", "group rules: the clock does not fit the last run"],
  "rules-remade": [
    "error",
    "bucket of group rules deleted from NATS: made again, and filled with the rules that are known",
  ],
  "rules-unavailable": ["warn", "group rules unavailable"],
  "replica-stopped": ["warn", "replica stopped: no other node can take over later changes until it is complete again"],
  "replica-complete": ["info", "replica complete: other nodes can take over from it"],
  "replica-fenced": ["warn", "replica taken over by another node"],
  "replica-settings-differ": [
    "warn",
    "the stream of the replicas has other settings than this version gives it: they are left unchanged",
  ],
  "replica-skipped": [
    "error",
    "messages or entries of a lost node's replica could not be used: their disconnect events may be missing",
  ],
  "nats-up": ["info", "NATS reached"],
  "nats-down": ["warn", "NATS out of reach: pushes and questions are answered 503"],
  "nats-refused": ["error", "NATS refused an operation: check the permissions of its account"],
  "nats-unsafe": ["warn", "NATS server is too old: it may lose acknowledged writes, and disconnect events with them"],
  "node-messages-dropped": ["warn", "messages between nodes dropped"],
  "nodes-awaited": [
    "warn",
    "nodes have not answered since NATS is back: pushes and questions are answered 503 until they do",
  ],
  "node-taken-over": ["warn", "node lost: its disconnect events are sent from here"],
  "takeover-failed": ["warn", "takeover of a lost node failed: tried again"],
  "lease-unavailable": ["warn", "lease not renewed: lost nodes are not taken over"],
  "lease-available": ["info", "lease renewed again"],
  "leases-remade": [
    "error",
    "bucket of leases deleted from NATS: made again, and filled with the nodes that are known",
  ],
  "lease-ignored": ["warn", "key in the bucket of leases ignored: it is not a node's name"],
  "lease-lost": ["error", "lease lost: another node has taken over these connections"],
};

/**
 * Writes every notice as a log line, and equal ones once a second. Where a notice is about a client, its line has the client's
 * address, `clientAddress`.
 *
 * Cost:   opens and closes are `debug` lines, which the default level leaves out; what was lost or refused is `warn`.
 *         No line has a token, key, query string or header value.
 */
export function createLogReport(lines: LineSums, { clientOf }: LogReportOptions): Report {
  const isDebugged = () => lines.isWritten("debug");
  return (notice) => {
    switch (notice.kind) {
      case "connection-opened":
        if (isDebugged()) lines.write(lineOfClient("debug", "connection opened", notice.facts, clientOf));
        return;
      case "connection-closed":
        if (isDebugged()) lines.write(lineOfClosed(notice, clientOf));
        return;
      case "accepted-late":
        lines.write(
          lineOfClient("warn", "connect accepted after its time-out: raise timeoutMs", notice.facts, clientOf),
        );
        return;
      case "replica-too-large":
        lines.write(
          lineOfClient(
            "warn",
            "connection not in the replica: its entry is larger than a message of NATS may be",
            notice.facts,
            clientOf,
          ),
        );
        return;
      case "connection-refused":
        lines.write(lineOfRefused(notice));
        return;
      case "client-left":
        lines.write({ level: "info", message: "client left before it was answered", facts: withoutKind(notice) });
        return;
      case "undelivered":
      case "dead-letter":
        lines.write(lineOfUndelivered(notice, clientOf));
        return;
      case "replica-missing": {
        const message = "clients accepted without a copy in NATS: no other node can send their disconnect events";
        lines.write({ level: "error", message, facts: withoutKind(notice) });
        return;
      }
      case "fault":
        writeFault(lines, notice.error, { where: notice.where });
        return;
      default:
        lines.write(plainLineOf(notice));
    }
  };
}

/** Writes a bug that an edge has caught. */
export function writeFault(lines: LineSums, error: unknown, facts: { readonly where?: string } = {}): void {
  const detail = `${facts.where} ${error instanceof Error ? error.message : String(error)}`;
  lines.write({ level: "error", message: "fault of the service", detail, facts: { ...facts, err: error } });
}

type ClientOf = LogReportOptions["clientOf"];

function withoutKind<Of extends Notice>({ kind: _, ...facts }: Of): Omit<Of, "kind"> {
  return facts;
}

function plainLineOf(notice: PlainNotice): Line {
  const [level, message] = PLAIN_LINES[notice.kind];
  const facts: LineFacts = withoutKind(notice);
  const { count: _, ...told } = facts;
  return { level, message, detail: Object.values(told).join(" "), facts };
}

function lineOfClient(
  level: Line["level"],
  message: string,
  { connectionId, hub, forwardedFor }: NoticeOf<"connection-opened">["facts"],
  clientOf: ClientOf,
): Line {
  return { level, message, facts: { connectionId, hub, clientAddress: clientOf(forwardedFor) } };
}

function lineOfClosed({ facts, end }: NoticeOf<"connection-closed">, clientOf: ClientOf): Line {
  const { connectionId, hub, forwardedFor } = facts;
  const { code: closeCode, reason: closeReason } = end;
  return {
    level: "debug",
    message: "connection closed",
    detail: `${closeCode}`,
    facts: { connectionId, hub, closeCode, closeReason, clientAddress: clientOf(forwardedFor) },
  };
}

function lineOfRefused(refused: NoticeOf<"connection-refused">): Line {
  const { hub, status, code, message, clientAddress, isChainIgnored } = refused;
  const note = isChainIgnored ? { note: CHAIN_NOTE } : {};
  return {
    level: "info",
    message: "connection refused",
    kind: `${code} ${isChainIgnored}`,
    // A relayed refusal has its status from the backend.
    detail: `${status}`,
    facts: { hub, status, code, cause: message, clientAddress, ...note },
  };
}

function lineOfUndelivered({ kind, forwardedFor, tookMs, ...told }: Undelivered, clientOf: ClientOf): Line {
  const isDead = kind === "dead-letter";
  const took = tookMs === null ? {} : { tookMs };
  return {
    level: isDead ? "error" : "warn",
    message: isDead ? "disconnect event given up: see hubwire dead-letters" : "event not delivered",
    kind: told.event,
    detail: told.cause,
    facts: { ...told, ...took, clientAddress: forwardedFor === null ? null : clientOf(forwardedFor) },
  };
}
