import { parseClientEndpoint } from "../protocol/client-endpoint.ts";
import { isSameClientPath } from "../protocol/client-paths.ts";
import { hubKey } from "../protocol/names.ts";

const AUDIENCE_SCHEMES: ReadonlySet<string> = new Set(["http:", "https:", "ws:", "wss:"]);

/** A step up or none in a path, as a backend writes it that puts the name `..` into an URL (decision 0008). */
const DOT_SEGMENT = /\/(?:\.|%2e){1,2}(?:\/|$)/i;

/** Characters that URL parsers leave out everywhere. */
const LEFT_OUT = /[\t\r\n]/g;
const SPACE = 0x20;

/** The endpoint that a token must name: one of these hosts, and this hub or this path. */
export interface Endpoint {
  /** Lower-case host names without ports. */
  readonly hosts: readonly string[];
  readonly hub: string;
  /** The request's path where a pattern of `paths` matched it; null for the client endpoint's own URLs. */
  readonly clientPath: string | null;
}

/**
 * The host name of a URL's authority (`Host` header) or of a whole URL, in the form in which hosts compare.
 *
 * Shape: lower case, no port, IPv6 in brackets; null if the URL or header has no valid host.
 */
export function hostOf(authorityOrUrl: string): string | null {
  const url = URL.parse(authorityOrUrl.includes("://") ? authorityOrUrl : `http://${authorityOrUrl}`);
  return url === null || url.hostname === "" ? null : url.hostname.toLowerCase();
}

/**
 * The URLs of a token's `aud`; the caller compares their hosts, without ports.
 *
 * Shape:  `audience` is a string or a list of strings. A string does not count where it is not an http(s) or ws(s) URL, or where
 *         the path that was written is not the one that URL parsers make of it (decision 0008).
 */
export function audienceUrls(audience: unknown): URL[] {
  const names: unknown[] = Array.isArray(audience) ? audience : [audience];
  return names
    .map((name) => (typeof name === "string" && !isRewritten(name) ? URL.parse(name) : null))
    .filter((url) => url !== null)
    .filter((url) => AUDIENCE_SCHEMES.has(url.protocol));
}

/** Whether URL parsers take a segment out of the path or turn a backslash into a slash. Source: the URL standard. */
function isRewritten(name: string): boolean {
  const written = name.replace(LEFT_OUT, "");
  const mark = written.search(/[?#]/);
  let end = mark === -1 ? written.length : mark;
  // Controls and spaces at the end are left out too. By index: a search for them would begin anew at each.
  while (end > 0 && written.charCodeAt(end - 1) <= SPACE) end--;
  const path = written.slice(0, end);
  return path.includes("\\") || DOT_SEGMENT.test(path);
}

/**
 * Whether a token's `aud` names this client endpoint.
 *
 * Shape:  one URL that matches is enough. Scheme, port, trailing slash and other query parameters are ignored; any URL
 *         form of the same hub is the same audience. A URL with a path of `paths` is the audience of that path alone.
 * Source: PROTOCOL.md, "Authentication of the client".
 */
export function isClientAudience(audience: unknown, { hosts, hub, clientPath }: Endpoint): boolean {
  return audienceUrls(audience).some((url) => {
    if (!hosts.includes(url.hostname.toLowerCase())) return false;
    if (clientPath !== null && isSameClientPath(url.pathname, clientPath)) return true;
    const parsed = parseClientEndpoint(url.pathname, url.search.slice(1));
    return parsed.kind === "endpoint" && hubKey(parsed.hub) === hubKey(hub);
  });
}
