import { createHmac } from "node:crypto";

/** The one or two access keys in force. Tokens made with either are good; events are signed with both. */
export interface AccessKeys {
  readonly primary: string;
  readonly secondary: string | null;
}

/**
 * Formats `X-ASRS-Signature` for a connection.
 *
 * Shape:  `sha256=<64 lower-case hex>` for the primary, then the secondary key, joined by `,`; one entry with one key.
 * Source: PROTOCOL.md, "Signature". The HMAC key is the UTF-8 bytes of the access key.
 */
export function formatSignature(connectionId: string, keys: AccessKeys): string {
  const primary = `sha256=${hmacHex(keys.primary, connectionId)}`;
  return keys.secondary === null ? primary : `${primary},sha256=${hmacHex(keys.secondary, connectionId)}`;
}

function hmacHex(key: string, text: string): string {
  return createHmac("sha256", key).update(text, "utf8").digest("hex");
}
