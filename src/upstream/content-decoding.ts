import type { Transform } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate, createInflateRaw } from "node:zlib";
import type { UnknownCause } from "../core/ports/upstream.ts";
import { strictText } from "../protocol/strict-text.ts";
import { MAX_CODINGS } from "./control-headers.ts";
import { type Exchange, type ExchangeCarrier, type HttpAnswer, type HttpOutcome, lostAnswer } from "./exchange.ts";

/** Bytes that a decoder gives at a time. */
const PIECE_BYTES = 65_536;

/** What a decoder takes for itself: its state, its window and a piece. */
const DECODER_BYTES = 131_072;

/** The decoded body is in pieces, and then in one as well; a decoder's window may grow with it too. */
const COPIES = 2;

const DEFLATE_METHOD = 8;

/** The decoder of each content coding, chosen by the body where it must be. Source: RFC 9110, section 8.4.1; RFC 7932. */
const DECODERS: Readonly<Record<string, (body: Uint8Array) => Transform>> = {
  gzip: () => createGunzip({ chunkSize: PIECE_BYTES }),
  "x-gzip": () => createGunzip({ chunkSize: PIECE_BYTES }),
  deflate: (body) => (hasZlibHead(body) ? createInflate : createInflateRaw)({ chunkSize: PIECE_BYTES }),
  br: () => createBrotliDecompress({ chunkSize: PIECE_BYTES }),
};

/** Where decoding takes place, and what bounds it. */
export interface DecodingRoom {
  /** Longest body after each decoding. */
  readonly maxBodyBytes: number;
  /** Told of bytes as they begin to wait; negative when they are let go. */
  readonly hold: (byteCount: number) => void;
  readonly fits: (byteCount: number) => boolean;
  /** The decoding is over, with any outcome. */
  onDecodingGone(decoding: ContentDecoding): void;
}

/**
 * Decodes the body of an answer for the exchange that it belongs to, and tells the exchange's owner.
 *
 *     start ──> a piece ──> … ──> the last ──> (the next coding) ──> ended
 *        └─────────┴───────────────┴── a fault, `drop` or `stop` ──────^
 *
 * Bounds: it ends at the first piece past `maxBodyBytes`, or for which there is no room. So a body of a few hundred bytes that would
 *         become gigabytes costs no more than one of `maxBodyBytes`.
 * Cost:   a thread of the pool does the work, a piece at a time; the event loop only takes the pieces.
 * Errors: outcomes of the exchange, with the status and headers of the answer.
 */
export class ContentDecoding implements ExchangeCarrier {
  readonly #room: DecodingRoom;
  readonly #exchange: Exchange;
  readonly #answer: HttpAnswer;
  /** Those that are left to undo: the last one first. */
  readonly #codings: string[];
  #decoder: Transform | null = null;
  #heldBytes = 0;
  #isOver = false;

  constructor(room: DecodingRoom, exchange: Exchange, answer: HttpAnswer) {
    this.#room = room;
    this.#exchange = exchange;
    this.#answer = answer;
    this.#codings = [...answer.contentCodings];
    exchange.carrier = this;
  }

  start(): void {
    const { body, contentCodings } = this.#answer;
    if (body.length === 0) {
      this.#finish(body);
    } else if (
      contentCodings.length > MAX_CODINGS ||
      !contentCodings.every((coding) => Object.hasOwn(DECODERS, coding))
    ) {
      this.#fail(
        "malformed",
        `the answer's content coding is not gzip, deflate or br, or there are more than ${MAX_CODINGS}`,
      );
    } else if (this.#hold(body.length)) {
      this.#decode(body);
    }
  }

  /** Ends it; its exchange gets no outcome. */
  drop(): HttpAnswer {
    this.#end();
    return this.#answer;
  }

  /** The answer is there. */
  linger(): boolean {
    return false;
  }

  /** Ends it, and its exchange with it. */
  stop(): void {
    this.#fail("abandoned", "the upstream client was stopped");
  }

  /** Undoes the coding that was applied last. */
  #decode(body: Uint8Array): void {
    const coding = this.#codings.pop();
    const decoder = coding === undefined ? undefined : DECODERS[coding]?.(body);
    if (decoder === undefined) {
      this.#finish(body);
      return;
    }
    if (!this.#hold(DECODER_BYTES)) return;
    this.#decoder = decoder;
    const pieces: Uint8Array[] = [];
    let length = 0;
    decoder.on("data", (piece: Uint8Array) => {
      if (this.#isOver) return;
      length += piece.length;
      const { maxBodyBytes } = this.#room;
      if (length > maxBodyBytes) {
        this.#fail("too-large", `the answer's body is longer than ${maxBodyBytes} bytes when it is decoded`);
      } else if (this.#hold(piece.length * COPIES)) {
        pieces.push(piece);
      }
    });
    decoder.on("error", () => this.#fail("malformed", "the answer's body is not what its content coding says"));
    decoder.on("end", () => {
      if (!this.#isOver) this.#decode(Buffer.concat(pieces, length));
    });
    decoder.end(body);
  }

  /** Counts bytes; where there is no room for them, the decoding ends. */
  #hold(byteCount: number): boolean {
    if (!this.#room.fits(byteCount)) {
      this.#fail("too-large", "no room for the answer: limits.maxBufferedBytes is in use");
      return false;
    }
    this.#heldBytes += byteCount;
    this.#room.hold(byteCount);
    return true;
  }

  #finish(body: Uint8Array): void {
    const { status, headers, contentType } = this.#answer;
    this.#tell({ kind: "answer", status, headers, contentType, contentCodings: [], body, text: strictText(body) });
  }

  #fail(cause: UnknownCause, detail: string): void {
    this.#tell(lostAnswer(cause, this.#answer, detail));
  }

  #tell(outcome: HttpOutcome): void {
    if (this.#isOver) return;
    this.#end();
    this.#exchange.carrier = null;
    this.#exchange.owner.onExchangeEnd(outcome);
  }

  #end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#decoder?.destroy();
    this.#room.hold(-this.#heldBytes);
    this.#room.onDecodingGone(this);
  }
}

/** Whether it begins as RFC 1950 says: some servers send bare deflate data under that name. */
function hasZlibHead([first = 0, second = 0]: Uint8Array): boolean {
  return (first & 0x0f) === DEFLATE_METHOD && ((first << 8) | second) % 31 === 0;
}
