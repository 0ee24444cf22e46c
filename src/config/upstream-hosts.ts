import { AllowedHosts, parseAllowedHost } from "./allowed-hosts.ts";
import { type Path, type TreeFault, valueAt } from "./faults.ts";

/**
 * Finds entries of `upstreams` whose URLs have a host that `allowedUpstreamHosts` does not allow.
 *
 * Shape: looks at the tree as it was written; the schema refuses a value that is not a list or not a URL.
 */
export function findUpstreamHostFaults(tree: object): TreeFault[] {
  const entries = valueAt(tree, ["upstreams"]);
  const allowed = readAllowedHosts(valueAt(tree, ["allowedUpstreamHosts"]));
  if (!Array.isArray(entries) || allowed === null) return [];
  return entries.flatMap((_, position) => {
    const paths: Path[] = [
      ["upstreams", position, "urlTemplate"],
      ["upstreams", position, "auth", "tokenUrl"],
    ];
    return paths.flatMap((path) => {
      const message = hostFault(allowed, valueAt(tree, path));
      return message === null ? [] : [{ path, message }];
    });
  });
}

function readAllowedHosts(written: unknown): AllowedHosts | null {
  if (written === undefined) return new AllowedHosts(["*"]);
  if (!Array.isArray(written)) return null;
  const isValid = written.every((entry) => typeof entry === "string" && parseAllowedHost(entry) !== null);
  return isValid ? new AllowedHosts(written) : null;
}

function hostFault(allowed: AllowedHosts, url: unknown): string | null {
  // A template's braces are in path and query only, where URL takes them as they are.
  const parsed = typeof url === "string" ? URL.parse(url) : null;
  if (parsed === null || parsed.hostname === "") return null;
  return allowed.hostFault(parsed.hostname.replace(/^\[(.*)\]$/, "$1"));
}
