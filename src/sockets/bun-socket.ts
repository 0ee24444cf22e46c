import type { ServerWebSocket } from "bun";
import type { Connection } from "../core/connection.ts";
import type { ClientSocket, Frame } from "../core/ports.ts";

/** A ping needs a payload: without one Bun's return value cannot tell success from a drop. */
const PING_PAYLOAD = "hubwire";

/** What hangs on every Bun WebSocket. */
export interface SocketData {
  readonly connection: Connection;
  /** The connect answer's body; taken when the socket opens. */
  firstFrame: Frame | null;
}

/**
 * The core's `ClientSocket` over Bun's WebSocket.
 *
 * Order:  Bun runs its close handler inside `close` and `terminate`, so the core's `closed` may run before they return.
 */
export class BunSocket implements ClientSocket {
  readonly #ws: ServerWebSocket<SocketData>;
  readonly #maxOutboxBytes: number;

  constructor(ws: ServerWebSocket<SocketData>, maxOutboxBytes: number) {
    this.#ws = ws;
    this.#maxOutboxBytes = maxOutboxBytes;
  }

  send(frame: Frame): "sent" | "full" {
    const waiting = this.#ws.getBufferedAmount();
    if (waiting > 0 && waiting + Buffer.byteLength(frame) > this.#maxOutboxBytes) return "full";
    if (typeof frame === "string") this.#ws.sendText(frame);
    else this.#ws.sendBinary(frame as Uint8Array<ArrayBuffer>);
    return "sent";
  }

  ping(): void {
    this.#ws.ping(PING_PAYLOAD);
  }

  pause(): void {
    this.#ws.pause();
  }

  resume(): void {
    this.#ws.resume();
  }

  close(code: number, reason: string): void {
    this.#ws.close(code, reason);
  }

  terminate(): void {
    this.#ws.terminate();
  }
}
