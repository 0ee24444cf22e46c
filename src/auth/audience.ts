import { parseClientEndpoint } from "../protocol/client-endpoint.ts";
import { hubKey } from "../protocol/names.ts";

const AUDIENCE_SCHEMES: ReadonlySet<string> = new Set(["http:", "https:", "ws:", "wss:"]);

/** The endpoint that a token must name: one of these hosts, and this hub. */
export interface Endpoint {
  /** Lower-case host names without ports. */
  readonly hosts: readonly string[];
  readonly hub: string;
}

/**
 * The host name of a URL's authority (`Host` header) or of a whole URL, in the form in which hosts compare.
 *
 * Shape: lower case, no port, IPv6 in brackets; null where there is none.
 */
export function hostOf(authorityOrUrl: string): string | null {
  const url = URL.parse(authorityOrUrl.includes("://") ? authorityOrUrl : `http://${authorityOrUrl}`);
  return url === null || url.hostname === "" ? null : url.hostname.toLowerCase();
}

/**
 * The URLs of a token's `aud`; the caller compares their hosts, without ports.
 *
 * Shape:  `audience` is a string or a list of strings; what is no http(s) or ws(s) URL does not count.
 */
export function audienceUrls(audience: unknown): URL[] {
  const names: unknown[] = Array.isArray(audience) ? audience : [audience];
  return names
    .map((name) => (typeof name === "string" ? URL.parse(name) : null))
    .filter((url) => url !== null)
    .filter((url) => AUDIENCE_SCHEMES.has(url.protocol));
}

/**
 * Whether a token's `aud` names this client endpoint.
 *
 * Shape:  one URL that matches is enough. Scheme, port, trailing slash and other query parameters are ignored; any URL
 *         form of the same hub is the same audience.
 * Source: spec section 3.2.
 */
export function isClientAudience(audience: unknown, { hosts, hub }: Endpoint): boolean {
  return audienceUrls(audience).some((url) => {
    if (!hosts.includes(url.hostname.toLowerCase())) return false;
    const parsed = parseClientEndpoint(url.pathname, url.search.slice(1));
    return parsed.kind === "endpoint" && hubKey(parsed.hub) === hubKey(hub);
  });
}
