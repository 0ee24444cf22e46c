import type { Encoding } from "./client-protocol.ts";
import type { DialectName } from "./dialect-names.ts";

/** Characters that would end a header line. */
const ENDS_A_LINE = /[\r\n\0]/;
/** These, and those that do not fit into one byte. */
const NOT_OF_A_LINE = /[\r\n\0\u0100-\uffff]/;

/** What every event says of its connection. Strings are decoded Unicode; except for the user id, an empty one means "no value". */
export interface ConnectionFacts {
  readonly connectionId: string;
  /** In the form of `hubKey`, but for what an earlier version wrote to a journal; `spellHub` says how upstreams see it. */
  readonly hub: string;
  /** Null until the connect answer or the token has named a user. Never empty. */
  readonly userId: string | null;
  /** The token's claims, formatted for a header (`claims.ts`). */
  readonly claims: string;
  /** The raw query string without `?` and without the access token. */
  readonly clientQuery: string;
  /** The whole `X-Forwarded-For` value, one char a byte. */
  readonly forwardedFor: string;
  /** Absent for most connections, whose records have one field less. */
  readonly rare?: RareFacts;
}

/**
 * Facts that few connections have, and those that a newer version of hubwire stored and this one does not know: they are kept, and handed on
 * unchanged. A new fact goes here unless most connections have it.
 */
export interface RareFacts {
  /** The user id came as bytes that are not UTF-8, was read as Latin-1, and goes back as the same bytes. */
  readonly userIdCoding?: "latin1";
  /** In which the connection's events are written, from its handshake on; absent for the first dialect. Source: `dialectOf`. */
  readonly dialect?: DialectName;
  /** In which the client's frames are read and written, from its handshake on; absent for the first encoding. Source: `encodingOf`. */
  readonly encoding?: Encoding;
  /** The path by which the client came, where a pattern of the option `paths` matched it. Read it with `clientPathOf`, which checks it. */
  readonly clientPath?: string;
  readonly [unknown: string]: unknown;
}

/** A connection as it is stored and sent between nodes: id, hub, `formatUserId`, and `formatFacts` of all other facts. */
export type FactsRow = readonly [connectionId: string, hub: string, userId: string, facts: string];

/**
 * All facts but id, hub and user id, as text.
 *
 * Shape: a JSON object with `claims`, `clientQuery`, `forwardedFor` and the rare facts, those of newer versions among them.
 */
export function formatFacts({ claims, clientQuery, forwardedFor, rare }: ConnectionFacts): string {
  return JSON.stringify({ claims, clientQuery, forwardedFor, ...rare });
}

/** Reads what `formatFacts` of this or any other version wrote. Never throws: what is damaged or absent has no value. */
export function parseFacts(text: string): Omit<ConnectionFacts, "connectionId" | "hub" | "userId"> {
  const { claims, clientQuery, forwardedFor, ...rare } = parseObject(text);
  const common = { claims: textOf(claims), clientQuery: textOf(clientQuery), forwardedFor: textOf(forwardedFor) };
  return Object.keys(rare).length === 0 ? common : { ...common, rare };
}

/**
 * Whether header lines can carry these facts. A damaged file and a foreign message may hold other texts, and an event of them could never
 * be sent. A journal of before 0.1.0 may hold `forwardedFor` as Unicode.
 */
export function areHeaderTexts({
  claims,
  clientQuery,
  forwardedFor,
}: Pick<ConnectionFacts, "claims" | "clientQuery" | "forwardedFor">): boolean {
  return !ENDS_A_LINE.test(forwardedFor) && !NOT_OF_A_LINE.test(claims) && !NOT_OF_A_LINE.test(clientQuery);
}

/** A user id as it is stored and sent between nodes: empty for a connection without a user. */
export function formatUserId(userId: string | null): string {
  return userId ?? "";
}

/** Reads what `formatUserId` wrote. */
export function parseUserId(text: string): string | null {
  return text === "" ? null : text;
}

export function toFactsRow(facts: ConnectionFacts): FactsRow {
  return [facts.connectionId, facts.hub, formatUserId(facts.userId), formatFacts(facts)];
}

export function fromFactsRow([connectionId, hub, userId, facts]: FactsRow): ConnectionFacts {
  return { connectionId, hub, userId: parseUserId(userId), ...parseFacts(facts) };
}

/** As form 1 of the messages between nodes has it, without rare facts. Source: `forms.ts`. */
export function toFirstFormRow(facts: ConnectionFacts): readonly string[] {
  const { connectionId, hub, userId, claims, clientQuery, forwardedFor } = facts;
  return [connectionId, hub, formatUserId(userId), claims, clientQuery, forwardedFor];
}

/** Reads a row of form 1, or of the first builds of form 2, which had the rare facts as a seventh text. */
export function fromEarlierRow(row: readonly string[]): ConnectionFacts {
  const [connectionId = "", hub = "", userId = "", claims = "", clientQuery = "", forwardedFor = "", others = ""] = row;
  return { connectionId, hub, userId: parseUserId(userId), ...parseFacts(others), claims, clientQuery, forwardedFor };
}

/** A connection is the facts of its own events, and they change while it lives; a copy does not, and holds nothing else of it. */
export function copyFacts({
  connectionId,
  hub,
  userId,
  claims,
  clientQuery,
  forwardedFor,
  rare,
}: ConnectionFacts): ConnectionFacts {
  const copy = { connectionId, hub, userId, claims, clientQuery, forwardedFor };
  return rare === undefined ? copy : { ...copy, rare };
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null && !Array.isArray(parsed) ? { ...parsed } : {};
  } catch {
    return {};
  }
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
