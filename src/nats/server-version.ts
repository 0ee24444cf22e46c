import { readGreeting } from "./greeting.ts";

/** From here on a server that is killed keeps what JetStream has acknowledged, where it syncs each write.. */
const SAFE_VERSION = [2, 10, 23] as const;

const TIMEOUT_MS = 2000;

/** Whether a server of this version is known to lose acknowledged writes on `kill -9`. False where the text is not a version. */
export function isUnsafeVersion(text: string): boolean {
  const [, ...numbers] = /^(\d{1,4})\.(\d{1,4})\.(\d{1,4})/.exec(text) ?? [];
  if (numbers.length < SAFE_VERSION.length) return false;
  const index = SAFE_VERSION.findIndex((safe, at) => Number(numbers[at]) !== safe);
  return index >= 0 && Number(numbers[index]) < (SAFE_VERSION[index] ?? 0);
}

/** The sentence about such a server for an operator. */
export function describeUnsafe(version: string): string {
  return `NATS server ${version} is older than ${SAFE_VERSION.join(".")}: killed with SIGKILL it may lose what JetStream acknowledged`;
}

/** A sentence for each server that can be reached and is too old. Cost: up to two seconds, for all of them at once. */
export async function findUnsafeServers(servers: readonly string[]): Promise<string[]> {
  const versions = await Promise.all(servers.map(readVersion));
  return [...new Set(versions)].filter(isUnsafeVersion).map(describeUnsafe);
}

/** Empty where the server cannot be reached: the configuration may be checked elsewhere. */
async function readVersion(server: string): Promise<string> {
  try {
    return /"version":"([^"]{1,64})"/.exec(await readGreeting(server, TIMEOUT_MS))?.[1] ?? "";
  } catch {
    return "";
  }
}
