import { hubKey } from "../protocol/names.ts";
import { findUnreachedPatterns } from "./client-paths.ts";
import { type Path, type TreeFault, valueAt } from "./faults.ts";
import { findForwardingFaults } from "./forwarding-faults.ts";
import { findSpellingFaults } from "./hub-spellings.ts";
import { listenersClash } from "./listener-clash.ts";
import { hubNameFault } from "./patterns.ts";
import { findUpstreamHostFaults } from "./upstream-hosts.ts";

/**
 * Rules that concern several options at once.
 *
 * They look at the tree as it was written, not at the schema's result: a single wrong type elsewhere must not hide them.
 */
export function findCrossCheckFaults(tree: object): TreeFault[] {
  return [
    ...listenFaults(tree),
    ...keyFaults(tree),
    ...hubFaults(tree),
    ...findSpellingFaults(tree),
    ...findUnreachedPatterns(tree),
    ...upstreamFaults(tree),
    ...findUpstreamHostFaults(tree),
    ...findForwardingFaults(tree),
    ...clusterFaults(tree),
  ];
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function listenFaults(tree: object): TreeFault[] {
  const faults: TreeFault[] = [];
  const mode = valueAt(tree, ["listen", "tls", "clientCert"]);
  const hasCa = isGiven(valueAt(tree, ["listen", "tls", "clientCaFile"]));
  const asks = mode === "optional" || mode === "require";
  if (asks && !hasCa) {
    faults.push({ path: ["listen", "tls", "clientCaFile"], message: "is required when clientCert is not none" });
  }
  if (hasCa && !asks && (mode === undefined || mode === "none")) {
    faults.push({
      path: ["listen", "tls", "clientCert"],
      message: "must be optional or require when clientCaFile is given; else no client is asked for a certificate",
    });
  }
  if (asks && valueAt(tree, ["listen", "reusePort"]) === true) {
    faults.push({
      path: ["listen", "reusePort"],
      message: "is not supported together with client certificates: set reusePort to false, or clientCert to none",
    });
  }
  if (listenersClash(tree)) {
    faults.push({
      path: ["listen", "api", "port"],
      message:
        "must differ from listen.port, unless both hosts are IP addresses that differ, and neither is 0.0.0.0 or ::",
    });
  }
  const proxies = valueAt(tree, ["trustedProxies"]);
  const hasProxies = isGiven(proxies) && !(Array.isArray(proxies) && proxies.length === 0);
  if (isGiven(valueAt(tree, ["clientCertHeader"])) && !hasProxies) {
    faults.push({
      path: ["clientCertHeader"],
      message: "needs trustedProxies: only trusted proxies may set this header",
    });
  }
  return faults;
}

function keyFaults(tree: object): TreeFault[] {
  const isAlone =
    isGiven(valueAt(tree, ["accessKeys", "secondary"])) && !isGiven(valueAt(tree, ["accessKeys", "primary"]));
  return isAlone ? [{ path: ["accessKeys", "secondary"], message: "needs accessKeys.primary too" }] : [];
}

function hubFaults(tree: object): TreeFault[] {
  const hubs = valueAt(tree, ["hubs"]);
  if (typeof hubs !== "object" || hubs === null || Array.isArray(hubs)) return [];
  const faults: TreeFault[] = [];
  const seen = new Set<string>();
  for (const name of Object.keys(hubs)) {
    const message = hubNameFault(name);
    if (message !== null) faults.push({ path: ["hubs", name], message });
    else if (seen.has(hubKey(name))) {
      faults.push({ path: ["hubs", name], message: "is given twice: hub names are case-insensitive" });
    }
    seen.add(hubKey(name));
  }
  return faults;
}

function upstreamFaults(tree: object): TreeFault[] {
  const entries = valueAt(tree, ["upstreams"]);
  if (!Array.isArray(entries)) return [];
  return entries.flatMap((_, position) => certificateFaults(tree, ["upstreams", position, "tls"]));
}

/** A client certificate needs its key, and the key its certificate. */
function certificateFaults(tree: object, tls: Path): TreeFault[] {
  return pairFaults(tree, tls, ["certFile", "keyFile"]);
}

/** Two options of one block that are given both or not at all. */
function pairFaults(tree: object, block: Path, pair: readonly [string, string]): TreeFault[] {
  const [given, ...others] = pair.filter((name) => isGiven(valueAt(tree, [...block, name])));
  if (given === undefined || others.length > 0) return [];
  const missing = given === pair[0] ? pair[1] : pair[0];
  return [{ path: [...block, missing], message: `is required when ${given} is given` }];
}

function clusterFaults(tree: object): TreeFault[] {
  const nats = ["cluster", "nats"];
  if (!isGiven(valueAt(tree, ["cluster"]))) return [];
  const faults = [
    ...pairFaults(tree, nats, ["user", "password"]),
    ...certificateFaults(tree, [...nats, "tls"]),
    ...loginFaults(tree, nats),
  ];
  if (!isGiven(valueAt(tree, ["accessKeys", "primary"]))) {
    const message = "is required in a cluster: every node needs the same key";
    faults.push({ path: ["accessKeys", "primary"], message });
  }
  return faults;
}

/** The client would use one of them and ignore the others. */
function loginFaults(tree: object, nats: Path): TreeFault[] {
  const isThere = (name: string) => isGiven(valueAt(tree, [...nats, name]));
  const login = isThere("user") ? "user" : "password";
  const [first, ...others] = [login, "token", "credsFile"].filter(isThere);
  return others.map((name) => ({
    path: [...nats, name],
    message: `cannot be combined with ${first}: choose one way to log in`,
  }));
}
