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
  networkLost: { code: 1006, reason: "" },
  pingTimeout: { code: 1006, reason: "ping timeout" },
  handshakeFailed: { code: 1006, reason: "handshake failed" },
  shuttingDown: { code: 1012, reason: "shutting down" },
  nodeCutOff: { code: 1012, reason: "node was cut off" },
  gatewayNodeLost: { code: 1006, reason: "gateway node lost" },
  gatewayRestarted: { code: 1006, reason: "gateway restarted" },
  /** The reason is Bun's, which refuses most such messages before hubwire has them. */
  messageTooBig: { code: 1009, reason: "Received too big message" },
  rateLimited: { code: 1008, reason: "rate limited" },
  upstreamUnavailable: { code: 1011, reason: "upstream unavailable" },
  addressConcurrency: { code: 1011, reason: "maxConcurrencyPerAddress" },
  noUpstreamForMessages: { code: 1011, reason: "no upstream for messages" },
  internalError: { code: 1011, reason: "internal error" },
  inboxFull: { code: 1013, reason: "inbox full" },
  slowConsumer: { code: 1013, reason: "slow consumer" },
  bufferLimit: { code: 1013, reason: "buffer limit" },
} as const satisfies Record<string, CloseCause>;
