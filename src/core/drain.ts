import { CLOSE } from "../protocol/close-causes.ts";
import type { Admission } from "./admission.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Outstanding } from "./outstanding.ts";
import type { Clock } from "./ports.ts";

/** The part of the deadline that messages may use; the rest is kept for the disconnects behind them. */
const MESSAGES_SHARE = 2 / 3;

/**
 * Ends all connections so that every disconnect event still goes out.
 *
 *     no new clients ─▶ calls in flight end, 1001 ─▶ waiting messages posted ─▶ disconnects ─▶ done
 *                       └────────── 2/3 of the deadline, then given up ─┘      └─ the rest ─┘
 *
 * Shape:  the number of connections and events that were not done with at the deadline; 0 is a clean end.
 * Source: spec section 5.3, "shutdown"; design, `shutdown.drainTimeoutMs`.
 */
export async function drain(parts: {
  admission: Admission;
  lifecycle: Lifecycle;
  outstanding: Outstanding;
  clock: Clock;
  drainTimeoutMs: number;
}): Promise<number> {
  const { admission, lifecycle, outstanding, clock, drainTimeoutMs } = parts;
  const messagesMs = drainTimeoutMs * MESSAGES_SHARE;
  admission.close();
  lifecycle.closeAll(CLOSE.shuttingDown);
  await within(clock, messagesMs, outstanding.whenNone());
  if (outstanding.count > 0) {
    lifecycle.abandonMessages();
    await within(clock, drainTimeoutMs - messagesMs, outstanding.whenNone());
  }
  return outstanding.count;
}

/** Resolves with the promise or after the time, whichever is first. */
function within(clock: Clock, timeoutMs: number, promise: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const cancel = clock.after(timeoutMs, resolve);
    void promise.then(() => {
      cancel();
      resolve();
    });
  });
}
