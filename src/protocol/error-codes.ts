/**
 * Every error that the service itself answers with over HTTP: its status and what it means.
 *
 * Source: PROTOCOL.md, "Client endpoint", "Connect" and "REST API". `docs/error-codes.md` is generated from this table.
 */
export const ERROR_CODES = {
  bad_request: { status: 400, meaning: "The request is not what a WebSocket handshake or a URL may be." },
  bad_hub: { status: 400, meaning: "The URL does not name a hub, or names two." },
  bad_name: {
    status: 400,
    meaning: "A user's, group's or connection's name in the path is invalid or holds a malformed escape.",
  },
  bad_query: { status: 400, meaning: "A query parameter is malformed, out of its range, or stands twice." },
  bad_text: { status: 400, meaning: "The body was to be sent as text and is not UTF-8." },
  bad_user: {
    status: 400,
    meaning: "The token's user id is not 1 to 512 bytes without control characters and outer spaces.",
  },
  bad_certificate_header: {
    status: 400,
    meaning: "The proxy's certificate header is no SHA-1 thumbprint of 40 hex digits.",
  },
  token_required: { status: 401, meaning: "The hub admits no anonymous clients and the request brought no token." },
  token_repeated: { status: 401, meaning: "The request brought more than one token." },
  token_malformed: { status: 401, meaning: "The token is empty or no JWT signed with HS256." },
  token_signature: { status: 401, meaning: "The token was not signed with an access key in force." },
  token_expired: { status: 401, meaning: "The token's `exp` has passed, by more than 60 seconds." },
  token_not_yet_valid: { status: 401, meaning: "The token's `nbf` has not come yet, by more than 60 seconds." },
  token_claims: {
    status: 401,
    meaning: "A claim is missing or of the wrong type: `exp` and `aud` are required, a user id is a string.",
  },
  token_audience: { status: 401, meaning: "The token's `aud` names another host, path or hub than the request's." },
  user_required: { status: 401, meaning: "Neither the token nor the upstream's answer named a user." },
  origin_denied: { status: 403, meaning: "The page's origin is not in the hub's `allowedOrigins`." },
  not_found: { status: 404, meaning: "There is nothing under this path." },
  no_such_connection: { status: 404, meaning: "There is no live connection of this id in the hub." },
  no_such_user: { status: 404, meaning: "No live connection of the hub belongs to this user." },
  no_such_group: { status: 404, meaning: "No live connection of the hub is in this group." },
  not_a_member: {
    status: 404,
    meaning: "The user is not in the group: no live connection of theirs is, and no rule says so.",
  },
  method_not_allowed: { status: 405, meaning: "The path does not take this method; `Allow` says which it takes." },
  body_timeout: { status: 408, meaning: "The request's body stopped arriving." },
  group_limit: { status: 409, meaning: "`limits.maxGroupsPerConnection` is reached." },
  message_too_big: { status: 413, meaning: "The body is over `limits.maxMessageBytes`." },
  unsupported_type: {
    status: 415,
    meaning: "A message is `text/plain` or `application/json` in UTF-8, or `application/octet-stream`.",
  },
  upgrade_required: {
    status: 426,
    meaning: "The path is a WebSocket endpoint and the request is no WebSocket upgrade of version 13.",
  },
  pending_upgrade_rate: { status: 429, meaning: "`limits.maxPendingUpgradesPerAddress` is reached." },
  connect_rate: { status: 429, meaning: "`limits.connectsPerSecondPerAddress` was passed." },
  claims_too_large: { status: 431, meaning: "The token's claims do not fit into 8 KiB of header." },
  internal_error: { status: 500, meaning: "A fault of the service; its log says more." },
  upstream_failed: { status: 502, meaning: "The upstream was out of reach or its answer could not be used." },
  buffer_limit: {
    status: 503,
    meaning:
      "More than 80 % of `limits.maxBufferedBytes` is in use, or the process has grown by more than 1.5 times that.",
  },
  rule_limit: { status: 503, meaning: "There are 100,000 group rules already." },
  rules_unavailable: { status: 503, meaning: "The group rule could not be written to the disk." },
  journal_unavailable: {
    status: 503,
    meaning: "The journal cannot be written, so nobody is let in: nobody's disconnect could be promised.",
  },
  broker_unavailable: {
    status: 503,
    meaning:
      "The other nodes cannot be reached, or not all of those that must answer have: it may have been done on some of them.",
  },
  lease_lost: {
    status: 503,
    meaning: "The node was cut off and has lost its place to another while the client was connecting.",
  },
  connection_limit: { status: 503, meaning: "`limits.maxConnections` is reached." },
  pending_upgrade_limit: { status: 503, meaning: "`limits.maxPendingUpgrades` is reached." },
  upstream_refused: {
    status: 503,
    meaning:
      "The upstream's circuit breaker is open, or no place came free within `maxWaitMs`: of all (`maxConcurrency`) or of the client's address (`maxConcurrencyPerAddress`).",
  },
  shutting_down: { status: 503, meaning: "The service is stopping." },
  upstream_timeout: { status: 504, meaning: "The upstream did not answer within `timeoutMs`." },
} as const satisfies Record<string, { status: number; meaning: string }>;

export type ErrorCode = keyof typeof ERROR_CODES;

/** An answer by which the service refuses a request. `headers` are those beyond `Content-Type` and `Content-Length`. */
export interface Refusal {
  readonly status: number;
  readonly code: ErrorCode;
  readonly message: string;
  /** What the error is about: a parameter's, header's or limit's name. */
  readonly target: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Makes a refusal; status from the table, `message` a sentence that holds no secret. */
export function refusal(
  code: ErrorCode,
  message: string,
  target: string,
  headers: Readonly<Record<string, string>> = {},
): Refusal {
  return { status: ERROR_CODES[code].status, code, message, target, headers };
}

/** The JSON body of a refusal: `{"code","message","target"}`. Source: PROTOCOL.md, "REST API". */
export function formatRefusal({ code, message, target }: Refusal): string {
  return JSON.stringify({ code, message, target });
}
