import type { HeaderLine, HeaderLines } from "../protocol/headers.ts";
import { strictText } from "../protocol/strict-text.ts";
import { copyOf, NO_BYTES } from "./byte-gatherer.ts";
import type { ControlHeaders } from "./control-headers.ts";
import type { HttpAnswer } from "./exchange.ts";
import { lineEndAt, parseHeaderLine } from "./header-bytes.ts";

/** How the end of an answer's body is found: after so many bytes, by chunks, or at the end of the connection. */
export type BodyFraming = number | "chunked" | "until-close";

/** The bytes of header lines that have been judged. */
export interface HeadBytes {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/**
 * One answer: its head with what decides over body and connection worked out, and its body, once it is whole.
 *
 * Cost: headers, body and text are made when they are asked for; until then what arrived stays alive.
 */
export class Answer implements HttpAnswer {
  readonly kind = "answer";
  readonly status: number;
  /** The first `Content-Type`; empty without such a header. */
  readonly contentType: string;
  readonly contentCodings: readonly string[];
  readonly framing: BodyFraming;
  /** Whether the connection may carry another request after the body. */
  readonly persistent: boolean;
  /** `Keep-Alive: timeout=`; null where the server names none. */
  readonly keepAliveSeconds: number | null;
  readonly #head: Uint8Array;
  readonly #headStart: number;
  readonly #headEnd: number;
  #body: Uint8Array = NO_BYTES;
  #bodyStart = 0;
  #bodyEnd = 0;

  constructor(status: number, framing: BodyFraming, persistent: boolean, control: ControlHeaders, head: HeadBytes) {
    this.status = status;
    this.framing = framing;
    this.persistent = persistent;
    this.contentType = control.contentType;
    this.contentCodings = control.contentCodings;
    this.keepAliveSeconds = control.keepAliveSeconds;
    this.#head = head.bytes;
    this.#headStart = head.start;
    this.#headEnd = head.end;
  }

  get headers(): HeaderLines {
    const lines: HeaderLine[] = [];
    for (let at = this.#headStart; at < this.#headEnd; ) {
      const end = lineEndAt(this.#head, at, this.#headEnd);
      const line = parseHeaderLine(this.#head, at, end);
      if (line !== null) lines.push(line);
      at = end + 2;
    }
    return lines;
  }

  /** The body has all come: these are its bytes. */
  end(body: Uint8Array, start = 0, end = body.length): void {
    this.#body = body;
    this.#bodyStart = start;
    this.#bodyEnd = end;
  }

  get body(): Uint8Array {
    return copyOf(this.#body, this.#bodyStart, this.#bodyEnd);
  }

  get text(): string | null {
    return strictText(this.#body, this.#bodyStart, this.#bodyEnd);
  }
}
