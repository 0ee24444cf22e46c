import type { Answer } from "./answer.ts";
import { ByteGatherer, NO_BYTES } from "./byte-gatherer.ts";
import { ControlHeaders } from "./control-headers.ts";
import type { SeenHead } from "./exchange.ts";
import { asBuffer, parseHeaderLine, textOf } from "./header-bytes.ts";
import { MAX_HEAD_BYTES, MAX_HEADER_LINES, parseResponseHead, parseStatus } from "./response-head.ts";

const CR = 0x0d;
const LF = 0x0a;
const HEAD_END_BYTES = 4;
const HEAD_START = Buffer.from("HTTP/1.");
/** Longest line that announces a chunk, with its extensions and CRLF. */
export const MAX_CHUNK_LINE_BYTES = 4096;
const CHUNK_LINE = /^([0-9A-Fa-f]+)[ \t]*(?:;[^\u0000-\u0008\u000a-\u001f\u007f]*)?$/;

type Part = "head" | "body" | "until-close" | "chunk-line" | "chunk-data" | "chunk-end" | "trailers" | "ended";

/** The request that an answer is awaited to. */
export interface AskedRequest {
  /** Whether this is the id of the event that was posted. */
  isEventId(bytes: Uint8Array, start: number, end: number): boolean;
}

/** Why there will be no answer. `detail` quotes nothing of it. */
export interface ParsedFault {
  readonly kind: "fault";
  readonly cause: "malformed" | "too-large" | "reset";
  readonly detail: string;
}

/**
 * Reads one answer from the bytes of a connection, cut wherever they were cut.
 *
 *   head ─┬─ (1xx but 101: skipped) ─> head
 *         ├─ body ────────────────────────────────────────┐
 *         ├─ until-close ─────────────────────────────────┤
 *         └─ chunk-line ─> chunk-data ─> chunk-end ─┐     ├─> ended
 *                ^  └─ (size 0) ─> trailers ────────│─────┘
 *                └──────────────────────────────────┘
 *
 * Order:  bytes are judged strictly one after the other, so how they were cut never changes the result.
 * Source: RFC 9112, sections 4 to 7. Lines end with CRLF only.
 */
export class ResponseParser {
  #maxBodyBytes: number;
  #asked: AskedRequest | null = null;
  readonly #gathered = new ByteGatherer();
  readonly #body = new ByteGatherer();
  readonly #control = new ControlHeaders();
  #part: Part = "head";
  #head: Answer | null = null;
  #remaining = 0;
  #headBytes = 0;
  #trailerLines = 0;
  #result: Answer | ParsedFault | null = null;
  #surplus = false;
  /** The status of a final answer whose head is broken behind its status line. */
  #brokenHeadStatus: number | null = null;

  constructor(maxBodyBytes: number) {
    this.#maxBodyBytes = maxBodyBytes;
  }

  /** Forgets the last answer and reads another one: a connection has one parser for all of its answers. */
  begin(maxBodyBytes: number, asked: AskedRequest | null = null): void {
    this.#maxBodyBytes = maxBodyBytes;
    this.#asked = asked;
    this.#gathered.clear();
    this.#body.clear();
    this.#part = "head";
    this.#head = null;
    this.#remaining = 0;
    this.#headBytes = 0;
    this.#trailerLines = 0;
    this.#result = null;
    this.#surplus = false;
    this.#brokenHeadStatus = null;
  }

  /** The answer or what is wrong with it; null while more bytes are needed. */
  get result(): Answer | ParsedFault | null {
    return this.#result;
  }

  /** Whether the connection may carry another request. Means something once `result` is an answer. */
  get persistent(): boolean {
    return this.#head?.persistent === true && !this.#surplus;
  }

  get keepAliveSeconds(): number | null {
    return this.#head?.keepAliveSeconds ?? null;
  }

