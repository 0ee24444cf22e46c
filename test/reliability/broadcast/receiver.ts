import type { Socket } from "bun";
import { within } from "../../support/deadline.ts";
import { closePayload, encodeFrame, OPCODE } from "../../support/frame-codec.ts";

/** How a client reads: at once, not at all, or one read whenever it is nudged. */
export type Pace = "fast" | "mute" | "trickle";

/** The front of a broadcast message: its number and when it was sent, in fixed columns. */
const NUMBER_COLUMNS = 8;
const HEAD_COLUMNS = 32;

/** A message of a length that tells its number and the moment it was sent. Units: `performance.now()`. */
export function stamped(number: number, byteCount: number): string {
  const head =
    String(number).padStart(NUMBER_COLUMNS) +
    performance
      .now()
      .toFixed(3)
      .padStart(HEAD_COLUMNS - NUMBER_COLUMNS);
  return head.padEnd(byteCount, ".");
}

/**
 * A WebSocket client that only receives, cheap enough for a thousand in one process.
 *
 * Shape: checks that broadcast messages come in order and without a gap; keeps numbers, not messages.
 */
export class Receiver {
  readonly pace: Pace;
  /** How many messages came; the number of the last is one less where nothing is missing. */
  received = 0;
  /** The first message that was not the one expected. */
  gap: string | null = null;
  /** Of the close frame; null where none came. */
  closeCode: number | null = null;
  readonly ended: Promise<void>;
  readonly #onMessage: (latencyMs: number) => void;
  readonly #upgraded = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<void>();
  #socket: Socket | null = null;
  #isOpen = false;
  #stopsAgain: boolean;
  #rest: Buffer = Buffer.alloc(0);

  private constructor(pace: Pace, onMessage: (latencyMs: number) => void) {
    this.pace = pace;
    this.#stopsAgain = pace === "trickle";
    this.#onMessage = onMessage;
    this.ended = this.#over.promise;
  }

  /** Connects to the hub `chat` under a user id and waits for the 101; a slow one stops reading behind it. */
  static async open(
    port: number,
    { pace, user, onMessage }: { pace: Pace; user: string; onMessage: (latencyMs: number) => void },
  ): Promise<Receiver> {
    const receiver = new Receiver(pace, onMessage);
    receiver.#socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        data: (_socket, bytes) => receiver.#take(bytes),
        close: () => receiver.#over.resolve(),
        error: () => receiver.#over.resolve(),
      },
    });
    const lines = [
      `GET /ws/client/hubs/chat?user=${user} HTTP/1.1`,
      `Host: 127.0.0.1:${port}`,
      "Upgrade: websocket",
      "Connection: Upgrade",
      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
      "Sec-WebSocket-Version: 13",
    ];
    receiver.#socket.write([...lines, "", ""].join("\r\n"));
    await within(receiver.#upgraded.promise, `the 101 of ${user}`);
    if (pace !== "fast") receiver.#socket.pause();
    return receiver;
  }

  /** Reads on for good. */
  resume(): void {
    this.#stopsAgain = false;
    this.#socket?.resume();
  }

  /** Lets a trickling client read once: it stops again at the first bytes. */
  nudge(): void {
    if (this.pace === "trickle") this.#socket?.resume();
  }

  /** Says goodbye and waits for the end. */
  async leave(): Promise<void> {
    this.#socket?.end(encodeFrame({ opcode: OPCODE.close, payload: closePayload(1000) }));
    await within(this.ended, "the end of a client");
  }

  destroy(): void {
    this.#socket?.terminate();
  }

  #take(bytes: Buffer): void {
    let buffer: Buffer = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    if (!this.#isOpen) {
      const end = buffer.indexOf("\r\n\r\n");
      if (end < 0) {
        this.#rest = Buffer.from(buffer);
        return;
      }
      this.#isOpen = buffer.toString("latin1", 0, 12) === "HTTP/1.1 101";
      if (this.#isOpen) this.#upgraded.resolve();
      else this.#upgraded.reject(new Error(buffer.toString("latin1", 0, end)));
      buffer = buffer.subarray(end + 4);
    }
    this.#rest = this.#frames(buffer);
  }

  /** Takes all whole frames; returns what is left. */
  #frames(buffer: Buffer): Buffer {
    let at = 0;
    while (at + 2 <= buffer.length) {
      let length = (buffer[at + 1] ?? 0) & 0x7f;
      let headBytes = 2;
      if (length === 126 && at + 4 <= buffer.length) {
        length = buffer.readUInt16BE(at + 2);
        headBytes = 4;
      } else if (length === 127 && at + 10 <= buffer.length) {
        length = Number(buffer.readBigUInt64BE(at + 2));
        headBytes = 10;
      } else if (length >= 126) break;
      const end = at + headBytes + length;
      if (end > buffer.length) break;
      this.#frame((buffer[at] ?? 0) & 15, buffer.subarray(at + headBytes, end));
      at = end;
    }
    if (this.#stopsAgain && at > 0) this.#socket?.pause();
    return Buffer.from(buffer.subarray(at));
  }

  #frame(opcode: number, payload: Buffer): void {
    if (opcode === OPCODE.ping) this.#socket?.write(encodeFrame({ opcode: OPCODE.pong, payload }));
    if (opcode === OPCODE.close) this.closeCode = payload.length < 2 ? 1005 : payload.readUInt16BE();
    if (opcode !== OPCODE.text) return;
    const number = Number(payload.toString("latin1", 0, NUMBER_COLUMNS));
    if (number !== this.received) this.gap ??= `message ${number} where ${this.received} was due`;
    this.received++;
    this.#onMessage(performance.now() - Number(payload.toString("latin1", NUMBER_COLUMNS, HEAD_COLUMNS)));
  }
}
