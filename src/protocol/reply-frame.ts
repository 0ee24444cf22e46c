/** The shortest that says so. */
const OCTET_STREAM_LENGTH = "application/octet-stream".length;
const OCTET_STREAM = /^\s*application\/octet-stream\s*(?:;|$)/i;

/** What of an upstream's answer becomes a message. */
export interface Reply {
  /** As it stands in the header. */
  readonly contentType: string;
  readonly body: Uint8Array;
  /** The body as text; null where it is no UTF-8. */
  readonly text: string | null;
}

/**
 * Makes the WebSocket message that an upstream's answer becomes: a string for a text frame, bytes for a binary one.
 *
 * Shape:  null for an empty body. Binary where the type is `application/octet-stream` or the bytes are not UTF-8.
 * Source: PROTOCOL.md, "Message". Types compare without case and parameters.
 */
export function replyFrame(reply: Reply): string | Uint8Array | null {
  const { contentType } = reply;
  const isBinary = contentType.length >= OCTET_STREAM_LENGTH && OCTET_STREAM.test(contentType);
  const text = isBinary ? null : reply.text;
  if (text !== null) return text === "" ? null : text;
  return reply.body.length === 0 ? null : reply.body;
}
