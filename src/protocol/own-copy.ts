const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * A text with bytes of its own, for what is kept long.
 *
 * Why: a part of a string, however it was cut out, is a window on the whole in JSC; a user id of 20 characters keeps the
 *      kilobytes of the answer's head that it was cut from.
 * Cost: about 0.3 µs. Text that is not well-formed Unicode (half a surrogate pair) becomes U+FFFD.
 */
export function ownCopy(text: string): string {
  return text === "" ? "" : decoder.decode(encoder.encode(text));
}
