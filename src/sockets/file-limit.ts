import { readFileSync } from "node:fs";
import type { Config, UpstreamEntry } from "../config/schema.ts";

/** File descriptors for all but clients and calls to upstreams: the first listener and its plain HTTP, logs, the data folder. */
const RESERVED = 64;

/** File descriptors for each further listener: its own, and its callers' connections. */
const RESERVED_PER_LISTENER = 64;

/** With fewer connections than this a gateway is of no use, unless so few were asked for. */
const MIN_CONNECTIONS = 64;

/** A call that has timed out can keep its socket for a late answer, while another call has its place. */
const FILES_PER_CALL = 2;

/** The part of the files that calls to upstreams may have, where not everything fits. */
const CALLS_SHARE = 0.25;

/** A configuration that fits the file limit. */
export interface FittedConfig {
  readonly config: Config;
  /** The options that were lowered, one sentence each. */
  readonly warnings: readonly string[];
}

/**
 * Lowers `limits.maxConnections` and the entries' `maxConcurrency` so far that the process never has more files open than its
 * limit allows.
 *
 * Why:    at the limit Bun uses a whole core without an error, so the configured bounds must be below it.
 * Shape:  a call has two files, its own and one for a late answer. Calls to upstreams have a quarter of the files, and more where connections leave more; of too few calls each entry
 *         has an equal part, or all that it asks for if that is less.
 * Errors: throws where fewer than 64 connections fit, or than were asked for if that is less, with the numbers.
 * Source: docs/decisions/0030-the-file-limit-is-shared.md.
 */
export function fitFileLimit(config: Config, limit = readFileLimit()): FittedConfig {
  const { limits, upstreams, listen } = config;
  if (limit === null) return { config, warnings: [] };
  const perConnection = listen.tls !== null && listen.tls.clientCert !== "none" ? 3 : 1;
  const own = RESERVED + (listen.api === null ? 0 : RESERVED_PER_LISTENER);
  const free = limit - own;
  const wanted = upstreams.map(({ maxConcurrency }) => maxConcurrency);
  const left = Math.max(Math.floor(free * CALLS_SHARE), free - limits.maxConnections * perConnection);
  const callsEach = levelOf(wanted, Math.max(Math.floor(left / FILES_PER_CALL), upstreams.length));
  const maxConcurrency = wanted.map((calls) => Math.min(calls, callsEach));
  const callFiles = FILES_PER_CALL * maxConcurrency.reduce((sum, count) => sum + count, 0);
  const fitting = Math.max(0, Math.floor((free - callFiles) / perConnection));
  const needed = Math.min(MIN_CONNECTIONS, limits.maxConnections);
  if (fitting < needed) {
    const parts = `${own} for the gateway itself, ${callFiles} for calls to upstreams, ${perConnection} for each connection`;
    throw new Error(
      `the file limit (ulimit -n) of ${limit} has room for ${fitting} connections, and at least ${needed} are needed: ${parts}. Raise the limit${fitting > 0 ? `, or set limits.maxConnections to ${fitting} or less` : ""}`,
    );
  }
  const maxConnections = Math.min(limits.maxConnections, fitting);
  const fitted = {
    ...config,
    limits: { ...limits, maxConnections },
    upstreams: upstreams.map((entry, position) => lowerEntry(entry, maxConcurrency[position] ?? 1)),
  };
  return { config: fitted, warnings: findWarnings(config, { limit, maxConnections, callsEach }) };
}

/** An address keeps its part of the places: with the number as it was written, it might have all that are left. */
function lowerEntry(entry: UpstreamEntry, maxConcurrency: number): UpstreamEntry {
  const { maxConcurrencyPerAddress: given, maxConcurrency: wanted } = entry;
  const maxConcurrencyPerAddress = given === null ? null : Math.ceil((given * maxConcurrency) / wanted);
  return { ...entry, maxConcurrency, maxConcurrencyPerAddress };
}

function findWarnings(
  { limits, upstreams }: Config,
  fitted: { readonly limit: number; readonly maxConnections: number; readonly callsEach: number },
): string[] {
  const { limit, maxConnections, callsEach } = fitted;
  const why = `the file limit (ulimit -n) is ${limit}`;
  const lowered = upstreams.flatMap(({ maxConcurrency }, position) =>
    maxConcurrency > callsEach ? [`upstreams[${position}]`] : [],
  );
  return [
    ...(maxConnections < limits.maxConnections
      ? [`limits.maxConnections is lowered from ${limits.maxConnections} to ${maxConnections}: ${why}`]
      : []),
    ...(lowered.length > 0 ? [`maxConcurrency is lowered to ${callsEach} in ${lowered.join(", ")}: ${why}`] : []),
  ];
}

/** The highest bound for each, so that all together are at most `total`; at least 1. */
function levelOf(wanted: readonly number[], total: number): number {
  let left = total;
  const ascending = wanted.toSorted((a, b) => a - b);
  for (const [position, count] of ascending.entries()) {
    const each = Math.floor(left / (ascending.length - position));
    if (count > each) return each;
    left -= count;
  }
  return Number.POSITIVE_INFINITY;
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
