import { decodeHeaderValue } from "../protocol/headers.ts";
import {
  equalsBytes,
  equalsLowerCase,
  equalsText,
  startOfValue,
  textOf,
  trimmedEnd,
  wholeNumber,
} from "./header-bytes.ts";

const NOTHING: readonly string[] = [];
/** Most content codings of one answer; of more, one more is kept, which tells that there are too many. */
export const MAX_CODINGS = 3;
/** The value for the codings of more than one line: several are refused, and need not be gathered. */
const SEVERAL: readonly string[] = ["", ""];

/**
 * The headers that decide over framing and connection, the type of the content, and the event that is answered.
 *
 * Cost: the length of a name rules out most headers; the headers of nearly every answer make no string.
 * Source: RFC 9112, sections 6 and 9; RFC 9110, section 8; PROTOCOL.md for the event's id.
 */
export class ControlHeaders {
  /** `Content-Length`; -1 if it is invalid or given twice with different values; null if it is absent. */
  length: number | null = null;
  /** Lower-cased, in their order; those of several lines are `SEVERAL`. */
  transferCodings = NOTHING;
  /** Lower-cased, in their order, over all lines; without `identity`. */
  contentCodings = NOTHING;
  saysClose = false;
  saysKeepAlive = false;
  /** The first `Content-Type`; empty if it is absent. */
  contentType = "";
  /** `timeout=` of `Keep-Alive`; null if it is absent. */
  keepAliveSeconds: number | null = null;
  /** Where the value of `X-Hubwire-Event-Id` begins in the head; -1 where there is no such line. */
  eventIdStart = -1;
  /** Behind its last byte. Two lines that differ leave an empty range, which is the id of no event. */
  eventIdEnd = -1;
  /** The first length as it was written; null where one was said, once and in plain digits. */
  #firstLength: string | null = null;
  /** The type that was last read, which is nearly always the next one too. */
  #lastType = "";

  /** Forgets all that it was told. */
  clear(): void {
    this.length = null;
    this.transferCodings = NOTHING;
    this.contentCodings = NOTHING;
    this.saysClose = false;
    this.saysKeepAlive = false;
    this.contentType = "";
    this.keepAliveSeconds = null;
    this.eventIdStart = -1;
    this.eventIdEnd = -1;
    this.#firstLength = null;
  }

  /** Whether a length that is not 0 is announced. */
  get announcesLength(): boolean {
    return this.length !== null && (this.length !== 0 || (this.#firstLength ?? "0") !== "0");
  }

  /** Takes a line whose name is from `at` to `colon` and whose value goes on to `end`. */
  take(bytes: Uint8Array, at: number, colon: number, end: number): void {
    switch (colon - at) {
      case 10:
        if (equalsLowerCase(bytes, at, colon, "connection")) this.#takeConnection(bytes, colon + 1, end);
        else if (equalsLowerCase(bytes, at, colon, "keep-alive")) this.#takeKeepAlive(bytes, colon + 1, end);
        break;
      case 12:
        if (equalsLowerCase(bytes, at, colon, "content-type")) this.#takeType(bytes, colon + 1, end);
        break;
      case 14:
        if (equalsLowerCase(bytes, at, colon, "content-length")) this.#takeLength(bytes, colon + 1, end);
        break;
      case 16:
        if (equalsLowerCase(bytes, at, colon, "content-encoding")) this.#takeEncoding(bytes, colon + 1, end);
        break;
      case 17:
        if (equalsLowerCase(bytes, at, colon, "transfer-encoding")) {
          this.transferCodings = this.transferCodings.length === 0 ? listOf(bytes, colon + 1, end) : SEVERAL;
        }
        break;
      case 18:
        if (equalsLowerCase(bytes, at, colon, "x-hubwire-event-id")) this.#takeEventId(bytes, colon + 1, end);
        break;
    }
  }

  #takeConnection(bytes: Uint8Array, at: number, end: number): void {
    const start = startOfValue(bytes, at, end);
    const last = trimmedEnd(bytes, start, end);
    if (equalsLowerCase(bytes, start, last, "keep-alive")) {
      this.saysKeepAlive = true;
      return;
    }
    const options = listOf(bytes, start, last);
    if (options.includes("close")) this.saysClose = true;
    if (options.includes("keep-alive")) this.saysKeepAlive = true;
  }

  #takeKeepAlive(bytes: Uint8Array, at: number, end: number): void {
    for (const parameter of listOf(bytes, at, end)) {
      const seconds = /(?:^|;|\s)timeout\s*=\s*"?(\d{1,9})/.exec(parameter)?.[1];
      if (seconds !== undefined) this.keepAliveSeconds ??= Number(seconds);
    }
  }

  #takeType(bytes: Uint8Array, at: number, end: number): void {
    if (this.contentType !== "") return;
    const start = startOfValue(bytes, at, end);
    const last = trimmedEnd(bytes, start, end);
    if (!equalsText(bytes, start, last, this.#lastType)) {
      this.#lastType = decodeHeaderValue(textOf(bytes, start, last));
    }
    this.contentType = this.#lastType;
  }

  #takeEventId(bytes: Uint8Array, at: number, end: number): void {
    const start = startOfValue(bytes, at, end);
    const last = trimmedEnd(bytes, start, end);
    if (this.eventIdStart === -1) {
      this.eventIdStart = start;
      this.eventIdEnd = last;
    } else if (!equalsBytes(bytes, start, last, this.eventIdStart, this.eventIdEnd)) {
      this.eventIdEnd = this.eventIdStart;
    }
  }

  #takeEncoding(bytes: Uint8Array, at: number, end: number): void {
    const codings = listOf(bytes, at, end).filter((coding) => coding !== "identity" && coding !== "");
    // The kept values are short, however many lines there are.
    if (codings.length > 0) this.contentCodings = this.contentCodings.concat(codings).slice(0, MAX_CODINGS + 1);
  }

  #takeLength(bytes: Uint8Array, at: number, end: number): void {
    const start = startOfValue(bytes, at, end);
    const last = trimmedEnd(bytes, start, end);
    const isFirst = this.length === null;
    // Said once and in plain digits, as nearly always.
    if (isFirst) this.length = wholeNumber(bytes, start, last);
    if (isFirst && this.length !== -1) return;
    this.#takeLengths(listOf(bytes, start, last), isFirst);
  }

  /** They must be the same as they are written. */
  #takeLengths(texts: readonly string[], isFirst: boolean): void {
    if (!isFirst && this.length === -1) return;
    this.#firstLength ??= isFirst ? (texts[0] ?? "") : String(this.length);
    const first = this.#firstLength;
    const length = Number(first);
    const isValid = /^[0-9]+$/.test(first) && texts.every((text) => text === first);
    this.length = isValid && Number.isSafeInteger(length) ? length : -1;
  }
}

/** The elements of a list, lower-cased. */
function listOf(bytes: Uint8Array, at: number, end: number): string[] {
  return textOf(bytes, at, end)
    .split(",")
    .map((element) => element.trim().toLowerCase());
}
