import { isIP } from "node:net";

/** An IP address as its bytes: 4 of them, or 16. */
export type IpAddress = readonly number[];

/** All addresses that begin with the same `prefixBits` bits. */
export interface IpNetwork {
  readonly address: IpAddress;
  readonly prefixBits: number;
}

/** Parses an address in its usual spelling, without brackets; a zone (`%eth0`) is ignored. Null if the text is not an address. */
export function parseIpAddress(text: string): IpAddress | null {
  const bare = text.replace(/%.*$/s, "");
  const version = isIP(bare);
  if (version === 4) return bare.split(".").map(Number);
  if (version === 0) return null;
  const [head = "", tail = ""] = bare.split("::");
  const left = groupBytes(head);
  const right = groupBytes(tail);
  return [...left, ...new Array<number>(16 - left.length - right.length).fill(0), ...right];
}

function groupBytes(text: string): number[] {
  if (text === "") return [];
  return text.split(":").flatMap((group) => {
    if (group.includes(".")) return group.split(".").map(Number);
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

/** Reads `address/prefix`, or an address alone, which is a network of one. Null where it is neither. */
export function parseIpNetwork(text: string): IpNetwork | null {
  const [written = "", prefix, ...more] = text.split("/");
  const address = parseIpAddress(written);
  if (address === null || more.length > 0) return null;
  const longest = address.length * 8;
  const prefixBits = prefix === undefined ? longest : /^\d{1,3}$/.test(prefix) ? Number(prefix) : Number.NaN;
  return prefixBits <= longest ? { address, prefixBits } : null;
}

/** Whether an address belongs to a network; one of another version never does. */
export function isWithin(address: IpAddress, network: IpNetwork): boolean {
  if (address.length !== network.address.length) return false;
  for (let bit = 0, i = 0; bit < network.prefixBits; bit += 8, i++) {
    const mask = bit + 8 <= network.prefixBits ? 0xff : (0xff << (8 - (network.prefixBits - bit))) & 0xff;
    if ((((address[i] ?? 0) ^ (network.address[i] ?? 0)) & mask) !== 0) return false;
  }
  return true;
}

/** Longest text that is read as an address: 45 characters, and a zone. */
const MAX_ADDRESS_CHARS = 64;
/** A client that has one IPv6 address can mostly use all others of its /64. */
const BLOCK_BYTES = 8;

/**
 * The addresses that count as one client wherever a limit holds for each address: an IPv4 address alone, an IPv6 address with
 * all others of its /64. An IPv4-mapped address is the IPv4 address. A text that is not an address is returned as it is, cut at 64 characters.
 *
 * Cost: nothing for an IPv4 address; about a microsecond for an IPv6 address.
 */
export function addressBlock(text: string): string {
  const bounded = text.length > MAX_ADDRESS_CHARS ? text.slice(0, MAX_ADDRESS_CHARS) : text;
  if (!bounded.includes(":")) return bounded;
  const address = parseIpAddress(bounded);
  if (address === null || address.length !== 16) return bounded;
  if (isWithin(address, IPV4_MAPPED)) return address.slice(12).join(".");
  return `${Buffer.from(address.slice(0, BLOCK_BYTES)).toString("hex")}/64`;
}

/** A range of IPv6 addresses that contain IPv4 addresses, and the places of those in them. */
interface EmbeddingForm {
  readonly network: IpNetwork;
  readonly embedded: (bytes: IpAddress) => IpAddress[];
}

const UNSPECIFIED_AND_LOOPBACK = network("::/127");
const IPV4_MAPPED = network("::ffff:0:0/96");
const LOCAL_USE_NAT64_PREFIX_BYTES = [6, 7, 8, 12];

/**
 * Source: RFC 4291, sections 2.5.5.1 and 2.5.5.2 (compatible, mapped), RFC 2765, section 2.1 (translated), RFC 6052, section 2.2
 * (NAT64), RFC 8215 (NAT64 of local use), RFC 3056 (6to4), RFC 4380, section 4 (Teredo: server, and client turned over).
 */
const EMBEDDING_FORMS: readonly EmbeddingForm[] = [
  { network: IPV4_MAPPED, embedded: (bytes) => [bytes.slice(12)] },
  { network: network("::/96"), embedded: (bytes) => [bytes.slice(12)] },
  { network: network("::ffff:0:0:0/96"), embedded: (bytes) => [bytes.slice(12)] },
  { network: network("64:ff9b::/96"), embedded: (bytes) => [bytes.slice(12)] },
  { network: network("64:ff9b:1::/48"), embedded: localUseNat64 },
  { network: network("2002::/16"), embedded: (bytes) => [bytes.slice(2, 6)] },
  {
    network: network("2001::/32"),
    embedded: (bytes) => [bytes.slice(4, 8), bytes.slice(12).map((byte) => byte ^ 0xff)],
  },
];

/**
 * The IPv4 addresses that an IPv6 address contains; none for an IPv6 address proper, `::` and `::1` among them.
 *
 * Shape: more than one where a form leaves open which bytes count. A check must then pass for all of them.
 */
export function embeddedAddresses(address: IpAddress): IpAddress[] {
  if (isWithin(address, UNSPECIFIED_AND_LOOPBACK)) return [];
  return EMBEDDING_FORMS.find((form) => isWithin(address, form.network))?.embedded(address) ?? [];
}

/**
 * Only the owner of such a network knows the length of its prefix, so every reading counts, except those that find
 * 0.0.0.0/8: they come of a longer prefix's zeros, and no translator sends anything there.
 */
function localUseNat64(bytes: IpAddress): IpAddress[] {
  const readings = LOCAL_USE_NAT64_PREFIX_BYTES.map((start) => {
    // Byte 8 is left out by all of them. Source: RFC 6052, section 2.2.
    const rest = bytes.filter((_, index) => index >= start && (index !== 8 || start > 8));
    return rest.slice(0, 4);
  });
  const sensible = readings.filter(([first]) => first !== 0);
  return sensible.length > 0 ? sensible : [bytes.slice(12)];
}

function network(text: string): IpNetwork {
  const parsed = parseIpNetwork(text);
  if (parsed === null) throw new Error(`${text} is not a network`);
  return parsed;
}
