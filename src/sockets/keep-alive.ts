/** Bun looks at its timeouts every 4 s, so a timeout may end up to 4 s early. */
const TICK_SECONDS = 4;

/** Bun takes no longer idle timeout. */
const MAX_IDLE_SECONDS = 255;

/** How long a connection for plain HTTP is kept while nothing comes over it. */
export interface KeepAlive {
  /** Bun's `idleTimeout`. */
  readonly idleTimeoutSeconds: number;
  /** The value of the `Keep-Alive` header: what the caller can rely on. */
  readonly promise: string;
  /** After this time every connection that was open and silent has been closed. */
  readonly lingerMs: number;
}

/** Turns `listen.keepAliveMs` into what Bun is told and what callers are told: never more than Bun keeps. */
export function keepAliveOf(keepAliveMs: number): KeepAlive {
  const idleTimeoutSeconds = Math.min(Math.ceil(keepAliveMs / 1000) + TICK_SECONDS, MAX_IDLE_SECONDS);
  const promised = Math.min(Math.floor(keepAliveMs / 1000), idleTimeoutSeconds - TICK_SECONDS);
  const lingerMs = (idleTimeoutSeconds + TICK_SECONDS) * 1000;
  return { idleTimeoutSeconds, promise: `timeout=${promised}`, lingerMs };
}

/**
 * Says in a response how long the connection is kept, unless it is closed behind it.
 *
 * Why: a caller that knows it does not call over a connection that is being closed; such a call would be lost (RFC 9112, section 9.3.1).
 */
export function announceKeepAlive(request: Request, response: Response, { promise }: Pick<KeepAlive, "promise">): void {
  if (response.headers.has("Connection") || isClosing(request.headers.get("connection"))) return;
  // RFC 9110, section 7.6.1: `Connection` names the fields that are for this connection alone.
  response.headers.set("Connection", "keep-alive");
  response.headers.set("Keep-Alive", promise);
}

function isClosing(connection: string | null): boolean {
  return connection !== null && /(?:^|,)\s*close\s*(?:,|$)/i.test(connection);
}
