import type { Notice, NoticeOf, Report, Undelivered } from "../protocol/notices.ts";
import type { Line, LineFacts, LineSums } from "./line-sums.ts";

export interface LogReportOptions {
  /** The client's address in the whole `X-Forwarded-For` that the upstream gets. */
  readonly clientOf: (forwardedFor: string) => string;
}

/** Said where a client that is no trusted proxy sent `X-Forwarded-For`: behind it may be all clients of a proxy. */
const CHAIN_NOTE = "X-Forwarded-For is not believed: if this address is a proxy of yours, list it in trustedProxies";

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
  "breaker-opened": ["warn", "circuit breaker opened"],
  "breaker-closed": ["info", "circuit breaker closed"],
  "token-failed": ["warn", "no token for the upstream"],
  "late-answer-dropped": ["warn", "too many connect events timed out: the oldest one's answer is not waited for"],
  "file-restored": ["error", "file in dataDir lost while in use: it is there again"],
  "file-lost": ["error", "file in dataDir lost: it cannot be put there again"],
  "certificate-renewed": ["info", "certificate files renewed"],
  "certificate-refused": ["error", "certificate files refused: those before go on"],
  "journal-absent": [
    "error",
    "journal lost while hubwire was stopped: clients of the last run may get no disconnect event",
  ],
  "journal-damaged": ["error", "journal damaged: moved aside"],
  "journal-lost": ["error", "journal lost while in use: a new one is written from memory"],
  "journal-unwritable": ["error", "journal cannot be written: nobody is let in"],
  "journal-writable": ["info", "journal is written again"],
  "rules-damaged": ["error", "group rules damaged: moved aside"],
  "rules-lost": ["error", "group rules lost while in use: written anew from memory"],
  "rules-clock-misfit": ["warn", "group rules: the clock does not fit the last run"],
  "rules-remade": [
    "error",
    "bucket of group rules deleted from NATS: made again, and filled with the rules that are known",
  ],
  "rules-unavailable": ["warn", "group rules out of reach"],
  "replica-stopped": ["warn", "journal not copied: no other node could take over what changes from here on"],
  "replica-complete": ["info", "journal copied"],
  "replica-fenced": ["warn", "journal's copy taken over by another node"],
  "replica-settings-differ": ["warn", "the journal's stream has other settings, which are left as they are"],
  "replica-skipped": ["error", "messages or entries of a lost node's journal could not be used"],
  "nats-up": ["info", "NATS reached"],
  "nats-down": ["warn", "NATS out of reach: pushes and questions are answered 503"],
  "nats-refused": ["error", "NATS refused something"],
  "nats-unsafe": ["warn", "NATS server is too old for the promise of disconnects"],
  "node-messages-dropped": ["warn", "messages between nodes dropped"],
  "nodes-awaited": [
    "warn",
    "nodes have not answered since NATS is back: pushes and questions are answered 503 till then",
  ],
  "node-taken-over": ["warn", "node lost: its disconnect events are sent from here"],
  "takeover-failed": ["warn", "takeover of a lost node failed: tried again"],
  "lease-unavailable": ["warn", "lease not renewed: lost nodes are not taken over"],
  "lease-available": ["info", "lease renewed again"],
  "leases-remade": [
    "error",
    "bucket of leases deleted from NATS: made again, and filled with the nodes that are known",
  ],
  "lease-ignored": ["warn", "ignored in the bucket of leases: this key is no node's name"],
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
        lines.write(lineOfClient("warn", "connection not copied: its entry is too large", notice.facts, clientOf));
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
        const message = "clients let in without a copy in NATS: no other node can send their disconnect events";
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

function lineOfUndelivered({ kind, forwardedFor, ...told }: Undelivered, clientOf: ClientOf): Line {
  const isDead = kind === "dead-letter";
  return {
    level: isDead ? "error" : "warn",
    message: isDead ? "disconnect event given up: see hubwire dead-letters" : "event not delivered",
    kind: told.event,
    detail: told.cause,
    facts: { ...told, clientAddress: forwardedFor === null ? null : clientOf(forwardedFor) },
  };
}
