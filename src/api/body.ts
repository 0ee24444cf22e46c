import type { Clock } from "../core/ports.ts";

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
  /** Told of bytes as they begin to be held; whoever gets the body lets them go. */
  readonly hold: (byteCount: number) => void;
}

/**
 * Reads a request's body, at most `maxBytes` of it.
 *
 * Order:  a `Content-Length` over the bound is refused before anything is read; a chunked body when it passes it.
 *         Room is asked for in between, also for an empty body: whatever is sent on waits somewhere.
 * Source: spec section 6, order of checks: 413, then 408.
 */
export async function readBody(request: Request, options: BodyOptions): Promise<BodyResult> {
  const { maxBytes } = options;
  const length = Number(request.headers.get("content-length") ?? Number.NaN);
  if (length > maxBytes) return { kind: "too-big" };
  if (!options.hasRoom()) return { kind: "no-room" };
  if (request.body === null || length === 0) return { kind: "body", bytes: new Uint8Array() };
  try {
    return length <= SMALL_BODY_BYTES
      ? await readWhole(request, length, options)
      : await readPieces(request.body, options);
  } catch {
    return { kind: "broken" };
  }
}

async function readWhole(request: Request, length: number, { clock, hold }: BodyOptions): Promise<BodyResult> {
  hold(length);
  const bytes = await orStalled(request.bytes(), clock);
  return bytes === "stalled" ? { kind: "stalled" } : { kind: "body", bytes };
}

async function readPieces(
  body: ReadableStream<Uint8Array>,
  { maxBytes, clock, hold }: BodyOptions,
): Promise<BodyResult> {
  const reader = body.getReader();
  const pieces: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const piece = await orStalled(reader.read(), clock);
    if (piece === "stalled") return { kind: "stalled" };
    if (piece.value !== undefined) {
      size += piece.value.length;
      if (size > maxBytes) return { kind: "too-big" };
      pieces.push(piece.value);
      hold(piece.value.length);
    }
    if (piece.done) return { kind: "body", bytes: Buffer.concat(pieces) };
  }
}

function orStalled<Value>(reading: Promise<Value>, clock: Clock): Promise<Value | "stalled"> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(BODY_STALL_TIMEOUT_MS, () => resolve("stalled"));
    reading.then(resolve, reject).finally(cancel);
  });
}
