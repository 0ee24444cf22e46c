const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Up to so many bytes are looked through by hand: nearly all are ASCII, for which the decoder is slower. */
const SHORT_BYTES = 512;

/** Reads bytes from `start` to `end` as UTF-8, a byte order mark as the character it is. Null where they are not UTF-8. */
export function strictText(bytes: Uint8Array, start = 0, end = bytes.length): string | null {
  if (Buffer.isBuffer(bytes) && end - start <= SHORT_BYTES && isAscii(bytes, start, end)) {
    return bytes.toString("latin1", start, end);
  }
  try {
    return strictUtf8.decode(bytes.subarray(start, end));
  } catch {
    return null;
  }
}

function isAscii(bytes: Uint8Array, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if ((bytes[i] ?? 0) > 0x7f) return false;
  return true;
}
