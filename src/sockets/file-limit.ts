import { readFileSync } from "node:fs";

/** File descriptors for all but clients and calls to upstreams: the first listener and its plain HTTP, logs, the data folder. */
const RESERVED = 64;

/** File descriptors for each further listener: its own, and its callers' connections. */
const RESERVED_PER_LISTENER = 64;

/**
 * The number of connections that the process's file limit allows.
 *
 * Why: at the limit Bun spins at 100 % without a word, so the configured bound must lie below it.
 * Shape: at most `wanted`; `wanted` itself on a system that does not tell its limit. `perConnection` descriptors each.
 */
export function fittingConnections(
  wanted: number,
  use: { readonly perConnection: number; readonly upstreamCalls: number; readonly listeners: number },
): number {
  const limit = readFileLimit();
  if (limit === null) return wanted;
  const reserved = RESERVED + (use.listeners - 1) * RESERVED_PER_LISTENER + use.upstreamCalls;
  const left = Math.floor((limit - reserved) / use.perConnection);
  return Math.max(1, Math.min(wanted, left));
}

/** The hard limit, since Bun raises the soft one to it. Null where there is no /proc. */
function readFileLimit(): number | null {
  try {
    const line = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync("/proc/self/limits", "utf8"));
    const limit = Number(line?.[1]);
    return Number.isFinite(limit) ? limit : null;
  } catch {
    return null;
  }
}
