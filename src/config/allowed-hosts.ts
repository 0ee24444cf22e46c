import {
  embeddedAddresses,
  type IpAddress,
  type IpNetwork,
  isWithin,
  parseIpAddress,
  parseIpNetwork,
} from "./ip-address.ts";

/** Addresses that no backend has, and that answer with secrets or belong to another service. */
const REFUSED: readonly RefusedRange[] = [
  refusedRange("169.254.0.0/16", "a link-local address, where clouds keep their metadata"),
  refusedRange("fe80::/10", "a link-local address"),
  refusedRange("100.100.100.200", "a cloud's metadata address (Alibaba)"),
  refusedRange("168.63.129.16", "a cloud's own address (Azure)"),
  refusedRange("192.0.0.192", "a cloud's metadata address (Oracle)"),
  refusedRange("fd00:ec2::/32", "a cloud's metadata address (AWS)"),
  refusedRange("fd20:ce::254", "a cloud's metadata address (Google)"),
  refusedRange("fd00:c1::a9fe:a9fe", "a cloud's metadata address (Oracle)"),
  refusedRange("fd00:42::42", "a cloud's metadata address (Scaleway)"),
  refusedRange("0.0.0.0/8", "no host's address"),
  refusedRange("::", "no host's address"),
  refusedRange("224.0.0.0/4", "a multicast address"),
  refusedRange("ff00::/8", "a multicast address"),
  refusedRange("255.255.255.255", "the broadcast address"),
];

interface RefusedRange {
  readonly range: string;
  readonly what: string;
  readonly network: IpNetwork;
}

function refusedRange(range: string, what: string): RefusedRange {
  const network = parseIpNetwork(range);
  if (network === null) throw new Error(`${range} is not a network`);
  return { range, what, network };
}

/** One entry of `allowedUpstreamHosts`. */
export type AllowedHost =
  | { readonly kind: "any" }
  | { readonly kind: "name"; readonly name: string }
  /** `suffix` begins with a dot. */
  | { readonly kind: "subdomains"; readonly suffix: string }
  | { readonly kind: "network"; readonly network: IpNetwork };

/** Parses an entry of `allowedUpstreamHosts`. Null if the text is not a valid entry. */
export function parseAllowedHost(text: string): AllowedHost | null {
  if (text === "*") return { kind: "any" };
  if (text.startsWith("*.")) {
    const name = normaliseName(text.slice(2));
    return name === null || parseIpAddress(name) !== null ? null : { kind: "subdomains", suffix: `.${name}` };
  }
  const network = text.includes("%") ? null : parseIpNetwork(text.replace(/^\[(.*)\]$/, "$1"));
  if (network !== null) return listedNetwork(network);
  const name = normaliseName(text);
  if (name === null) return null;
  // `127.1`, `0x7f000001` and similar forms.
  const address = parseIpNetwork(name);
  return address === null ? { kind: "name", name } : { kind: "network", network: address };
}

/** An IPv6 form of an IPv4 address is judged as IPv4, so a network must be listed as IPv4; a single address may have either form. */
function listedNetwork(network: IpNetwork): AllowedHost | null {
  const [embedded, ...more] = embeddedAddresses(network.address);
  if (embedded === undefined) return { kind: "network", network };
  const isOne = network.prefixBits === 128 && more.length === 0;
  return isOne ? { kind: "network", network: { address: embedded, prefixBits: 32 } } : null;
}

/** A host's name as `URL` gives it: lower case, IDNA, odd spellings of IPv4 resolved; here without the root's dot. */
function normaliseName(text: string): string | null {
  if (!/^[^\s/?#@:\\[\]%*<>^|]+$/.test(text)) return null;
  return URL.parse(`http://${text}/`)?.hostname.replace(/\.$/, "") || null;
}

/**
 * Which hosts and addresses may be called.
 *
 * A name needs an entry with that name; networks match addresses in URLs. Link-local, metadata and similar addresses need an
 * explicit entry, whichever name resolves to them: the address, a network inside the refused range, or the exact name.
 * Loopback and private addresses need no explicit entry.
 *
 * Shape:  `entries` have been checked by `allowedHostFault`; host names come from `URL`, without brackets.
 * Errors: the sentences quote no host, so that they may be printed next to a URL that is a secret.
 * Source: docs/decisions/0010-upstream-addresses.md.
 */
export class AllowedHosts {
  #isAny = false;
  readonly #names = new Set<string>();
  readonly #suffixes: string[] = [];
  readonly #networks: IpNetwork[] = [];

  constructor(entries: readonly string[]) {
    for (const entry of entries.map(parseAllowedHost)) {
      if (entry === null) throw new Error("allowedUpstreamHosts holds an invalid entry");
      if (entry.kind === "any") this.#isAny = true;
      else if (entry.kind === "name") this.#names.add(entry.name);
      else if (entry.kind === "subdomains") this.#suffixes.push(entry.suffix);
      else this.#networks.push(entry.network);
    }
  }

  /** Why a URL may not have this host, in a sentence about the URL; null where it may. The addresses of a name are judged by `addressFault`. */
  hostFault(hostname: string): string | null {
    const address = parseIpAddress(hostname);
    const isListed = address === null ? this.#listsName(hostname) : this.#listsAddress(address);
    if (!isListed) return "its host is not listed in allowedUpstreamHosts";
    const fault = address === null ? null : this.addressFault(hostname, hostname);
    return fault === null ? null : `its host ${fault}`;
  }

  /** Why this address of a host must not be called, as what the address "is"; null where it may. */
  addressFault(hostname: string, address: string): string | null {
    const parsed = parseIpAddress(address);
    if (parsed === null) return "is not an IP address";
    const verb = embeddedAddresses(parsed).length === 0 ? "is" : "maps to";
    for (const judged of judgedAddresses(parsed)) {
      const refused = REFUSED.find(({ network }) => isWithin(judged, network));
      if (refused === undefined || this.#lifts(refused.network, judged, hostname)) continue;
      return `${verb} ${refused.what} (${refused.range}); allowedUpstreamHosts must list it explicitly`;
    }
    return null;
  }

  #listsName(hostname: string): boolean {
    const name = hostname.replace(/\.$/, "");
    return this.#isAny || this.#names.has(name) || this.#suffixes.some((suffix) => name.endsWith(suffix));
  }

  #listsAddress(address: IpAddress): boolean {
    if (this.#isAny) return true;
    return judgedAddresses(address).every((judged) => this.#networks.some((network) => isWithin(judged, network)));
  }

  /** A wider network is not meant: 100.64.0.0/10 is a VPN's, not the metadata address in it. */
  #lifts(refused: IpNetwork, address: IpAddress, hostname: string): boolean {
    if (this.#names.has(hostname.replace(/\.$/, ""))) return true;
    return this.#networks.some((network) => network.prefixBits >= refused.prefixBits && isWithin(address, network));
  }
}

/** The addresses that count for an address: the IPv4 addresses that it contains, or itself. */
function judgedAddresses(address: IpAddress): readonly IpAddress[] {
  const embedded = embeddedAddresses(address);
  return embedded.length > 0 ? embedded : [address];
}
