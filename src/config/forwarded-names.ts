import { HOP_BY_HOP_HEADERS } from "../protocol/headers.ts";
import { isHeaderName } from "./addresses.ts";

/** Headers that hubwire or the HTTP connection decides, in the form of `variableOf`. */
const OWN_NAMES: ReadonlySet<string> = new Set(["host", "date", "accept-encoding", "expect"]);
const OWN_PREFIXES = ["content-", "sec-websocket-", "x-asrs-", "x-hubwire-"];

/** Headers in which proxies say who the client is, in the same form. */
const ADDRESS_NAMES: ReadonlySet<string> = new Set(["forwarded", "x-forwarded", "x-real-ip"]);
const ADDRESS_PREFIXES = ["x-forwarded-", "client-cert"];

/** Headers that hold what a browser sends for a user without asking. Lower case. */
export const CREDENTIAL_HEADERS: ReadonlySet<string> = new Set(["cookie", "authorization"]);

/**
 * A header's name in a form that is equal for all names that a backend may take for one.
 *
 * Why: CGI, WSGI and PHP make a variable of a name, with `_` in place of `-` and in some servers of every other sign, so that
 *      `x.asrs-user_id` arrives as `X-ASRS-User-Id`.
 */
export function variableOf(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, "-");
}

/** Faults of a name in `forwardHeaders` or `passResponseHeaders`; null if such a header may be passed on. */
export function forwardedNameFault(name: string): string | null {
  if (name === "*") return "does not mean all headers: list the names of those that you need";
  if (!isHeaderName(name)) return "is not a valid header name";
  const variable = variableOf(name);
  if (HOP_BY_HOP_HEADERS.has(variable)) {
    return "is a hop-by-hop header, which concerns one connection only and is never passed on: remove it";
  }
  if (OWN_NAMES.has(variable) || OWN_PREFIXES.some((own) => variable.startsWith(own))) {
    return "is a header that hubwire or the HTTP connection itself sets: remove it";
  }
  if (ADDRESS_NAMES.has(variable) || ADDRESS_PREFIXES.some((own) => variable.startsWith(own))) {
    return "is a header that only proxies may set, and anybody can write anything into it: remove it; backends get X-Forwarded-For and X-ASRS-Client-Cert-Thumbprint";
  }
  if (name.includes("_")) return "contains `_`, which backends may take for `-`, and so for another header: remove it";
  return null;
}

/** The place of each name that the list has before, in any case. */
export function repeatedNames(names: readonly string[]): number[] {
  const seen = new Set<string>();
  return names.flatMap((name, index) => {
    const size = seen.size;
    return seen.add(name.toLowerCase()).size === size ? [index] : [];
  });
}
