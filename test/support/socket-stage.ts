import type { Server, ServerWebSocket } from "bun";
import { Connection } from "../../src/core/connection.ts";
import { Meters } from "../../src/core/meters.ts";
import { BunSocket, type BunSocketOptions } from "../../src/sockets/bun-socket.ts";
import { TcpInfo } from "../../src/sockets/tcp-info.ts";
import { TurnWrites } from "../../src/sockets/turn-writes.ts";
import { someFacts } from "./core-stage.ts";
import { OPCODE } from "./frame-codec.ts";
import { RawWebSocket } from "./raw-websocket.ts";

export const MAX_OUTBOX_BYTES = 8_000_000;
export const MESSAGE_BYTES = 65_536;
/** More than the kernel takes over from a socket whose peer does not read, and less than the outbox holds. */
const BACKLOG_MESSAGES = 110;
export const BACKLOG_BYTES = BACKLOG_MESSAGES * MESSAGE_BYTES;

export interface Ended {
  readonly code: number;
  readonly reason: string;
  readonly atMs: number;
}

interface Opened {
  readonly socket: BunSocket;
  readonly ended: Promise<Ended>;
}

/** One client of a Bun server, and the socket under test at the server's end. */
export class SocketPeer {
  readonly client: RawWebSocket;
  readonly socket: BunSocket;
  readonly ended: Promise<Ended>;

  constructor(client: RawWebSocket, { socket, ended }: Opened) {
    this.client = client;
    this.socket = socket;
    this.ended = ended;
  }

  /** The client stops reading, and more is sent than the kernel takes: the rest waits. */
  fill(): void {
    this.client.pauseReading();
    for (let count = 0; count < BACKLOG_MESSAGES; count++) this.socket.send(new Uint8Array(MESSAGE_BYTES));
  }

  /** All messages up to the close frame. */
  async rest(): Promise<{ byteCount: number; texts: string[]; close: string }> {
    const texts: string[] = [];
    let byteCount = 0;
    for (;;) {
      const { opcode, payload } = await this.client.frame();
      if (opcode === OPCODE.close) {
        return { byteCount, texts, close: `${payload.readUInt16BE()} ${payload.subarray(2).toString("utf8")}` };
      }
      if (opcode === OPCODE.text) texts.push(payload.toString("utf8"));
      else if (opcode === OPCODE.binary) byteCount += payload.length;
      else throw new Error(`a frame of opcode ${opcode}`);
    }
  }
}

/** A Bun server whose WebSockets are `BunSocket`s, and its clients. */
export class SocketStage {
  readonly server: Server<BunSocket>;
  readonly writes = new TurnWrites();
  readonly meters = new Meters();
  /** Of sockets that open from now on. */
  tcpInfo = TcpInfo.open();
  /** Of sockets that open from now on. */
  options: BunSocketOptions;
  readonly #clients: RawWebSocket[] = [];
  readonly #opened: Opened[] = [];

  constructor(maxOutboxBytes = MAX_OUTBOX_BYTES) {
    this.options = { maxOutboxBytes, compression: false };
    const ends = new Map<ServerWebSocket<BunSocket>, (ended: Ended) => void>();
    this.server = Bun.serve<BunSocket>({
      hostname: "127.0.0.1",
      port: 0,
      fetch(request, own) {
        own.upgrade(request, {
          data: new BunSocket(new Connection(someFacts()), null, own.requestIP(request)?.port ?? 0),
        });
      },
      websocket: {
        // No further beyond the bound than the listener's.
        backpressureLimit: 2 * maxOutboxBytes,
        idleTimeout: 0,
        sendPings: false,
        perMessageDeflate: { compress: "shared", decompress: "shared" },
        open: (ws) => {
          const { promise, resolve } = Promise.withResolvers<Ended>();
          ends.set(ws, resolve);
          const { options, writes, tcpInfo } = this;
          const localPort = () => this.server.port ?? 0;
          ws.data.opened(ws, { options, writes, tcpInfo, isEncrypted: false, localPort, meters: this.meters });
          this.#opened.push({ socket: ws.data, ended: promise });
        },
        message() {},
        drain(ws) {
          ws.data.drained();
        },
        close(ws, code, reason) {
          ws.data.closed();
          ends.get(ws)?.({ code, reason, atMs: performance.now() });
        },
      },
    });
  }

  async connect(lines: readonly string[] = []): Promise<SocketPeer> {
    const client = await RawWebSocket.open({ port: this.server.port ?? 0, lines });
    this.#clients.push(client);
    const own = this.#opened.at(-1);
    if (own === undefined) throw new Error("the server has no socket");
    return new SocketPeer(client, own);
  }

  /** Publishes as the listener does. */
  publish(topic: string, text: string): void {
    this.writes.flush();
    this.server.publish(topic, text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.destroy();
    await this.server.stop(true);
  }
}
