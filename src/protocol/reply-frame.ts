const OCTET_STREAM = /^\s*application\/octet-stream\s*(?:;|$)/i;

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Makes the WebSocket message that an upstream's answer becomes: a string for a text frame, bytes for a binary one.
 *
 * Shape:  `contentType` as it stands in the header; null for an empty body. Binary where the type is `application/octet-stream` or the bytes are not UTF-8.
 * Source: spec section 5.2. Types compare without case and parameters.
 */
export function replyFrame(contentType: string, body: Uint8Array): string | Uint8Array | null {
  if (body.length === 0) return null;
  if (OCTET_STREAM.test(contentType)) return body;
  try {
    return strictUtf8.decode(body);
  } catch {
    return body;
  }
}
