import type { ClientProtocols } from "../protocol/client-protocol.ts";
import { raw } from "./raw.ts";

/** The client protocols of this version. */
export const CLIENT_PROTOCOLS: ClientProtocols = { raw };
