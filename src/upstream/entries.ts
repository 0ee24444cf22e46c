import { isDeepStrictEqual } from "node:util";
import { AllowedHosts } from "../config/allowed-hosts.ts";
import type { UpstreamEntry } from "../config/schema.ts";
import { type Renewal, readTlsFiles, type TlsFiles } from "../config/tls-files.ts";
import type { DialectName } from "../protocol/dialect-names.ts";
import type { EventName } from "../protocol/events.ts";
import { type AuthorizerOptions, createAuthorizer } from "./authorizers.ts";
import { Entry, type EntryContext } from "./entry.ts";
import { matchesEvent } from "./routing.ts";
import { SilentSockets } from "./silent-sockets.ts";
import { parseUrlTemplate } from "./url-template.ts";

/** What entries are built with besides what they share. */
export type EntryOptions = Pick<AuthorizerOptions, "env" | "metadataBaseUrl">;

/** What an entry is doing. */
export interface EntryLoad {
  /** Its name, without any secret. */
  readonly entry: string;
  /** Calls under way, and calls that wait for a place. */
  readonly calls: number;
  readonly isBreakerOpen: boolean;
}

/**
 * The entries of `upstreams` at work, and those that a reload has replaced until their last call has ended.
 *
 *   in force ──reload: another entry──> retired ──its last call ends──> stopped
 *
 * Order: an event belongs to the entry that was in force when it came, to its end.
 */
export class Entries {
  readonly #options: EntryOptions;
  readonly #context: EntryContext;
  #inForce: readonly Entry[] = [];
  readonly #retired = new Set<Entry>();
  #allowedHosts: readonly string[] = [];
  #allowed = new AllowedHosts([]);
  /** By origin. */
  readonly #silentSockets = new Map<string, SilentSockets>();
  #stopped = false;

  constructor(options: EntryOptions, context: EntryContext) {
    this.#options = options;
    this.#context = context;
  }

  /** The first entry that takes an event of a connection; null where none does. */
  find(hub: string, dialect: DialectName, event: EventName): Entry | null {
    for (const entry of this.#inForce) {
      if (entry.settings.dialect === dialect && matchesEvent(entry.patterns, hub, event)) return entry;
    }
    return null;
  }

  /** A call has come to an entry; `leave` must follow when it has ended. */
  enter(entry: Entry): void {
    entry.callCount++;
  }

  leave(entry: Entry): void {
    entry.callCount--;
    if (entry.callCount === 0 && this.#retired.delete(entry)) entry.stop();
  }

  /**
   * Puts other entries in force. Those that are as they were, TLS files included, stay the same objects; a change of
   * `allowedHosts` builds all anew, so that no socket outlives its permission.
   *
   * Errors: throws where one of them cannot work; then nothing has changed.
   */
  replace(entries: readonly UpstreamEntry[], allowedHosts: readonly string[]): void {
    if (this.#stopped) return;
    const old = isDeepStrictEqual(allowedHosts, this.#allowedHosts) ? [...this.#inForce] : [];
    const allowed = new AllowedHosts(allowedHosts);
    const built: Entry[] = [];
    const next = entries.map((settings, position) => {
      try {
        const tls = readTlsFiles(settings.tls);
        const known = takeEqual(old, settings, tls);
        if (known !== null) return known;
        const entry = this.#build(settings, position, tls, allowed);
        built.push(entry);
        return entry;
      } catch (error) {
        for (const entry of built) entry.stop();
        throw new Error(`upstreams[${position}]: ${error instanceof Error ? error.message : "cannot be used"}`);
      }
    });
    const before = this.#inForce;
    this.#inForce = next;
    this.#allowedHosts = [...allowedHosts];
    this.#allowed = allowed;
    for (const [position, entry] of next.entries()) entry.position = position;
    for (const entry of before) if (!next.includes(entry)) this.#retire(entry);
    for (const [origin, sockets] of this.#silentSockets) if (sockets.isUnused) this.#silentSockets.delete(origin);
  }

  /** Reads the TLS files of all entries again. An entry whose files have changed is built anew; one whose files cannot be used goes on. */
  renewCertificates(): Renewal[] {
    const renewals: Renewal[] = [];
    if (this.#stopped) return renewals;
    const before = this.#inForce;
    this.#inForce = before.map((entry) => {
      const { settings, position } = entry;
      const where = `upstreams[${position}].tls`;
      try {
        const tls = readTlsFiles(settings.tls);
        if (isDeepStrictEqual(tls, entry.tls)) return entry;
        renewals.push({ where, fault: null });
        return this.#build(settings, position, tls, this.#allowed);
      } catch (error) {
        renewals.push({ where, fault: error instanceof Error ? error.message : "cannot be used" });
        return entry;
      }
    });
    for (const entry of before) if (!this.#inForce.includes(entry)) this.#retire(entry);
    return renewals;
  }

  /** Hubs are written in another way from now on, also by calls that wait in an entry that was replaced. */
  forgetMessageStarts(): void {
    for (const entry of [...this.#inForce, ...this.#retired]) entry.messageStarts.forget();
  }

  /** Ends what is under way and closes every socket. May be called twice. */
  listLoads(): EntryLoad[] {
    return this.#inForce.map(({ label, callCount, isBreakerOpen }) => ({
      entry: label,
      calls: callCount,
      isBreakerOpen,
    }));
  }

  stop(): void {
    this.#stopped = true;
    for (const entry of [...this.#inForce, ...this.#retired]) entry.stop();
    this.#retired.clear();
  }

  #retire(entry: Entry): void {
    if (entry.callCount === 0) entry.stop();
    else this.#retired.add(entry);
  }

  #build(settings: UpstreamEntry, position: number, tls: TlsFiles, allowed: AllowedHosts): Entry {
    const { clock, userAgent, resolve, files, report, deadlines } = this.#context;
    const onFault = (detail: string) => report({ kind: "token-failed", entry: entry.label, detail });
    const authorizer = createAuthorizer(settings.auth, {
      ...this.#options,
      clock,
      userAgent,
      resolve,
      files,
      allowed,
      onFault,
    });
    const { origin } = parseUrlTemplate(settings.urlTemplate);
    const name = JSON.stringify([origin.hostname, origin.port]);
    const silentSockets = this.#silentSockets.get(name) ?? new SilentSockets(clock, deadlines);
    this.#silentSockets.set(name, silentSockets);
    const entry: Entry = new Entry(settings, position, { tls, allowed, authorizer, silentSockets }, this.#context);
    return entry;
  }
}

/** Takes the first that was built from the same entry and files; null where none was. */
function takeEqual(old: Entry[], settings: UpstreamEntry, tls: TlsFiles): Entry | null {
  const place = old.findIndex(
    (known) => isDeepStrictEqual(known.settings, settings) && isDeepStrictEqual(known.tls, tls),
  );
  return place === -1 ? null : (old.splice(place, 1)[0] ?? null);
}
