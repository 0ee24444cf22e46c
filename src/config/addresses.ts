import { isIP } from "node:net";
import { parseAllowedHost } from "./allowed-hosts.ts";

/** Checks of what a configuration writes about hosts. Each returns a sentence without the value, or null for a valid value. */

const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const PARAMETER = /\{[^{}]*\}/g;
const KNOWN_PARAMETERS: ReadonlySet<string> = new Set(["{hub}", "{category}", "{event}"]);

/** Whether a text is valid as a header's name. Source: RFC 9110, section 5.1. */
export function isHeaderName(text: string): boolean {
  return HEADER_NAME.test(text);
}

/** Faults of an entry of `trustedProxies`: an IP address, or a network as address/prefix. */
export function addressRangeFault(text: string): string | null {
  const slash = text.indexOf("/");
  const version = isIP(slash < 0 ? text : text.slice(0, slash));
  if (version === 0 || text.includes("%")) return "must be an IP address or a network such as 10.0.0.0/8 or fd00::/8";
  if (slash < 0) return null;
  const prefix = text.slice(slash + 1);
  const longest = version === 4 ? 32 : 128;
  if (!/^\d{1,3}$/.test(prefix) || Number(prefix) > longest) {
    return `the prefix after "/" must be a whole number from 0 to ${longest}`;
  }
  return null;
}

/** Faults of an entry of `allowedUpstreamHosts`. */
export function allowedHostFault(text: string): string | null {
  if (parseAllowedHost(text) !== null) return null;
  return 'must be "*", a host name, "*." and a domain, an IP address, or a network such as 10.0.0.0/8; without scheme, port and path. Write networks of IPv6 forms that contain IPv4 as IPv4';
}

/** Faults of an absolute URL with one of the schemes. User names and fragments are refused: neither would be used. */
export function absoluteUrlFault(text: string, schemes: readonly string[]): string | null {
  const allowed = schemes.map((scheme) => `${scheme}://`).join(", ");
  const match = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^/?#]*)/.exec(text);
  // Without a host URL takes the path's first part for one.
  if (match?.[2] === "") return "must be a URL with a valid host and port";
  if (match === null || !schemes.includes((match[1] ?? "").toLowerCase())) {
    return `must be an absolute URL that starts with ${allowed}`;
  }
  if (/[\s\\\u0000-\u001f\u007f]/.test(text)) return "must not contain spaces, control characters or backslashes";
  if ((match[2] ?? "").includes("@")) return "must not contain a user name or password";
  if (text.includes("#")) return "must not contain a fragment (#)";
  return URL.canParse(text) ? null : "must be a URL with a valid host and port";
}

/**
 * Faults of an entry of a cluster's `servers`.
 *
 * User names and passwords have options of their own: a URL ends in logs and in what servers tell of each other.
 */
export function natsServerFault(text: string): string | null {
  const [, scheme, rest = ""] = /^(?:([^:/]*):\/\/)?(.*)$/s.exec(text) ?? [];
  if (rest.includes("@")) return "must not contain a user name, password or token: there are options for them";
  if (scheme !== undefined && scheme !== "nats" && scheme !== "tls") {
    return "must be `host`, `host:port`, or one of these after nats:// or tls://";
  }
  const [, host, port] = /^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?$/.exec(rest) ?? [];
  const isPort = port === undefined || (Number(port) >= 1 && Number(port) <= 65_535);
  if (host !== undefined && isPort && URL.canParse(`http://${host}/`)) return null;
  return "must be a host name, an IPv4 address or an IPv6 address in brackets, with or without a port, and nothing after it";
}

/**
 * Faults of a `urlTemplate`.
 *
 * A parameter in the scheme, user information, host or port would let a client choose the machine that is called.
 * Source: PROTOCOL.md, "Choosing the upstream".
 */
export function urlTemplateFault(text: string): string | null {
  const authority = /^([^:/?#]*):\/\/([^/?#\\]*)/.exec(text);
  if (authority !== null && /[{}]/.test(authority[0])) {
    return "a parameter is allowed in the path and the query only, not in the scheme, user name, host or port";
  }
  const parameters = text.match(PARAMETER) ?? [];
  if (!parameters.every((parameter) => KNOWN_PARAMETERS.has(parameter))) {
    return "has an unknown parameter: use {hub}, {category} or {event}";
  }
  if (/[{}]/.test(text.replace(PARAMETER, ""))) return "has an unpaired { or }";
  return absoluteUrlFault(text.replace(PARAMETER, "x"), ["http", "https"]);
}

/** Faults of an entry of `allowedOrigins`: `*`, `null`, or an origin without a path. */
export function originFault(text: string): string | null {
  if (text === "*" || text === "null") return null;
  if (!/^[A-Za-z][A-Za-z0-9+.-]*:\/\/[^/?#@*\s\\]+$/.test(text) || !URL.canParse(text)) {
    return 'must be "*" or an origin such as https://app.example: scheme, host and port, without a path and without "*" in it';
  }
  return null;
}

/** The form in which a browser sends an origin: lower case, no default port. */
export function normaliseOrigin(text: string): string {
  if (text === "*" || text === "null") return text;
  const { origin } = new URL(text);
  // Schemes that URL does not know (capacitor://, chrome-extension://) have the origin "null" to it; browsers send them plain.
  return origin === "null" ? text.toLowerCase() : origin;
}
