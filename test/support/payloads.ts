import type { Payload } from "../../src/protocol/payload.ts";

/** A text as a payload of text, bytes as a binary one. */
export function toPayload(data: string | Uint8Array): Payload {
  return typeof data === "string" ? { type: "text", data } : { type: "binary", data };
}
