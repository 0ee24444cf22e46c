import { CLOSE, type ConnectionEnd } from "../protocol/close-causes.ts";
import type { Admission } from "./admission.ts";
import type { Connection } from "./connection.ts";
import type { Departure } from "./departure.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Outstanding } from "./outstanding.ts";
import type { Clock } from "./ports/clock.ts";
import type { Registry } from "./registry.ts";

export interface DrainOptions {
  /** How long new clients are still let in, so that a load balancer sees the 503 of the health check first. */
  readonly delayMs: number;
  /** The time over which connections are closed, so that their clients do not all come back at once. */
  readonly spreadMs: number;
  /** Covers all: the delay, the spread, messages, disconnects. */
  readonly drainTimeoutMs: number;
}

export interface DrainParts {
  readonly admission: Admission;
  readonly lifecycle: Lifecycle;
  readonly departure: Departure;
  readonly registry: Registry;
  readonly outstanding: Outstanding;
  readonly clock: Clock;
  readonly options: DrainOptions;
  /** Called when the delay is over. */
  readonly stopAccepting: () => void;
}

/** The part of the time behind the spread that messages may use; the rest is kept for the disconnects behind them. */
const MESSAGES_SHARE = 2 / 3;

/** How long the journal may take for what is left: a disk that hangs must not keep the process. */
const KEEP_TIMEOUT_MS = 1000;

/** Connections are closed in steps of this length. */
const STEP_MS = 50;

/**
 * Ends all connections so that every disconnect event still goes out.
 *
 *     delay ─▶ no new clients ─▶ spread: calls in flight end, 1012 ─▶ waiting messages posted ─▶ disconnects ─▶ done
 *                                                                     └─ 2/3 of the rest ─┘      └─ the rest ─┘
 *
 * Shape:  the number of connections and events that were not done with at the deadline; the journal has these.
 * Source: PROTOCOL.md, "Shutdown".
 */
export async function drain(parts: DrainParts): Promise<number> {
  const { admission, lifecycle, departure, outstanding, clock, options } = parts;
  const delayMs = Math.min(options.delayMs, options.drainTimeoutMs);
  const spreadMs = Math.min(options.spreadMs, options.drainTimeoutMs - delayMs);
  const restMs = options.drainTimeoutMs - delayMs - spreadMs;
  if (delayMs > 0) await new Promise<void>((resolve) => clock.after(delayMs, resolve));
  admission.close();
  lifecycle.closeArrivals(CLOSE.shuttingDown);
  parts.stopAccepting();
  const startedAtMs = clock.now();
  await closeSpread(parts, parts.registry.all(), { spreadMs, cause: CLOSE.shuttingDown });
  // Time that the spread did not use, since no connection was left, is there for the rest.
  const messagesMs = spreadMs + restMs * MESSAGES_SHARE - (clock.now() - startedAtMs);
  await within(clock, messagesMs, outstanding.whenNone());
  if (outstanding.count > 0) {
    lifecycle.abandonMessages();
    await within(clock, restMs * (1 - MESSAGES_SHARE), outstanding.whenNone());
  }
  const left = outstanding.count;
  await within(clock, KEEP_TIMEOUT_MS, departure.keepUnderWay());
  return left;
}

/** Closes connections, evenly over the time; resolves when the last was told, or nothing is left. */
export async function closeSpread(
  { lifecycle, clock }: { readonly lifecycle: Lifecycle; readonly clock: Clock },
  connections: readonly Connection[],
  { spreadMs, cause }: { readonly spreadMs: number; readonly cause: ConnectionEnd },
): Promise<void> {
  const steps = Math.max(1, Math.ceil(spreadMs / STEP_MS));
  for (let step = 0, next = 0; next < connections.length; step++) {
    if (step > 0) await new Promise<void>((resolve) => clock.after(STEP_MS, resolve));
    const end = step + 1 >= steps ? connections.length : Math.ceil((connections.length * (step + 1)) / steps);
    for (; next < end; next++) {
      const connection = connections[next];
      if (connection !== undefined) lifecycle.closeAfterCall(connection, cause);
    }
  }
}

/** Resolves with the promise or after the time, whichever is first. */
function within(clock: Clock, timeoutMs: number, promise: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const cancel = clock.after(Math.max(0, timeoutMs), resolve);
    void promise.then(() => {
      cancel();
      resolve();
    });
  });
}

/**
 * Ends every connection that there is, since another node has taken over what this one owed.
 *
 * For those in `disowned` the other node sends the disconnect event, and nothing more is posted for them from now on. That node does
 * not know of the others: they end as any connection does.
 *
 * Order:  what is disowned is so when this returns; connections are closed over `spreadMs`, since all their clients come back.
 */
export async function endOldConnections(
  parts: { readonly registry: Registry; readonly lifecycle: Lifecycle; readonly clock: Clock },
  { disowned, spreadMs }: { readonly disowned: ReadonlySet<string>; readonly spreadMs: number },
): Promise<void> {
  const connections = parts.registry.all();
  for (const connection of connections) if (disowned.has(connection.connectionId)) connection.isDisowned = true;
  await closeSpread(parts, connections, { spreadMs, cause: CLOSE.nodeCutOff });
}
