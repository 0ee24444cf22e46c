import { isDeepStrictEqual } from "node:util";
import { AllowedHosts } from "../config/allowed-hosts.ts";
import type { UpstreamEntry } from "../config/schema.ts";
import { type Renewal, readTlsFiles, type TlsFiles } from "../config/tls-files.ts";
import type { DialectName } from "../protocol/dialect-names.ts";
import type { EventName } from "../protocol/events.ts";
import { type AuthorizerOptions, createAuthorizer } from "./authorizers.ts";
import { Backend, type BackendContext } from "./backend.ts";
import { matchesEvent } from "./routing.ts";
import { SilentSockets } from "./silent-sockets.ts";
import { parseUrlTemplate } from "./url-template.ts";

/** What entries are built with besides what they share. */
export type EntryOptions = Pick<AuthorizerOptions, "env" | "metadataBaseUrl">;

/**
 * The entries of `upstreams` at work, and those that a reload has replaced until their last call has ended.
 *
 *   in force ──reload: another entry──> retired ──its last call ends──> stopped
 *
 * Order: an event belongs to the entry that was in force when it came, to its end.
 */
export class Entries {
  readonly #options: EntryOptions;
  readonly #context: BackendContext;
  #inForce: readonly Backend[] = [];
  readonly #retired = new Set<Backend>();
  #allowedHosts: readonly string[] = [];
  #allowed = new AllowedHosts([]);
  /** By origin. */
  readonly #silentSockets = new Map<string, SilentSockets>();
  #stopped = false;

  constructor(options: EntryOptions, context: BackendContext) {
    this.#options = options;
    this.#context = context;
  }

  /** The first entry that takes an event of a connection; null where none does. */
  find(hub: string, dialect: DialectName, event: EventName): Backend | null {
    for (const backend of this.#inForce) {
      if (backend.entry.dialect === dialect && matchesEvent(backend.patterns, hub, event)) return backend;
    }
    return null;
  }

  /** A call has come to an entry; `leave` must follow when it has ended. */
  enter(backend: Backend): void {
    backend.callCount++;
  }

  leave(backend: Backend): void {
    backend.callCount--;
    if (backend.callCount === 0 && this.#retired.delete(backend)) backend.stop();
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
    const built: Backend[] = [];
    const next = entries.map((entry, position) => {
      try {
        const tls = readTlsFiles(entry.tls);
        const known = takeEqual(old, entry, tls);
        if (known !== null) return known;
        const backend = this.#build(entry, position, tls, allowed);
        built.push(backend);
        return backend;
      } catch (error) {
        for (const backend of built) backend.stop();
        throw new Error(`upstreams[${position}]: ${error instanceof Error ? error.message : "cannot be used"}`);
      }
    });
    const before = this.#inForce;
    this.#inForce = next;
    this.#allowedHosts = [...allowedHosts];
    this.#allowed = allowed;
    for (const [position, backend] of next.entries()) backend.position = position;
    for (const backend of before) if (!next.includes(backend)) this.#retire(backend);
    for (const [origin, sockets] of this.#silentSockets) if (sockets.isUnused) this.#silentSockets.delete(origin);
  }

  /** Reads the TLS files of all entries again. An entry whose files have changed is built anew; one whose files cannot be used goes on. */
  renewCertificates(): Renewal[] {
    const renewals: Renewal[] = [];
    if (this.#stopped) return renewals;
    const before = this.#inForce;
    this.#inForce = before.map((backend) => {
      const { entry, position } = backend;
      const where = `upstreams[${position}].tls`;
      try {
        const tls = readTlsFiles(entry.tls);
        if (isDeepStrictEqual(tls, backend.tls)) return backend;
        renewals.push({ where, fault: null });
        return this.#build(entry, position, tls, this.#allowed);
      } catch (error) {
        renewals.push({ where, fault: error instanceof Error ? error.message : "cannot be used" });
        return backend;
      }
    });
    for (const backend of before) if (!this.#inForce.includes(backend)) this.#retire(backend);
    return renewals;
  }

  /** Hubs are written in another way from now on, also by calls that wait in an entry that was replaced. */
  forgetMessageStarts(): void {
    for (const backend of [...this.#inForce, ...this.#retired]) backend.messageStarts.forget();
  }

  /** Ends what is under way and closes every socket. May be called twice. */
  stop(): void {
    this.#stopped = true;
    for (const backend of [...this.#inForce, ...this.#retired]) backend.stop();
    this.#retired.clear();
  }

  #retire(backend: Backend): void {
    if (backend.callCount === 0) backend.stop();
    else this.#retired.add(backend);
  }

  #build(entry: UpstreamEntry, position: number, tls: TlsFiles, allowed: AllowedHosts): Backend {
    const { clock, userAgent, resolve, files, report, deadlines } = this.#context;
    const onFault = (fault: string) => report.tokenFailed(backend.label, fault);
    const authorizer = createAuthorizer(entry.auth, {
      ...this.#options,
      clock,
      userAgent,
      resolve,
      files,
      allowed,
      onFault,
    });
    const { origin } = parseUrlTemplate(entry.urlTemplate);
    const name = JSON.stringify([origin.hostname, origin.port]);
    const silentSockets = this.#silentSockets.get(name) ?? new SilentSockets(clock, deadlines);
    this.#silentSockets.set(name, silentSockets);
    const backend: Backend = new Backend(entry, position, { tls, allowed, authorizer, silentSockets }, this.#context);
    return backend;
  }
}

/** Takes the first that was built from the same entry and files; null where none was. */
function takeEqual(old: Backend[], entry: UpstreamEntry, tls: TlsFiles): Backend | null {
  const place = old.findIndex((known) => isDeepStrictEqual(known.entry, entry) && isDeepStrictEqual(known.tls, tls));
  return place === -1 ? null : (old.splice(place, 1)[0] ?? null);
}
