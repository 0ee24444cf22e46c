import { queryValues } from "../protocol/client-query.ts";
import { MAX_REASON_BYTES } from "../protocol/close-causes.ts";
import { type Refusal, refusal } from "../protocol/error-codes.ts";
import { HUB_RULE, hubKey, isHubName, isName, NAME_RULE } from "../protocol/names.ts";
import type { RestPath } from "../protocol/rest-path.ts";

/** Longest ttl of a group rule: a year. Source: PROTOCOL.md, "REST API". */
const MAX_TTL_SECONDS = 31_536_000;

/** What a call names in its path and query, checked. */
export interface CallNames {
  /** In the form of `hubKey`. */
  readonly hub: string;
  /** Empty where the path names none. */
  readonly user: string;
  readonly group: string;
  readonly connection: string;
  readonly excluded: readonly string[];
  /** Null where the query does not say. */
  readonly ttlSeconds: number | null;
  readonly reason: string;
}

const NOBODY: readonly string[] = [];

/** Checks names and query of a call: 400 for the first that is wrong. Source: PROTOCOL.md, "REST API", order of checks. */
export function readNames(
  path: RestPath,
  names: ReadonlyMap<string, string | null>,
  query: string,
): CallNames | { readonly refusal: Refusal } {
  if (path.hubRepeated) return { refusal: refusal("bad_hub", "the query names more than one hub", "hub") };
  if (path.hub === null || !isHubName(path.hub))
    return { refusal: refusal("bad_hub", `the hub's name must be ${HUB_RULE}`, "hub") };
  for (const [target, name] of names) {
    if (name === null || !isName(name))
      return { refusal: refusal("bad_name", `the ${target}'s name in the path must be ${NAME_RULE}`, target) };
  }
  const hub = hubKey(path.hub);
  const user = names.get("user") ?? "";
  const group = names.get("group") ?? "";
  const connection = names.get("connection") ?? "";
  if (query === "") return { hub, user, group, connection, excluded: NOBODY, ttlSeconds: null, reason: "" };
  const ttl = queryValues(query, "ttl");
  const reasons = queryValues(query, "reason");
  const excluded = queryValues(query, "excluded");
  if (ttl.length > 1 || reasons.length > 1)
    return malformed(ttl.length > 1 ? "ttl" : "reason", "is given twice: give it once");
  const ttlSeconds = ttl[0] === undefined ? null : parseTtl(ttl[0]);
  if (Number.isNaN(ttlSeconds))
    return malformed("ttl", `must be a whole number of seconds from 1 to ${MAX_TTL_SECONDS}`);
  if (excluded.includes(null)) return malformed("excluded", "holds a malformed escape");
  if (reasons[0] === null) return malformed("reason", "holds a malformed escape");
  return {
    hub,
    user,
    group,
    connection,
    excluded: excluded.filter((id) => id !== null),
    ttlSeconds,
    reason: cutReason(reasons[0] ?? ""),
  };
}

function malformed(target: string, fault: string): { readonly refusal: Refusal } {
  return { refusal: refusal("bad_query", `the query parameter ${target} ${fault}`, target) };
}

/** NaN where it is not a valid ttl. */
function parseTtl(text: string | null): number {
  const seconds = text !== null && /^\d{1,8}$/.test(text) ? Number(text) : 0;
  return seconds >= 1 && seconds <= MAX_TTL_SECONDS ? seconds : Number.NaN;
}

/** Cuts a close reason to what fits into its frame, at the end of a whole character. */
function cutReason(reason: string): string {
  const bytes = Buffer.from(reason, "utf8");
  if (bytes.length <= MAX_REASON_BYTES) return reason;
  let end = MAX_REASON_BYTES;
  // A byte of the form 10xxxxxx continues a character that begins before it.
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return bytes.toString("utf8", 0, end);
}
