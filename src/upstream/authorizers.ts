import type { AllowedHosts } from "../config/allowed-hosts.ts";
import type { UpstreamAuth } from "../config/schema.ts";
import { encodeHeaderValue } from "../protocol/headers.ts";
import { type Authorizer, fixedAuthorizer } from "./authorization.ts";
import { createManagedIdentitySource, findIdentityEndpoint, METADATA_BASE_URL } from "./managed-identity.ts";
import { createOAuth2Source, isFitForSecrets } from "./oauth2.ts";
import { TokenCache, type TokenSource } from "./token-cache.ts";
import { TokenEndpoint, type TokenEndpointOptions } from "./token-endpoint.ts";

export interface AuthorizerOptions extends Omit<TokenEndpointOptions, "allowed"> {
  /** Hosts and addresses that a token URL may have. */
  readonly allowed: AllowedHosts;
  /** The variables that may hold `IDENTITY_ENDPOINT` and `IDENTITY_HEADER`. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where a machine's identity is found; the default is the address that Azure machines have. */
  readonly metadataBaseUrl?: string;
  /** A token was not issued; `fault` holds no secret. */
  readonly onFault: (fault: string) => void;
}

/**
 * Builds the part that authenticates calls to an entry's upstream.
 *
 * Errors: throws where a token URL cannot be used, in words for the author of the configuration.
 */
export function createAuthorizer(auth: UpstreamAuth, options: AuthorizerOptions): Authorizer {
  switch (auth.type) {
    case "none":
      return fixedAuthorizer([]);
    case "headers":
      return fixedAuthorizer(Object.entries(auth.headers).map(([name, value]) => [name, encodeHeaderValue(value)]));
    default:
      return new TokenCache(createTokenSource(auth, options), options.clock, options.onFault);
  }
}

function createTokenSource(
  auth: Extract<UpstreamAuth, { type: "oauth2" | "managedIdentity" }>,
  options: AuthorizerOptions,
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
  // The host's environment names it, not the configuration: it is a metadata address on purpose.
  return createManagedIdentitySource(header, new TokenEndpoint(url, { ...options, allowed: null }));
}
