import { type HeaderLines, headerValues } from "./headers.ts";

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Makes the WebSocket message that an upstream's answer becomes: a string for a text frame, bytes for a binary one.
 *
 * Shape:  null for an empty body. Binary where the type is `application/octet-stream` or the bytes are not UTF-8.
 * Source: spec section 5.2. Types compare without case and parameters.
 */
export function replyFrame(headers: HeaderLines, body: Uint8Array): string | Uint8Array | null {
  if (body.length === 0) return null;
  const [contentType = ""] = headerValues(headers, "content-type");
  const [type = ""] = contentType.split(";", 1);
  if (type.trim().toLowerCase() === "application/octet-stream") return body;
  try {
    return strictUtf8.decode(body);
  } catch {
    return body;
  }
}
