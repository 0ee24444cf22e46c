import { type Refusal, refusal } from "../protocol/error-codes.ts";
import type { Payload, PayloadType } from "../protocol/payload.ts";

const TYPES: ReadonlyMap<string, PayloadType> = new Map([
  ["text/plain", "text"],
  ["application/json", "text"],
  ["application/octet-stream", "binary"],
]);

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Reads a `Content-Type`; null where a message cannot have this type. Source: PROTOCOL.md, "Sending". */
export function parseMessageType(contentType: string | null): PayloadType | null {
  const plain = TYPES.get(contentType ?? "");
  if (plain !== undefined) return plain;
  const [type = "", ...parameters] = (contentType ?? "").split(";").map((part) => part.trim().toLowerCase());
  const charsets = parameters.filter((parameter) => parameter.startsWith("charset="));
  if (!charsets.every((charset) => /^charset=(?:utf-?8|"utf-?8")$/.test(charset))) return null;
  return TYPES.get(type) ?? null;
}

/** Reads a body as a payload of a type. Text that is not UTF-8 is refused. */
export function readMessage(type: PayloadType, bytes: Uint8Array): Payload | Refusal {
  switch (type) {
    case "text":
      return readText(bytes);
    case "binary":
      return { type, data: bytes };
  }
}

function readText(bytes: Uint8Array): Payload | Refusal {
  try {
    return { type: "text", data: strictUtf8.decode(bytes) };
  } catch {
    return refusal("bad_text", "the body of a text message must be UTF-8", "body");
  }
}
