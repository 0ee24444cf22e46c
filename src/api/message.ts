import { type Refusal, refusal } from "../protocol/error-codes.ts";

/** How a body is sent on: as a text message or a binary one. */
export type MessageType = "text" | "binary";

const TYPES: ReadonlyMap<string, MessageType> = new Map([
  ["text/plain", "text"],
  ["application/json", "text"],
  ["application/octet-stream", "binary"],
]);

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Reads a `Content-Type`; null where a message cannot have this type. Source: PROTOCOL.md, "Sending". */
export function parseMessageType(contentType: string | null): MessageType | null {
  const plain = TYPES.get(contentType ?? "");
  if (plain !== undefined) return plain;
  const [type = "", ...parameters] = (contentType ?? "").split(";").map((part) => part.trim().toLowerCase());
  const charsets = parameters.filter((parameter) => parameter.startsWith("charset="));
  if (!charsets.every((charset) => /^charset=(?:utf-?8|"utf-?8")$/.test(charset))) return null;
  return TYPES.get(type) ?? null;
}

/** Makes the frame of a body: a string for a text frame, bytes for a binary one. Text that is not UTF-8 is refused. */
export function messageFrame(
  type: MessageType,
  bytes: Uint8Array,
): { frame: string | Uint8Array } | { refusal: Refusal } {
  if (type === "binary") return { frame: bytes };
  try {
    return { frame: strictUtf8.decode(bytes) };
  } catch {
    return { refusal: refusal("bad_text", "the body of a text message must be UTF-8", "body") };
  }
}
