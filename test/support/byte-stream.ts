import type { Socket } from "node:net";
import { DEADLINE_MS, within } from "./deadline.ts";

/** How the other side ended a stream: an orderly FIN, or a reset (or another socket error). */
export type StreamEnd = "fin" | "reset";

/**
 * What arrives on a socket, to be taken in exact pieces.
 *
 * Errors: `take` and `takeThrough` reject when the stream ends before the piece is whole; `leftover` then tells what came.
 */
export class ByteStream {
  readonly ended: Promise<StreamEnd>;
  #buffer: Buffer = Buffer.alloc(0);
  #pieces: Buffer[] = [];
  #end: StreamEnd | undefined;
  #wake: (() => void) | undefined;

  constructor(socket: Socket) {
    const ended = Promise.withResolvers<StreamEnd>();
    this.ended = ended.promise;
    const finish = (end: StreamEnd): void => {
      this.#end ??= end;
      ended.resolve(this.#end);
      this.#wake?.();
    };
    socket.on("data", (piece: Buffer) => {
      this.#pieces.push(Buffer.from(piece));
      this.#wake?.();
    });
    socket.on("end", () => finish("fin"));
    socket.on("error", () => finish("reset"));
    socket.on("close", (hadError: boolean) => finish(hadError ? "reset" : "fin"));
  }

  /** What has arrived and was not taken. */
  get leftover(): Buffer {
    if (this.#pieces.length > 0) {
      this.#buffer = Buffer.concat([this.#buffer, ...this.#pieces]);
      this.#pieces = [];
    }
    return this.#buffer;
  }

  async take(byteCount: number, what: string, deadlineMs = DEADLINE_MS): Promise<Buffer> {
    await this.#until(() => this.#waiting() >= byteCount, what, deadlineMs);
    return this.#cut(byteCount);
  }

  async takeThrough(delimiter: string, what: string, deadlineMs = DEADLINE_MS): Promise<Buffer> {
    let at = -1;
    await this.#until(
      () => {
        at = this.leftover.indexOf(delimiter, 0, "latin1");
        return at >= 0;
      },
      what,
      deadlineMs,
    );
    return this.#cut(at + delimiter.length);
  }

  /** Everything up to the end of the stream. */
  async takeRest(what: string, deadlineMs = DEADLINE_MS): Promise<Buffer> {
    await within(this.ended, `the end of ${what}`, deadlineMs);
    return this.#cut(this.leftover.length);
  }

  #waiting(): number {
    let byteCount = this.#buffer.length;
    for (const piece of this.#pieces) byteCount += piece.length;
    return byteCount;
  }

  #cut(byteCount: number): Buffer {
    const bytes = this.leftover;
    this.#buffer = bytes.subarray(byteCount);
    return bytes.subarray(0, byteCount);
  }

  async #until(ready: () => boolean, what: string, deadlineMs: number): Promise<void> {
    const giveUpAtMs = Date.now() + deadlineMs;
    while (!ready()) {
      if (this.#end !== undefined) {
        const shown = this.leftover.subarray(0, 200).toString("latin1");
        throw new Error(`the stream ended (${this.#end}) before ${what}; left: ${JSON.stringify(shown)}`);
      }
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      await within(woken, what, Math.max(1, giveUpAtMs - Date.now()));
    }
  }
}
