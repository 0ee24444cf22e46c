import { valueAt } from "./faults.ts";
import { embeddedAddresses, parseIpAddress } from "./ip-address.ts";

/** The values where `listen` leaves them out. */
const DEFAULTS = { host: "127.0.0.1", port: 8080 } as const;

/**
 * Whether the REST API's listener could get connections that are meant for the public one, or the other way round.
 *
 * Why:    with `reusePort` the system opens one port for both, and spreads clients over them without an error.
 * Shape:  a tree as it was written. One port is fine for two IP addresses that differ; a name may be any address, since it is
 *         not resolved here.
 */
export function listenersClash(tree: object): boolean {
  const read = (key: string, fallback: unknown) => valueAt(tree, ["listen", ...key.split(".")]) ?? fallback;
  const port = read("api.port", 0);
  if (port === 0 || port !== read("port", DEFAULTS.port)) return false;
  const hosts = [read("host", DEFAULTS.host), read("api.host", DEFAULTS.host)];
  const [ours, theirs] = hosts.map((host) => (typeof host === "string" ? readAddress(host) : null));
  if (!ours || !theirs) return true;
  return isWildcard(ours) || isWildcard(theirs) || ours.some((one) => theirs.includes(one));
}

/** An address in every form that the system takes for the same; null for a name. */
function readAddress(host: string): readonly string[] | null {
  const address = parseIpAddress(host);
  return address === null ? null : [address, ...embeddedAddresses(address)].map(String);
}

function isWildcard(forms: readonly string[]): boolean {
  return forms.some((form) => /^0(?:,0)*$/.test(form));
}
