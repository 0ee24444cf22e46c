import type { UpstreamAuth, UpstreamEntry } from "../config/schema.ts";
import type { Upstream, UpstreamLane, UpstreamOutcome } from "../core/ports.ts";
import type { UpstreamEvent } from "../protocol/events.ts";
import { type Authorizer, fixedAuthorizer } from "./authorization.ts";
import { Backend, type BackendContext } from "./backend.ts";
import { Call } from "./call.ts";
import { Deadlines } from "./deadlines.ts";
import { createManagedIdentitySource, findIdentityEndpoint, METADATA_BASE_URL } from "./managed-identity.ts";
import { createOAuth2Source, isFitForSecrets } from "./oauth2.ts";
import { matchesEvent } from "./routing.ts";
import { TokenCache, type TokenSource } from "./token-cache.ts";
import { TokenEndpoint } from "./token-endpoint.ts";
import { parseUrlTemplate } from "./url-template.ts";

export type { UpstreamReport } from "./backend.ts";

export interface UpstreamOptions extends Omit<BackendContext, "deadlines"> {
  /** In order: the first that matches takes the event. */
  readonly entries: readonly UpstreamEntry[];
  /** Where `IDENTITY_ENDPOINT` and `IDENTITY_HEADER` may stand. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where a machine's identity is found; the default is the address that Azure machines have. */
  readonly metadataBaseUrl?: string;
}

/**
 * Builds the upstream port over HTTP/1.1.
 *
 * Errors: throws where an entry cannot work (a TLS file, a token URL), in words for whoever wrote the configuration.
 *         `stop` ends what is under way and closes every socket; it may be called twice.
 * Source: spec sections 4 and 5.
 */
export function createUpstream(options: UpstreamOptions): Upstream & { stop(): Promise<void> } {
  const deadlines = new Deadlines(options.clock);
  const context: BackendContext = { ...options, deadlines };
  const backends = options.entries.map((entry, index) => createBackend(entry, index, options, context));
  return {
    call(event: UpstreamEvent): Promise<UpstreamOutcome> {
      const backend = findBackend(backends, event);
      if (backend === null) return Promise.resolve({ kind: "unrouted" });
      return new Promise((resolve, reject) => new Call(backend, event, { resolve, reject }).start());
    },
    laneFor(hub: string): UpstreamLane | null {
      return backends.find(({ patterns }) => matchesEvent(patterns, hub, "disconnect")) ?? null;
    },
    abandonMessages(): void {
      const messages = [...deadlines]
        .filter((waiting) => waiting instanceof Call)
        .filter((call) => call.event.name === "message");
      // Those that wait first: a place that another gives back would send them, only to be abandoned too.
      for (const call of messages) if (call.isWaiting) call.abandon();
      for (const call of messages) call.abandon();
    },
    async stop(): Promise<void> {
      for (const backend of backends) backend.stop();
      deadlines.stop();
    },
  };
}

function findBackend(backends: readonly Backend[], event: UpstreamEvent): Backend | null {
  for (const backend of backends) {
    if (matchesEvent(backend.patterns, event.facts.hub, event.name)) return backend;
  }
  return null;
}

function createBackend(
  entry: UpstreamEntry,
  index: number,
  options: UpstreamOptions,
  context: BackendContext,
): Backend {
  const name = `upstreams[${index}]`;
  try {
    const label = `${name} ${parseUrlTemplate(entry.urlTemplate).label}`;
    return new Backend(entry, label, createAuthorizer(entry.auth, label, options), context);
  } catch (error) {
    throw new Error(`${name}: ${error instanceof Error ? error.message : "cannot be used"}`);
  }
}

function createAuthorizer(auth: UpstreamAuth, label: string, options: UpstreamOptions): Authorizer {
  switch (auth.type) {
    case "none":
      return fixedAuthorizer([]);
    case "headers":
      return fixedAuthorizer(Object.entries(auth.headers));
    default: {
      const onFault = (fault: string) => options.report.tokenFailed(label, fault);
      return new TokenCache(createTokenSource(auth, options), options.clock, onFault);
    }
  }
}

function createTokenSource(
  auth: Extract<UpstreamAuth, { type: "oauth2" | "managedIdentity" }>,
  options: UpstreamOptions,
): TokenSource {
  if (auth.type === "oauth2") {
    if (!isFitForSecrets(auth.tokenUrl)) {
      throw new Error("auth.tokenUrl: plain http is for loopback and private hosts only; the secret would be readable");
    }
    return createOAuth2Source(auth, new TokenEndpoint(auth.tokenUrl, options));
  }
  const { url, header } = findIdentityEndpoint(
    auth.resource,
    options.env,
    options.metadataBaseUrl ?? METADATA_BASE_URL,
  );
  return createManagedIdentitySource(header, new TokenEndpoint(url, options));
}
