/**
 * Every error that the service itself answers with over HTTP: its status and what it means.
 *
 * Source: PROTOCOL.md, "Client endpoint", "Connect" and "REST API". `docs/error-codes.md` is generated from this table.
 */
export const ERROR_CODES = {
  bad_request: { status: 400, meaning: "The WebSocket handshake or the URL is malformed." },
  bad_hub: { status: 400, meaning: "The URL does not name a hub, or names two." },
  bad_name: {
    status: 400,
    meaning: "A user, group or connection name in the path is invalid or contains a malformed escape.",
  },
  bad_query: { status: 400, meaning: "A query parameter is malformed, out of range, or given twice." },
  bad_text: { status: 400, meaning: "The body of a text message is not UTF-8." },
  bad_user: {
    status: 400,
    meaning: "The token's user id is not 1 to 512 bytes without control characters and outer spaces.",
  },
  bad_certificate_header: {
    status: 400,
    meaning: "The proxy's certificate header is not a SHA-1 thumbprint of 40 hex digits.",
  },
  token_required: { status: 401, meaning: "The hub does not admit anonymous clients, and the request has no token." },
  token_repeated: { status: 401, meaning: "The request has more than one token." },
  token_malformed: { status: 401, meaning: "The token is empty or not a JWT signed with HS256." },
  token_signature: { status: 401, meaning: "The token is not signed with a valid access key." },
  token_expired: { status: 401, meaning: "The token's `exp` passed more than 60 seconds ago." },
  token_not_yet_valid: { status: 401, meaning: "The token's `nbf` is more than 60 seconds in the future." },
  token_claims: {
    status: 401,
    meaning: "A claim is missing or of the wrong type: `exp` and `aud` are required, a user id is a string.",
  },
  token_audience: { status: 401, meaning: "The token's `aud` names another host, path or hub than the request's." },
  user_required: { status: 401, meaning: "Neither the token nor the upstream's answer named a user." },
  origin_denied: { status: 403, meaning: "The request's Origin is not in the hub's `allowedOrigins`." },
  not_found: { status: 404, meaning: "The path does not exist." },
  no_such_connection: { status: 404, meaning: "The hub has no live connection with this id." },
  no_such_user: { status: 404, meaning: "No live connection of the hub belongs to this user." },
  no_such_group: { status: 404, meaning: "No live connection of the hub is in this group." },
  not_a_member: {
    status: 404,
    meaning: "The user is not in the group: no live connection of the user is in it, and no rule puts the user there.",
  },
  method_not_allowed: {
    status: 405,
    meaning: "The path does not support this method; `Allow` lists the methods that it supports.",
  },
  body_timeout: { status: 408, meaning: "The request's body stopped arriving." },
  group_limit: { status: 409, meaning: "`limits.maxGroupsPerConnection` is reached." },
  message_too_big: { status: 413, meaning: "The body is over `limits.maxMessageBytes`." },
  unsupported_type: {
    status: 415,
    meaning:
      "The content type is unsupported: use `text/plain` or `application/json` in UTF-8, or `application/octet-stream`.",
  },
  upgrade_required: {
    status: 426,
    meaning: "The path is a WebSocket endpoint, but the request is not a WebSocket upgrade of version 13.",
  },
  pending_upgrade_rate: { status: 429, meaning: "`limits.maxPendingUpgradesPerAddress` is reached." },
  connect_rate: { status: 429, meaning: "`limits.connectsPerSecondPerAddress` was exceeded." },
  claims_too_large: { status: 431, meaning: "The token's claims do not fit into 8 KiB of header." },
  internal_error: { status: 500, meaning: "An internal error of hubwire; its log has the details." },
  upstream_failed: { status: 502, meaning: "The upstream could not be reached, or its answer could not be used." },
  buffer_limit: {
    status: 503,
    meaning:
      "More than 80 % of `limits.maxBufferedBytes` is in use, or the process has grown by more than 1.5 times that.",
  },
  rule_limit: { status: 503, meaning: "There are 100,000 group rules already." },
  rules_unavailable: { status: 503, meaning: "The group rule could not be written to the disk." },
  journal_unavailable: {
    status: 503,
    meaning: "The journal cannot be written, so new clients are refused: their disconnect events could be lost.",
  },
  broker_unavailable: {
    status: 503,
    meaning:
      "The other nodes cannot be reached, or some did not answer. The operation may have been done on some nodes.",
  },
  lease_lost: {
    status: 503,
    meaning: "Another node took this node over while the client was connecting.",
  },
  connection_limit: { status: 503, meaning: "`limits.maxConnections` is reached." },
  pending_upgrade_limit: { status: 503, meaning: "`limits.maxPendingUpgrades` is reached." },
  upstream_refused: {
    status: 503,
    meaning:
      "The upstream's circuit breaker is open, or no place became free within `maxWaitMs`. Places are limited by `maxConcurrency` and, for the client's address, by `maxConcurrencyPerAddress`.",
  },
  shutting_down: { status: 503, meaning: "The gateway is shutting down." },
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
