import { hubKey } from "../protocol/names.ts";
import type { Config, HubConfig } from "./schema.ts";

/** What holds for a hub: its own settings, or the top-level ones. `hub` may be in any case. */
export function hubConfig(config: Config, hub: string): HubConfig {
  return config.hubs[hubKey(hub)] ?? { anonymous: config.anonymous, allowedOrigins: config.allowedOrigins };
}
