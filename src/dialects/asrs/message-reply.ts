import type { AnswerContent } from "../../protocol/dialect.ts";
import type { Payload } from "../../protocol/payload.ts";

/** The length of the shortest `Content-Type` that says so. */
const OCTET_STREAM_LENGTH = "application/octet-stream".length;
const OCTET_STREAM = /^\s*application\/octet-stream\s*(?:;|$)/i;

/**
 * Reads the message for the client in a backend's answer.
 *
 * Shape:  null for an empty body. Binary where the type is `application/octet-stream` or the bytes are not UTF-8. Types are compared
 *         without case and parameters.
 * Source: the seed, "Send Messages"; PROTOCOL.md.
 */
export function readPayload(content: AnswerContent): Payload | null {
  const { contentType } = content;
  const isBinary = contentType.length >= OCTET_STREAM_LENGTH && OCTET_STREAM.test(contentType);
  const text = isBinary ? null : content.text;
  if (text !== null) return text === "" ? null : { type: "text", data: text };
  const { body } = content;
  return body.length === 0 ? null : { type: "binary", data: body };
}
