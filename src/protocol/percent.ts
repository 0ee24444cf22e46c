const utf8 = new TextEncoder();

/** Characters that would break a header line, or a consumer that splits the list at `,` and each pair at `: `; spaces at the ends aside. */
const UNSAFE_IN_LIST = /[,%\u0000-\u001f\u007f-\u{10ffff}]|:(?= )/gu;

const SPACE = 0x20;

/** `%XX` of each byte. */
const ESCAPES: readonly string[] = Array.from(
  { length: 256 },
  (_empty, byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`,
);

/**
 * Percent-encodes a text so that it can be a part of a header that consumers split at `,` and `: `.
 *
 * Shape:  `,`, `%`, a colon before a space, control characters and non-ASCII become `%XX` of their UTF-8 bytes; so do
 *         spaces at either end, which header parsers would trim away. Everything else stays.
 * Source: PROTOCOL.md, "Calling the upstream", `X-ASRS-User-Claims` and `X-Hubwire-Close-Reason`.
 */
export function percentEncodeForHeader(text: string): string {
  let [start, end] = [0, text.length];
  while (start < end && text.charCodeAt(start) === SPACE) start++;
  while (end > start && text.charCodeAt(end - 1) === SPACE) end--;
  if (end - start === text.length) return text.replace(UNSAFE_IN_LIST, percentEncodeBytes);
  // One space of the end is looked at too: a colon in front of it is encoded.
  const inner = text.slice(start, end + 1).replace(UNSAFE_IN_LIST, percentEncodeBytes);
  const spaceCount = text.length - end;
  return "%20".repeat(start) + (spaceCount > 0 ? inner.slice(0, -1) : inner) + "%20".repeat(spaceCount);
}

/** `%XX` for every UTF-8 byte of a text. */
export function percentEncodeBytes(text: string): string {
  const code = text.charCodeAt(0);
  // A single character of ASCII is what callers mostly replace.
  if (text.length === 1 && code < 0x80) return ESCAPES[code] ?? "";
  let encoded = "";
  for (const byte of utf8.encode(text)) encoded += ESCAPES[byte];
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
