import { BlockList, isIP } from "node:net";
import { addressBlock } from "../config/ip-address.ts";
import { splitList, trimOptionalSpace } from "../protocol/headers.ts";

const MAPPED_IPV4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;
const IPV4_WITH_PORT = /^(\d+\.\d+\.\d+\.\d+):\d+$/;
const BRACKETED_IPV6 = /^\[([0-9A-Fa-f:.]+)\](?::\d+)?$/;

/** An address in the form in which it is compared and passed on: no port, no brackets, IPv4 without `::ffff:`. */
export function plainAddress(address: string): string {
  const bare = IPV4_WITH_PORT.exec(address)?.[1] ?? BRACKETED_IPV6.exec(address)?.[1] ?? address;
  return MAPPED_IPV4.exec(bare)?.[1] ?? bare;
}

/** The proxies whose `X-Forwarded-For` is trusted. */
export class TrustedProxies {
  readonly #list = new BlockList();

  /** Addresses and networks in CIDR form; the configuration has checked them. */
  constructor(ranges: readonly string[]) {
    for (const range of ranges) {
      const [address = "", prefix] = range.split("/");
      const family = isIP(address) === 6 ? "ipv6" : "ipv4";
      if (prefix === undefined) this.#list.addAddress(address, family);
      else this.#list.addSubnet(address, Number(prefix), family);
    }
  }

  includes(address: string): boolean {
    const version = isIP(address);
    return version !== 0 && this.#list.check(address, version === 6 ? "ipv6" : "ipv4");
  }
}

/** Where a client comes from. */
export interface Origin {
  /** The whole `X-Forwarded-For` that the upstream gets. */
  readonly forwardedFor: string;
  /** The first address from the right that is not a trusted proxy's: the client's, for limits and logs. */
  readonly clientAddress: string;
  /** The addresses that count as that client for limits that hold for each address. */
  readonly clientBlock: string;
  /** Whether the peer sent a chain and is not a trusted proxy. */
  readonly isChainIgnored: boolean;
}

/**
 * Works out where a request comes from.
 *
 * Shape:  `peer` is the socket's address; `chain` the request's own `X-Forwarded-For`, all lines joined by `, `, or null, one char a
 *         byte. The chain counts only where the peer is a trusted proxy, and then goes on byte for byte, but for its empty parts and
 *         the ports of addresses.
 * Source: the seed, `X-Forwarded-For`.
 */
export function traceOrigin(peer: string, chain: string | null, trusted: TrustedProxies): Origin {
  const peerAddress = plainAddress(peer);
  const parts = chain === null ? "" : withoutEmptyParts(chain);
  const hasChain = parts !== "";
  if (!hasChain || !trusted.includes(peerAddress)) {
    const clientBlock = addressBlock(peerAddress);
    return { forwardedFor: peerAddress, clientAddress: peerAddress, clientBlock, isChainIgnored: hasChain };
  }
  const plainChain = parts.replace(/[^, \t]+/g, plainAddress);
  const forwardedFor = `${plainChain}, ${peerAddress}`;
  const clientAddress = findClient(forwardedFor, trusted);
  return { forwardedFor, clientAddress, clientBlock: addressBlock(clientAddress), isChainIgnored: false };
}

/** A list without its empty elements, and otherwise as it is. */
function withoutEmptyParts(list: string): string {
  const parts = list.split(",").filter((part) => trimOptionalSpace(part) !== "");
  return trimOptionalSpace(parts.join(","));
}

/** The client's address in the whole `X-Forwarded-For` that the upstream gets: the first from the right that is not a trusted proxy's. */
export function findClient(forwardedFor: string, trusted: TrustedProxies): string {
  // Without a proxy the chain is the client's address.
  if (!forwardedFor.includes(",")) return forwardedFor;
  const hops = splitList(forwardedFor);
  return hops.findLast((hop) => !trusted.includes(hop)) ?? hops[0] ?? "";
}
