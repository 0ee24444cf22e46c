import type { UpstreamEntry } from "../config/schema.ts";
import type { Renewal } from "../config/tls-files.ts";
import type { Upstream } from "../core/ports/upstream.ts";
import { type HubSpellings, spellHub } from "../protocol/names.ts";
import { Calls } from "./calls.ts";
import { ClientBlocks } from "./client-blocks.ts";
import { Deadlines } from "./deadlines.ts";
import { type ResolveHost, resolveBySystem } from "./destination.ts";
import { Entries, type EntryLoad, type EntryOptions } from "./entries.ts";
import type { EntryContext } from "./entry.ts";
import { FileReserve } from "./file-reserve.ts";

/** What can change besides the entries while the gateway runs. */
export interface UpstreamLimits {
  /** Longest body of an answer. */
  readonly maxResponseBytes: number;
  /** Hosts that event and token URLs may name, as in the configuration; left out: `*`. */
  readonly allowedUpstreamHosts?: readonly string[];
  /** How hubs are written in URLs and headers; left out: all in lower case. */
  readonly hubSpellings?: HubSpellings;
}

export interface UpstreamOptions
  extends UpstreamLimits,
    EntryOptions,
    Omit<EntryContext, "deadlines" | "files" | "maxResponseBytes" | "resolve" | "spellHub" | "clientBlocks"> {
  /** In order: the first that matches takes the event. */
  readonly entries: readonly UpstreamEntry[];
  /** Finds the addresses of a host's name; left out: the system does. */
  readonly resolve?: ResolveHost;
  /** Names the client of a whole `X-Forwarded-For`; left out: the value is its address. */
  readonly clientOf?: (forwardedFor: string) => string;
  /** Source: `CallsOptions`. */
  readonly repeatAfterMs?: readonly number[];
}

/** The upstream port, and what only its owner does with it. */
export interface RunningUpstream extends Upstream {
  /**
   * Puts other entries, and limits where given, in force. An entry that is as it was, TLS files included, keeps its sockets,
   * places, breaker and token. Calls under way or waiting end with the entry that they came to.
   *
   * Errors: throws as `createUpstream` does; then nothing has changed.
   */
  reload(entries: readonly UpstreamEntry[], limits?: Partial<UpstreamLimits>): void;
  /** What each entry in force is doing. */
  listLoads(): EntryLoad[];
  /** Reads the entries' TLS files again. Files that cannot be used change nothing. */
  renewCertificates(): Renewal[];
  /** Ends what is under way and closes every socket. May be called twice. */
  stop(): Promise<void>;
}

/**
 * Builds the upstream port over HTTP/1.1.
 *
 * Errors: throws where an entry cannot work (a TLS file, a token URL, a host that is not allowed), in words for the author
 *         of the configuration.
 * Source: PROTOCOL.md, "Choosing the upstream"; decision 0010.
 */
export function createUpstream(options: UpstreamOptions): RunningUpstream {
  const deadlines = new Deadlines(options.clock);
  let { maxResponseBytes, allowedUpstreamHosts = ["*"], hubSpellings = {} } = options;
  const { resolve = resolveBySystem, clientOf = (forwardedFor) => forwardedFor } = options;
  const clientBlocks = new ClientBlocks(clientOf);
  const files = new FileReserve();
  const live = { maxResponseBytes: () => maxResponseBytes, spellHub: (hub: string) => spellHub(hub, hubSpellings) };
  const entries = new Entries(options, { ...options, ...live, deadlines, files, resolve, clientBlocks });
  entries.replace(options.entries, allowedUpstreamHosts);
  files.resize(countFiles(options.entries));
  const calls = new Calls({ ...options, entries, deadlines });
  return {
    connect: (event, client) => calls.connect(event, client),
    post: (event, listener) => calls.post(event, listener),
    notify: (event) => calls.notify(event),
    abandonMessages: () => calls.abandonMessages(),
    entryFor: (hub, dialect) => entries.find(hub, dialect, "disconnect"),
    reload(next: readonly UpstreamEntry[], limits: Partial<UpstreamLimits> = {}): void {
      const allowed = limits.allowedUpstreamHosts ?? allowedUpstreamHosts;
      entries.replace(next, allowed);
      files.resize(countFiles(next));
      allowedUpstreamHosts = allowed;
      maxResponseBytes = limits.maxResponseBytes ?? maxResponseBytes;
      if (limits.hubSpellings === undefined) return;
      hubSpellings = limits.hubSpellings;
      entries.forgetMessageStarts();
    },
    listLoads: () => entries.listLoads(),
    renewCertificates: () => entries.renewCertificates(),
    async stop(): Promise<void> {
      entries.stop();
      files.resize(0);
      deadlines.stop();
    },
  };
}

/** A call has a socket, and may leave one behind for an answer that comes late. Source: decisions 0030 and 0038. */
function countFiles(entries: readonly UpstreamEntry[]): number {
  return entries.reduce((sum, { maxConcurrency }) => sum + 2 * maxConcurrency, 0);
}
