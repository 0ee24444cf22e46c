import { hubKey } from "../protocol/names.ts";
import type { Config, HubConfig } from "./schema.ts";

/** The options of a hub: its own settings, or those for all hubs. `hub` may be in any case. */
export function hubConfig({ hubs, anonymous, allowedOrigins, websocket }: Config, hub: string): HubConfig {
  return hubs[hubKey(hub)] ?? { anonymous, allowedOrigins, compression: websocket.compression };
}
