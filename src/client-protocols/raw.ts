import type { ClientProtocol } from "../protocol/client-protocol.ts";

/**
 * Frames hold what is said, and nothing else: each message of a client is an event, and each frame to it is a payload.
 *
 * A client gets no acknowledgement, so one whose event failed is closed.
 * Source: the seed, "Send Messages"; PROTOCOL.md, "Message".
 */
export const raw: ClientProtocol = {
  decode: (frame, bytes) => ({ payload: bytes, payloadType: typeof frame === "string" ? "text" : "binary" }),
  encode: ({ data }) => data,
  failed: (cause) => cause,
};
