import type { Config } from "../config/schema.ts";
import type { Renewal } from "../config/tls-files.ts";
import { FilesWatch } from "../config/watch.ts";
import type { Report } from "../protocol/notices.ts";

/** What the renewal needs. */
export interface RenewalParts {
  /** A part that reads its own files again, and keeps the previous ones where they cannot be used. */
  readonly sources: readonly (() => readonly Renewal[])[];
  readonly report: Report;
}

/**
 * Takes renewed files for TLS and login while the gateway runs: when they change, and when it is asked to.
 *
 * Errors: none; files that cannot be used are logged, the previous ones stay in use, and the next change is another try.
 */
export class CertificateRenewal {
  readonly #parts: RenewalParts;
  #watch: FilesWatch | null = null;

  constructor(parts: RenewalParts) {
    this.#parts = parts;
  }

  /** Follows the files that a configuration names from now on, and takes what has changed since they were read. */
  follow(config: Config): void {
    this.stop();
    const paths = pathsOf(config);
    // First the watch: what changes while the files are read is seen then.
    if (paths.length > 0) this.#watch = new FilesWatch(paths, () => this.#renew());
    this.#renew();
  }

  /** May be called twice. */
  stop(): void {
    this.#watch?.stop();
    this.#watch = null;
  }

  #renew(): void {
    const { sources, report } = this.#parts;
    for (const { where, fault } of sources.flatMap((renew) => renew())) {
      if (fault === null) report({ kind: "certificate-renewed", where });
      else report({ kind: "certificate-refused", where, reason: fault });
    }
  }
}

function pathsOf({ listen, upstreams, cluster }: Config): string[] {
  const blocks = [listen.tls, ...upstreams.map(({ tls }) => tls), cluster?.nats.tls, cluster?.nats];
  const paths = blocks.flatMap((block) => {
    const files = block ?? {};
    return FILE_OPTIONS.map((name) => (name in files ? (files as Readonly<Record<string, unknown>>)[name] : null));
  });
  return [...new Set(paths)].filter((path) => typeof path === "string");
}

const FILE_OPTIONS = ["certFile", "keyFile", "caFile", "clientCaFile", "credsFile"];
