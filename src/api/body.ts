import type { Clock } from "../core/ports/clock.ts";

/** A body of which nothing comes for this long is given up. */
export const BODY_STALL_TIMEOUT_MS = 10_000;

/** A body up to this size, by its `Content-Length`, is read in one go and must be whole within the stall's time. */
const SMALL_BODY_BYTES = 16_384;

export type BodyResult =
  | { readonly kind: "body"; readonly bytes: Uint8Array }
  | { readonly kind: "too-big" }
  /** Nothing was read. */
  | { readonly kind: "no-room" }
  | { readonly kind: "stalled" }
  /** The caller has gone, or broke the rules of HTTP. */
  | { readonly kind: "broken" };

export interface BodyOptions {
  readonly maxBytes: number;
  readonly clock: Clock;
  /** Asked once, before anything is read. */
  readonly hasRoom: () => boolean;
  /** Told of bytes as they begin to be held; the receiver of the body releases them. */
  readonly hold: (byteCount: number) => void;
  /** Called when a body has to be waited for; what it returns is called when that is over. */
  readonly holdOpen?: () => () => void;
}

/** A small body that is being read, until it has come, has failed or has stalled. */
class Reading {
  readonly #options: BodyOptions;
  readonly #resolve: (result: BodyResult) => void;
  #isOver = false;
  #endWait: (() => void) | null = null;

  constructor(options: BodyOptions, resolve: (result: BodyResult) => void) {
    this.#options = options;
    this.#resolve = resolve;
  }

  /** It has not come with its head: from here on it has a deadline. */
  wait(): void {
    if (this.#isOver) return;
    const { clock, holdOpen } = this.#options;
    const restore = holdOpen?.();
    const cancel = clock.after(BODY_STALL_TIMEOUT_MS, () => this.end(STALLED));
    this.#endWait = () => {
      cancel();
      restore?.();
    };
  }

  end(result: BodyResult): void {
    this.#isOver = true;
    this.#endWait?.();
    this.#resolve(result);
  }
}

/**
 * The small bodies of which it is not yet known whether they come with their heads, as almost all do.
 *
 * They get their deadlines at the end of the turn, those that are still on their way: a timer for each body would cost
 * more than the reading.
 */
export class EarlyBodies {
  #readings: Reading[] = [];

  add(reading: Reading): void {
    this.#readings.push(reading);
    if (this.#readings.length === 1) setImmediate(() => this.#endTurn());
  }

  #endTurn(): void {
    const readings = this.#readings;
    this.#readings = [];
    for (const reading of readings) reading.wait();
  }
}

/**
 * Reads a request's body, at most `maxBytes` of it.
 *
 * Order:  a `Content-Length` over the bound is refused before anything is read; a chunked body when it passes it.
 *         Room is asked for in between, also for an empty body, since every message that is sent on waits somewhere.
 * Source: PROTOCOL.md, "REST API", order of checks: 413, then 408.
 */
export async function readBody(
  request: Request,
  options: BodyOptions,
  early: EarlyBodies = new EarlyBodies(),
): Promise<BodyResult> {
  const { maxBytes } = options;
  const length = Number(request.headers.get("content-length") ?? Number.NaN);
  if (length > maxBytes) return { kind: "too-big" };
  if (!options.hasRoom()) return { kind: "no-room" };
  if (length === 0) return { kind: "body", bytes: new Uint8Array() };
  // Not to be asked for its stream, which would have to be made.
  if (length <= SMALL_BODY_BYTES) return readWhole(request, length, options, early);
  return request.body === null
    ? { kind: "body", bytes: new Uint8Array() }
    : await readPieces(request.body, options).catch(() => BROKEN);
}

const BROKEN = { kind: "broken" } as const;
const STALLED = { kind: "stalled" } as const;

function readWhole(request: Request, length: number, options: BodyOptions, early: EarlyBodies): Promise<BodyResult> {
  options.hold(length);
  return new Promise((resolve) => {
    const reading = new Reading(options, resolve);
    early.add(reading);
    request.bytes().then(
      (bytes) => reading.end({ kind: "body", bytes }),
      () => reading.end(BROKEN),
    );
  });
}

async function readPieces(
  body: ReadableStream<Uint8Array>,
  { maxBytes, clock, hold, holdOpen }: BodyOptions,
): Promise<BodyResult> {
  const restore = holdOpen?.();
  try {
    const reader = body.getReader();
    const pieces: Uint8Array[] = [];
    let size = 0;
    for (;;) {
      const piece = await orStalled(reader.read(), clock);
      if (piece === "stalled") return STALLED;
      if (piece.value !== undefined) {
        size += piece.value.length;
        if (size > maxBytes) return { kind: "too-big" };
        pieces.push(piece.value);
        hold(piece.value.length);
      }
      if (piece.done) return { kind: "body", bytes: Buffer.concat(pieces) };
    }
  } finally {
    restore?.();
  }
}

function orStalled<Value>(reading: Promise<Value>, clock: Clock): Promise<Value | "stalled"> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(BODY_STALL_TIMEOUT_MS, () => resolve("stalled"));
    reading.then(resolve, reject).finally(cancel);
  });
}
