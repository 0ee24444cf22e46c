import type { Config } from "./schema.ts";

/** RFC 7518, section 3.2: a key of HS256 has at least as many bits as its hash. */
const MIN_KEY_BYTES = 32;

/** Settings that are allowed but probably not meant. No sentence holds a value of any key. */
export function findWarnings(config: Config): string[] {
  const warnings: string[] = [];
  if (config.publicUrls.length === 0) {
    warnings.push(
      "publicUrls is empty: the request's Host decides which tokens are for this gateway, and a client chooses it",
    );
  }
  if (config.upstreams.length === 0) {
    warnings.push(
      "upstreams is empty: no backend hears of any event, and every message closes its connection with 1011",
    );
  }
  const { delayMs, spreadMs, drainTimeoutMs } = config.shutdown;
  if (drainTimeoutMs > 0 && delayMs + spreadMs >= drainTimeoutMs) {
    warnings.push(
      "shutdown.delayMs and spreadMs leave nothing of drainTimeoutMs: disconnect events will wait for the next start",
    );
  }
  for (const name of ["primary", "secondary"] as const) {
    const key = config.accessKeys[name];
    if (key !== null && Buffer.byteLength(key) < MIN_KEY_BYTES) {
      warnings.push(
        `accessKeys.${name} is shorter than ${MIN_KEY_BYTES} bytes: an attacker who guesses it can make tokens and sign events; use 32 random bytes`,
      );
    }
  }
  warnings.push(...findOutboxWarnings(config.limits));
  for (const [position, { tls, urlTemplate }] of config.upstreams.entries()) {
    const hasFiles = tls.caFile !== null || tls.certFile !== null;
    if (hasFiles && /^http:/i.test(urlTemplate)) {
      warnings.push(`upstreams[${position}].tls is not used: its urlTemplate is http, not https`);
    }
  }
  warnings.push(...findIdleLists(config));
  return warnings;
}

/** Headers pass through connect events only. */
function findIdleLists({ upstreams }: Config): string[] {
  return upstreams.flatMap((entry, position) => {
    const { categoryPattern: categories, eventPattern: events } = entry;
    const takesConnect =
      (categories === "*" || categories.includes("connections")) && (events === "*" || events.includes("connect"));
    const lists = (["forwardHeaders", "passResponseHeaders"] as const).filter((list) => entry[list].length > 0);
    return takesConnect
      ? []
      : lists.map((list) => `upstreams[${position}].${list} is not used: its patterns take no connect event`);
  });
}

/** A single message that is longer than the outbox's bound looks like a client that does not read. */
function findOutboxWarnings({ maxOutboxBytes, maxMessageBytes, maxResponseBytes }: Config["limits"]): string[] {
  const longest = Object.entries({ maxMessageBytes, maxResponseBytes }).filter(([, bytes]) => bytes > maxOutboxBytes);
  return longest.map(
    ([name]) =>
      `limits.maxOutboxBytes is less than limits.${name}: a single message can close a client that reads as it should`,
  );
}
