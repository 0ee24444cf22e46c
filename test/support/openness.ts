import { AllowedHosts } from "../../src/config/allowed-hosts.ts";
import { hubConfig } from "../../src/config/load.ts";
import type { Config, UpstreamEntry } from "../../src/config/schema.ts";
import { DIALECTS } from "../../src/dialects/dialects.ts";
import { spellHub } from "../../src/protocol/names.ts";
import { TrustedProxies } from "../../src/sockets/addresses.ts";
import { matchesEvent, normalisePatterns } from "../../src/upstream/routing.ts";

/** What is asked of a configuration: each list with members that it may allow and members that it may not. */
export interface Probes {
  readonly hubs: readonly string[];
  readonly origins: readonly string[];
  readonly addresses: readonly string[];
  readonly upstreamHosts: readonly string[];
}

/** Limits of which 0 means no limit. */
const RATES: ReadonlySet<string> = new Set(["connectsPerSecondPerAddress", "messagesPerSecond", "bytesPerSecond"]);

/**
 * All that a configuration lets happen, as sentences. A configuration that has a sentence which another one has not lets more
 * happen than the other.
 *
 * Shape: asks what the parts of the gateway ask, and knows nothing of how a reload decides.
 */
export function listOpen(config: Config, probes: Probes): Set<string> {
  return new Set([
    ...probes.hubs.flatMap((hub) => openHub(config, hub, probes)),
    ...openTokens(config),
    ...openAddresses(config, probes),
    ...probes.upstreamHosts
      .filter((host) => new AllowedHosts(config.allowedUpstreamHosts).hostFault(host) === null)
      .map((host) => `host ${host} may be called`),
  ]);
}

/** Every number above which something is refused, by name. */
export function listBounds(config: Config): Map<string, number> {
  const limits = Object.entries(config.limits).map(([name, value]): [string, number] => {
    return [name, RATES.has(name) && value === 0 ? Number.POSITIVE_INFINITY : Number(value)];
  });
  return new Map([...limits, ["disconnect.maxPerSecond", config.disconnect.maxPerSecond]]);
}

function openHub(config: Config, hub: string, { origins }: Probes): string[] {
  const { anonymous, allowedOrigins } = hubConfig(config, hub);
  const events = (["connect", "message", "disconnect"] as const).map((event) => {
    const entry = config.upstreams.find((one) =>
      matchesEvent(normalisePatterns(one, DIALECTS[one.dialect].events), hub, event),
    );
    return `${hub}: ${event} goes to ${entry === undefined ? "no backend" : describeEntry(entry)}`;
  });
  return [
    ...(anonymous === "allow" ? [`${hub}: anonymous clients`] : []),
    ...origins
      .filter((origin) => allowedOrigins.includes("*") || allowedOrigins.includes(origin))
      .map((origin) => `${hub}: origin ${origin}`),
    ...events,
    `${hub} is written ${spellHub(hub, config.hubSpellings)}`,
  ];
}

function describeEntry(entry: UpstreamEntry): string {
  const { urlTemplate, auth, tls, connectEventName, forwardHeaders, repeatOnStaleSocket, ...bounds } = entry;
  const { maxConcurrency, maxConcurrencyPerAddress } = bounds;
  const places = { maxConcurrency, maxConcurrencyPerAddress };
  // A shorter list is what somebody wrote; one that is gone may have been cut off.
  const told = { connectEventName, hasClientHeaders: forwardHeaders.length > 0 };
  return JSON.stringify({ urlTemplate, auth, tls, ...told, repeatOnStaleSocket, ...places });
}

function openTokens({ publicUrls, accessKeys: { primary, secondary } }: Config): string[] {
  const hosts = publicUrls.length === 0 ? ["any"] : publicUrls.map((url) => new URL(url).host);
  const keys = [primary ?? "that of dataDir", secondary].filter((key) => key !== null);
  return [...hosts.map((host) => `tokens for the host ${host}`), ...keys.map((key) => `tokens of the key ${key}`)];
}

function openAddresses({ trustedProxies, clientCertHeader }: Config, { addresses }: Probes): string[] {
  const trusted = new TrustedProxies(trustedProxies);
  return [
    ...addresses.filter((address) => trusted.includes(address)).map((address) => `proxy ${address}`),
    ...(trustedProxies.length === 0 ? ["every client has the proxy's address"] : []),
    clientCertHeader === null ? "no certificate is told" : `certificates come from ${clientCertHeader}`,
  ];
}