  /** The final status, as soon as its whole line has been seen, even if what follows is broken. */
  get status(): number | null {
    if (this.#head !== null) return this.#head.status;
    return this.#brokenHeadStatus ?? finalStatus(this.#gathered.view, 0, this.#gathered.length, true);
  }

  /** The status with the header lines of a whole head; null where not even the status has been seen. */
  get seen(): SeenHead | null {
    if (this.#head !== null) return this.#head;
    const { status } = this;
    return status === null ? null : { status, headers: [] };
  }

  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length && this.#part !== "ended") at = this.#step(chunk, at);
    if (at < chunk.length) this.#surplus = true;
  }

  /** Says that the connection was closed in order, which is how some answers end. */
  end(): void {
    if (this.#part === "ended") return;
    if (this.#part === "until-close") this.#finish(this.#body.take());
    else this.#fail("reset", "the connection was closed before the answer was whole");
  }

  /** Consumes some bytes of a chunk, from `at` on; returns the place of the first one that it left. */
  #step(chunk: Uint8Array, at: number): number {
    switch (this.#part) {
      case "head":
        return this.#readHead(chunk, at);
      case "body":
      case "chunk-data":
        return this.#readCounted(chunk, at);
      case "until-close":
        return this.#readUntilClose(chunk, at);
      case "chunk-end":
        return this.#readLine(chunk, at, 2);
      case "chunk-line":
        return this.#readLine(chunk, at, MAX_CHUNK_LINE_BYTES);
      case "trailers":
        return this.#readLine(chunk, at, MAX_HEAD_BYTES - this.#headBytes);
      case "ended":
        return chunk.length;
    }
  }

  #readHead(chunk: Uint8Array, at: number): number {
    const gatheredBefore = this.#gathered.length;
    let [bytes, start] = [chunk, at];
    if (gatheredBefore > 0) {
      this.#gathered.append(at === 0 ? chunk : chunk.subarray(at));
      [bytes, start] = [this.#gathered.view, 0];
    }
    const end = headEnd(bytes, Math.max(start, start + gatheredBefore - HEAD_END_BYTES + 1));
    if (end === -1) {
      this.#keepPartialHead(asBuffer(start === 0 ? bytes : bytes.subarray(start)), gatheredBefore);
      return chunk.length;
    }
    this.#gathered.take();
    this.#takeHead(bytes, start, end);
    return at + end - start + HEAD_END_BYTES - gatheredBefore;
  }

  /** Garbage is refused at once: waiting for the end of a head that never comes would look like a slow backend. */
  #keepPartialHead(head: Buffer, gatheredBefore: number): void {
    if (gatheredBefore === 0) this.#gathered.append(head);
    const comparable = Math.min(head.length, HEAD_START.length);
    if (head.compare(HEAD_START, 0, comparable, 0, comparable) !== 0) {
      this.#fail("malformed", "the answer begins with no HTTP/1 status line");
    } else if (this.#headBytes + head.length > MAX_HEAD_BYTES) {
      this.#fail("malformed", "the answer's head is too long");
    } else if (hasBareLineFeed(head, gatheredBefore)) {
      this.#fail("malformed", "the answer's head holds a line that ends without CRLF");
    }
  }

  #takeHead(bytes: Uint8Array, start: number, end: number): void {
    this.#headBytes += end - start + HEAD_END_BYTES;
    const head =
      this.#headBytes > MAX_HEAD_BYTES
        ? { fault: "the answer's head is too long" }
        : parseResponseHead(bytes, start, end, this.#control);
    if ("fault" in head) {
      const status = finalStatus(bytes, start, end);
      this.#brokenHeadStatus = status;
      this.#fail("malformed", head.fault);
    } else if (this.#isForAnother(bytes)) {
      // Its status is not kept: it says nothing of the event that was posted.
      this.#fail("malformed", "the answer's X-Hubwire-Event-Id is that of another event");
    } else if (isFinal(head.status)) {
      this.#head = head;
      // Not kept longer: a message's bytes hang on it, and the connection may be idle for long.
      this.#asked = null;
      this.#beginBody(head);
    }
  }

  /** Whether the head that was just read says that it answers another event. */
  #isForAnother(bytes: Uint8Array): boolean {
    const { eventIdStart, eventIdEnd } = this.#control;
    return eventIdStart !== -1 && this.#asked?.isEventId(bytes, eventIdStart, eventIdEnd) === false;
  }

