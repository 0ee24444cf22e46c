/** How a connection ended: what `X-Hubwire-Close-Code` and `-Reason` say of it. */
export interface CloseCause {
  /** RFC 6455, section 7.4.1; 1005 and 1006 are closes that no frame announced. */
  readonly code: number;
  readonly reason: string;
}

/** Longest reason of a close, in bytes of UTF-8: what a control frame has besides the code. Source: RFC 6455, section 5.5. */
export const MAX_REASON_BYTES = 123;

/**
 * Every way in which hubwire itself ends a connection.
 *
 * Source: PROTOCOL.md, "Disconnect". A client's own close, a lost network and a frame violation are reported as they came.
 */
export const CLOSE = {
  networkLost: { code: 1006, reason: "", category: "network-lost" },
  pingTimeout: { code: 1006, reason: "ping timeout", category: "ping-timeout" },
  handshakeFailed: { code: 1006, reason: "handshake failed", category: "handshake-failed" },
  shuttingDown: { code: 1012, reason: "shutting down", category: "shutting-down" },
  nodeCutOff: { code: 1012, reason: "node was cut off", category: "node-cut-off" },
  gatewayNodeLost: { code: 1006, reason: "gateway node lost", category: "node-lost" },
  gatewayRestarted: { code: 1006, reason: "gateway restarted", category: "gateway-restarted" },
  /** The reason is Bun's, which refuses most such messages before hubwire has them. */
  messageTooBig: { code: 1009, reason: "Received too big message", category: "message-too-big" },
  rateLimited: { code: 1008, reason: "rate limited", category: "rate-limited" },
  upstreamUnavailable: { code: 1011, reason: "upstream unavailable", category: "upstream-unavailable" },
  addressConcurrency: { code: 1011, reason: "maxConcurrencyPerAddress", category: "address-concurrency" },
  noUpstreamForMessages: { code: 1011, reason: "no upstream for messages", category: "no-upstream" },
  internalError: { code: 1011, reason: "internal error", category: "internal-error" },
  inboxFull: { code: 1013, reason: "inbox full", category: "inbox-full" },
  slowConsumer: { code: 1013, reason: "slow consumer", category: "slow-consumer" },
  bufferLimit: { code: 1013, reason: "buffer limit", category: "buffer-limit" },
} as const satisfies Record<string, CloseCause & { category: string }>;

/**
 * Why a connection ended, as one of few words. Several ends share a code, and the reason may be a text of the client or the backend.
 *
 * Shape:  `client`: the client closed it. `backend`: the backend closed it through the REST API. All others: hubwire did.
 */
export type CloseCategory = "client" | "backend" | "frame-violation" | (typeof CLOSE)[keyof typeof CLOSE]["category"];

/** How a connection of this process ends. The category is for operators: it is neither sent nor stored. */
export interface ConnectionEnd extends CloseCause {
  readonly category: CloseCategory;
}
