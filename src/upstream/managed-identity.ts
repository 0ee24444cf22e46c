import { answeredAtMs } from "../protocol/headers.ts";
import type { AuthorizationFault } from "./authorization.ts";
import type { HttpAnswer } from "./exchange.ts";
import type { IssuedToken, TokenSource } from "./token-cache.ts";
import type { TokenEndpoint, TokenRequest } from "./token-endpoint.ts";

/** Where an Azure machine finds its identity. */
export const METADATA_BASE_URL = "http://169.254.169.254";

/** Which URL to ask for a token, and the header that opens it. */
export interface IdentityEndpoint {
  readonly url: string;
  readonly header: readonly [name: string, value: string];
}

/**
 * Finds the endpoint that issues this host's tokens for a resource.
 *
 * Shape:  `IDENTITY_ENDPOINT` with `IDENTITY_HEADER` (App Service, Functions, Container Apps), else the machine's
 *         metadata address.
 * Source: PROTOCOL.md, "Calling the upstream".
 */
export function findIdentityEndpoint(
  resource: string,
  env: Readonly<Record<string, string | undefined>>,
  metadataBaseUrl: string,
): IdentityEndpoint {
  const endpoint = env["IDENTITY_ENDPOINT"];
  const secret = env["IDENTITY_HEADER"];
  const isGiven = endpoint !== undefined && endpoint !== "" && secret !== undefined && secret !== "";
  const url = new URL(isGiven ? endpoint : `${metadataBaseUrl}/metadata/identity/oauth2/token`);
  url.searchParams.set("resource", resource);
  url.searchParams.set("api-version", isGiven ? "2019-08-01" : "2018-02-01");
  return { url: url.href, header: isGiven ? ["X-IDENTITY-HEADER", secret] : ["Metadata", "true"] };
}

/** Gets tokens for this host's managed identity from `endpoint`, which speaks to the URL that belongs to `header`. */
export function createManagedIdentitySource(header: IdentityEndpoint["header"], endpoint: TokenEndpoint): TokenSource {
  const request: TokenRequest = { method: "GET", headers: [header] };
  return {
    async fetchToken(): Promise<IssuedToken | AuthorizationFault> {
      const answer = await endpoint.request(request);
      if (answer.kind === "fault") return answer;
      if (answer.status !== 200) return { fault: `the identity endpoint answered ${answer.status}` };
      return readToken(answer) ?? { fault: "the identity endpoint's answer holds no token" };
    },
    stop: () => endpoint.stop(),
  };
}

/**
 * Both kinds of endpoint give numbers as text; one tells when the token ends, the other how long it lives. The end is by the endpoint's
 * clock, as its `Date` is.
 */
function readToken({ body, headers }: HttpAnswer): IssuedToken | null {
  const answer = parseObject(body);
  const accessToken = answer?.["access_token"];
  if (answer === null || typeof accessToken !== "string") return null;
  const expiresIn = readSeconds(answer["expires_in"]);
  const expiresOn = readSeconds(answer["expires_on"]);
  const lifetimeSeconds =
    expiresIn ?? (expiresOn === null ? null : expiresOn - (answeredAtMs(headers) ?? Date.now()) / 1000);
  return lifetimeSeconds === null ? null : { accessToken, lifetimeSeconds };
}

function parseObject(body: Uint8Array): Record<string, unknown> | null {
  try {
    const parsed: unknown = JSON.parse(new TextDecoder().decode(body));
    return typeof parsed === "object" && parsed !== null ? (parsed as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function readSeconds(value: unknown): number | null {
  const text = typeof value === "number" ? String(value) : value;
  return typeof text === "string" && /^\d{1,12}$/.test(text) ? Number(text) : null;
}
