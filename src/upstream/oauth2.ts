import * as oauth from "oauth4webapi";
import type { AuthorizationFault } from "./authorization.ts";
import type { IssuedToken, TokenSource } from "./token-cache.ts";
import type { TokenEndpoint } from "./token-endpoint.ts";

/** The lifetime of a token without `expires_in`. */
const DEFAULT_LIFETIME_SECONDS = 300;
const PRIVATE_ADDRESS =
  /^(?:127\.|10\.|192\.168\.|169\.254\.|172\.(?:1[6-9]|2\d|3[01])\.|\[::1\]$|\[f[cd][0-9a-f]{2}:|\[fe[89ab][0-9a-f]:)/;

export interface OAuth2Settings {
  readonly tokenUrl: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly scope: string | null;
}

/**
 * Whether a client secret may be sent to a URL: over TLS to any host, in the clear to loopback and private ones only.
 *
 * A name without a dot, such as `keycloak` in a compose file, is private: no public resolver knows it.
 */
export function isFitForSecrets(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  if (protocol === "https:") return true;
  const isAddress = /^[\d.]+$|^\[/.test(hostname);
  return isAddress ? PRIVATE_ADDRESS.test(hostname) : !hostname.includes(".") || hostname.endsWith(".localhost");
}

/**
 * Gets tokens by OAuth2 client credentials.
 *
 * Shape:  the client authenticates by HTTP Basic, which every token server must know.
 * Source: RFC 6749, sections 2.3.1 and 4.4; PROTOCOL.md, "Calling the upstream".
 */
export function createOAuth2Source(settings: OAuth2Settings, endpoint: TokenEndpoint): TokenSource {
  const server = { issuer: new URL(settings.tokenUrl).origin, token_endpoint: settings.tokenUrl };
  const client = { client_id: settings.clientId };
  const parameters: Record<string, string> = settings.scope === null ? {} : { scope: settings.scope };
  return {
    async fetchToken(): Promise<IssuedToken | AuthorizationFault> {
      try {
        const response = await oauth.clientCredentialsGrantRequest(
          server,
          client,
          oauth.ClientSecretBasic(settings.clientSecret),
          parameters,
          {
            [oauth.customFetch]: (_url, options) => fetchThrough(endpoint, options.headers, options.body),
            // `isFitForSecrets` has judged the URL when the upstream was created.
            [oauth.allowInsecureRequests]: true,
          },
        );
        const token = await oauth.processClientCredentialsResponse(server, client, response);
        return { accessToken: token.access_token, lifetimeSeconds: token.expires_in ?? DEFAULT_LIFETIME_SECONDS };
      } catch (error) {
        return { fault: describe(error) };
      }
    },
    stop: () => endpoint.stop(),
  };
}

/** A token server that could not be reached. */
class Unreachable extends Error {}

async function fetchThrough(
  endpoint: TokenEndpoint,
  headers: Record<string, string>,
  body: URLSearchParams,
): Promise<Response> {
  const withType = { "content-type": "application/x-www-form-urlencoded;charset=UTF-8", ...headers };
  const answer = await endpoint.request({
    method: "POST",
    headers: Object.entries(withType),
    body: new TextEncoder().encode(body.toString()),
  });
  if (answer.kind === "fault") throw new Unreachable(answer.fault);
  const lines = answer.headers.map(([name, value]): [string, string] => [name, Buffer.from(value).toString("latin1")]);
  return new Response(answer.body.length === 0 ? null : answer.body, { status: answer.status, headers: lines });
}

/** The error's code only: its cause may hold the answer's body. */
function describe(error: unknown): string {
  if (error instanceof Unreachable) return error.message;
  if (error instanceof oauth.ResponseBodyError) return `the token server answered ${error.status}`;
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? ` (${error.code})` : "";
  return `the token server's answer holds no token${code}`;
}