  #beginBody(head: Answer): void {
    if (head.framing === "chunked") {
      this.#part = "chunk-line";
    } else if (head.framing === "until-close") {
      this.#part = "until-close";
    } else if (head.framing === 0) {
      this.#finish(NO_BYTES);
    } else if (head.framing > this.#maxBodyBytes) {
      this.#failTooLarge();
    } else {
      this.#remaining = head.framing;
      this.#part = "body";
    }
  }

  #readCounted(chunk: Uint8Array, at: number): number {
    const end = Math.min(chunk.length, at + this.#remaining);
    this.#remaining -= end - at;
    // Where the body came in one piece it is not copied.
    if (this.#part === "body" && this.#remaining === 0 && this.#body.length === 0) {
      this.#finish(chunk, at, end);
      return end;
    }
    this.#body.append(chunk.subarray(at, end), this.#part === "body" ? this.#remaining : 0);
    if (this.#remaining === 0) {
      if (this.#part === "body") this.#finish(this.#body.take());
      else this.#part = "chunk-end";
    }
    return end;
  }

  #readUntilClose(chunk: Uint8Array, at: number): number {
    const piece = chunk.subarray(at);
    if (this.#body.length + piece.length > this.#maxBodyBytes) this.#failTooLarge();
    else this.#body.append(piece);
    return chunk.length;
  }

  /** Reads to the next line feed; a longer line than `maxBytes`, or one without CR, is a fault. */
  #readLine(chunk: Uint8Array, at: number, maxBytes: number): number {
    const lineFeed = chunk.indexOf(LF, at);
    const end = lineFeed === -1 ? chunk.length : lineFeed + 1;
    this.#gathered.append(chunk.subarray(at, end));
    if (this.#gathered.length > maxBytes) {
      this.#fail("malformed", "the answer's chunks are framed wrongly");
    } else if (lineFeed !== -1) {
      const line = this.#gathered.take();
      this.#takeLine(line);
    }
    return end;
  }

  #takeLine(line: Uint8Array): void {
    if (line.at(-2) !== CR) {
      this.#fail("malformed", "the answer's chunks are framed wrongly");
    } else if (this.#part === "trailers") {
      this.#takeTrailer(line);
    } else if (this.#part === "chunk-line") {
      this.#takeChunkLine(textOf(line, 0, line.length - 2));
    } else if (line.length === 2) {
      this.#part = "chunk-line";
    } else {
      this.#fail("malformed", "the answer's chunks are framed wrongly");
    }
  }

  #takeChunkLine(text: string): void {
    const digits = CHUNK_LINE.exec(text)?.[1];
    if (digits === undefined) {
      this.#fail("malformed", "the answer's chunks are framed wrongly");
      return;
    }
    this.#remaining = Number.parseInt(digits, 16);
    if (this.#remaining === 0) this.#part = "trailers";
    else if (this.#body.length + this.#remaining > this.#maxBodyBytes) this.#failTooLarge();
    else this.#part = "chunk-data";
  }

  /** Trailers are read past and dropped: they may not hold anything that the gateway heeds. */
  #takeTrailer(line: Uint8Array): void {
    this.#headBytes += line.length;
    this.#trailerLines++;
    if (line.length === 2) {
      this.#finish(this.#body.take());
    } else if (this.#trailerLines > MAX_HEADER_LINES || parseHeaderLine(line, 0, line.length - 2) === null) {
      this.#fail("malformed", "the answer's trailers are malformed");
    }
  }

  #finish(body: Uint8Array, start = 0, end = body.length): void {
    const head = this.#head;
    if (head === null) throw new Error("an answer cannot end before its head");
    this.#part = "ended";
    head.end(body, start, end);
    this.#result = head;
  }

  #failTooLarge(): void {
    this.#fail("too-large", `the answer's body is longer than ${this.#maxBodyBytes} bytes`);
  }

  #fail(cause: ParsedFault["cause"], detail: string): void {
    this.#part = "ended";
    this.#result = { kind: "fault", cause, detail };
  }
}

function isFinal(status: number): boolean {
  return status >= 200 || status === 101;
}

/** Where the empty line that ends a head begins, with the CRLF before it; -1 where it has not come. */
function headEnd(bytes: Uint8Array, from: number): number {
  for (let i = from; i + HEAD_END_BYTES <= bytes.length; ) {
    const last = bytes[i + 3];
    // From what the last of four bytes is follows how far the end is away at least.
    if (last !== LF && last !== CR) i += 4;
    else if (last === CR) i += 1;
    else if (bytes[i] === CR && bytes[i + 1] === LF && bytes[i + 2] === CR) return i;
    else i += 2;
  }
  return -1;
}

/** The status of a head, if its first line has all come and is that of a final answer. */
function finalStatus(bytes: Uint8Array, start: number, end: number, isPartial = false): number | null {
  let lineEnd = start;
  while (lineEnd < end && (bytes[lineEnd] !== CR || bytes[lineEnd + 1] !== LF)) lineEnd++;
  if (isPartial && lineEnd + 1 >= end) return null;
  const status = parseStatus(bytes, start, lineEnd);
  return status !== null && isFinal(status) ? status : null;
}

function hasBareLineFeed(head: Buffer, from: number): boolean {
  for (let at = head.indexOf(LF, from); at !== -1; at = head.indexOf(LF, at + 1)) {
    if (head[at - 1] !== CR) return true;
  }
  return false;
}
