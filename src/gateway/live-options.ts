import type { Config } from "../config/schema.ts";

/** The options that the gateway's parts read while it runs, without the groups that they are in. */
export type LiveOptions = Config["limits"] & Config["websocket"] & Config["disconnect"] & Config["shutdown"];

/**
 * Collects the options that can change while the gateway runs into one object, which its parts keep: a reload assigns to it,
 * and every part sees the new values.
 *
 * Shape:  names are unique over all these groups. `compression` is whether any hub has it.
 */
export function collectLiveOptions({ limits, websocket, disconnect, shutdown, hubs }: Config): LiveOptions {
  const compression = websocket.compression || Object.values(hubs).some((hub) => hub.compression);
  return { ...limits, ...websocket, ...disconnect, ...shutdown, compression };
}

/** Options that take effect at the next start only. */
const FIXED_OPTIONS = ["listen", "dataDir", "journal", "cluster"] as const satisfies readonly (keyof Config)[];

/** The names of the options that differ between two configurations and cannot change while the gateway runs. */
export function listFixedChanges(before: Config, after: Config): string[] {
  return FIXED_OPTIONS.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
}

/** The new configuration, with the old one's values where they cannot change. */
export function keepFixedOptions(before: Config, after: Config): Config {
  const { listen, dataDir, journal, cluster } = before;
  return { ...after, listen, dataDir, journal, cluster };
}
