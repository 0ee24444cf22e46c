import type { ServerWebSocket } from "bun";
import type { Connection } from "../core/connection.ts";
import type { Meters } from "../core/meters.ts";
import type { ClientSocket, Traffic } from "../core/ports/client-socket.ts";
import type { Frame } from "../protocol/client-protocol.ts";
import type { Payload } from "../protocol/payload.ts";
import type { TcpInfo } from "./tcp-info.ts";
import type { FrameSink, TurnWrites } from "./turn-writes.ts";

/** A ping needs a payload: without one Bun's return value cannot tell success from a drop. */
const PING_PAYLOAD = "hubwire";

/** How long a close frame may wait behind what the client does not read. Source: PROTOCOL.md, "Closing". */
const CLOSE_TIMEOUT_MS = 2000;

/** The share of its bound by which kept frames may put an outbox past it. Bun has room for more (`backpressureLimit`). */
const KEPT_SHARE = 0.25;

export interface BunSocketOptions {
  readonly maxOutboxBytes: number;
  /** Whether messages go out compressed to clients that offered it. */
  readonly compression: boolean;
}

/** What all sockets of a listener share. */
export interface SharedBySockets {
  /** May change while sockets are open. */
  readonly options: BunSocketOptions;
  readonly writes: TurnWrites;
  /** Whether the listener speaks TLS. */
  readonly isEncrypted: boolean;
  /** Null where the system does not tell. */
  readonly tcpInfo: TcpInfo | null;
  /** The port that the listener is bound to. */
  readonly localPort: () => number;
  readonly meters: Meters;
}

/**
 * The core's `ClientSocket` over Bun's WebSocket, and what hangs on that: one object for both, since every client has one.
 *
 *     made for the handshake ─▶ opened ─▶ closed
 *
 * Order:  Bun runs its close handler inside `close` and `terminate`, so the core's `closed` may run before they return.
 */
export class BunSocket implements ClientSocket, FrameSink {
  readonly connection: Connection;
  /** The client's port. */
  readonly #port: number;
  /** The client's first message, from the connect answer; null once the socket has opened. */
  #first: Payload | null;
  /** Set when it opens; only the core uses it, and only from then on. */
  #ws!: ServerWebSocket<BunSocket>;
  #shared!: SharedBySockets;
  /** A close that waits for its turn behind what the client has not read. */
  #closing: { readonly code: number; readonly reason: string; readonly cut: Timer } | null = null;

  constructor(connection: Connection, first: Payload | null, port: number) {
    this.connection = connection;
    this.#port = port;
    this.#first = first;
  }

  /** The handshake is done. Returns what goes out first. */
  opened(ws: ServerWebSocket<BunSocket>, shared: SharedBySockets): Payload | null {
    this.#ws = ws;
    this.#shared = shared;
    const first = this.#first;
    this.#first = null;
    return first;
  }

  send(frame: Frame): "sent" | "full" {
    this.#shared.writes.flush();
    if (this.#isFull(frame)) return "full";
    this.write(frame);
    return "sent";
  }

  sendSoon(frame: Frame): "sent" | "full" {
    if (this.#isFull(frame)) return "full";
    const { writes, options } = this.#shared;
    // It is not known yet whether kept frames will have to wait.
    if (writes.add(this, frame, options.maxOutboxBytes * KEPT_SHARE)) return "sent";
    return this.send(frame);
  }

  write(frame: Frame): void {
    // No frame may come between the waiting ones and the close frame.
    if (this.#closing !== null) return;
    const { options, meters } = this.#shared;
    const { compression } = options;
    meters.sent(frame.length, 1);
    if (typeof frame === "string") this.#ws.sendText(frame, compression);
    else this.#ws.sendBinary(frame as Uint8Array<ArrayBuffer>, compression);
  }

  #isFull(frame: Frame): boolean {
    if (this.#closing !== null) return false;
    const waiting = this.#ws.getBufferedAmount();
    return waiting > 0 && waiting + Buffer.byteLength(frame) > this.#shared.options.maxOutboxBytes;
  }

  subscribe(topic: string): void {
    if (this.#closing === null) this.#ws.subscribe(topic);
  }

  unsubscribe(topic: string): void {
    this.#ws.unsubscribe(topic);
  }

  get waitingBytes(): number {
    return this.#ws.getBufferedAmount();
  }

  get isCompressed(): boolean {
    return this.#shared.options.compression;
  }

  get isEncrypted(): boolean {
    return this.#shared.isEncrypted;
  }

  readTraffic(): Traffic | null {
    const { tcpInfo, localPort } = this.#shared;
    // Bun asks the kernel for the address, and a connection that was reset a moment ago has none.
    const address: string | undefined = this.#ws.remoteAddress;
    if (tcpInfo === null || address === undefined) return null;
    const descriptor = tcpInfo.find(this, { address, port: this.#port, localPort: localPort() });
    return descriptor === null ? null : tcpInfo.read(descriptor);
  }

  ping(): void {
    if (this.#closing === null) this.#ws.ping(PING_PAYLOAD);
  }

  pause(): void {
    if (this.#closing === null) this.#ws.pause();
  }

  resume(): void {
    this.#ws.resume();
  }

  close(code: number, reason: string): void {
    if (this.#closing !== null) return;
    this.#shared.writes.flush();
    if (this.#ws.getBufferedAmount() === 0) {
      this.#ws.close(code, reason);
      return;
    }
    // A fan-out does not ask: it would go on behind the backlog, and the backlog might never end.
    for (const topic of this.#ws.subscriptions) this.#ws.unsubscribe(topic);
    // Frames that the client still sends, control frames above all, would make the backlog grow.
    this.#ws.pause();
    // Once closed, Bun keeps a socket with a backlog for 16 s, and it cannot be cut. So the close waits for the backlog.
    this.#closing = { code, reason, cut: setTimeout(() => this.#ws.terminate(), CLOSE_TIMEOUT_MS) };
  }

  /** Bun has written some of what waited. */
  drained(): void {
    if (this.#closing === null || this.#ws.getBufferedAmount() > 0) return;
    const { code, reason } = this.#closing;
    this.#ws.close(code, reason);
  }

  /** The socket has closed. */
  closed(): void {
    if (this.#closing !== null) clearTimeout(this.#closing.cut);
    this.#closing = null;
  }

  terminate(): void {
    this.#ws.terminate();
  }
}
