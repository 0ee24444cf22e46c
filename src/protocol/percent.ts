const utf8 = new TextEncoder();

/** What would break a header line, or a consumer that splits the list at `,` and each pair at `: `. */
const UNSAFE_IN_LIST = /[,%\u0000-\u001f\u007f-\u{10ffff}]|:(?= )|^ +| +$/gu;

/**
 * Percent-encodes a text so that it can stand as a part of a header that consumers split at `,` and `: `.
 *
 * Shape:  `,`, `%`, a colon before a space, control characters and non-ASCII become `%XX` of their UTF-8 bytes; so do
 *         spaces at either end, which header parsers would trim away. Everything else stays.
 * Source: spec section 5, `X-ASRS-User-Claims` and `X-Hubwire-Close-Reason`.
 */
export function percentEncodeForHeader(text: string): string {
  return text.replace(UNSAFE_IN_LIST, percentEncodeBytes);
}

/** `%XX` for every UTF-8 byte of a text. */
export function percentEncodeBytes(text: string): string {
  let encoded = "";
  for (const byte of utf8.encode(text)) encoded += `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  return encoded;
}

/** Decodes `%XX` as UTF-8. Null where an escape is malformed or the bytes are not UTF-8. */
export function percentDecode(text: string): string | null {
  // Most parts of a path hold no escape, and the decoder costs as much for them as for others.
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
