import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect as connectTcp, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import { ByteStream, type StreamEnd } from "./byte-stream.ts";
import { DEADLINE_MS, within } from "./deadline.ts";
import { closePayload, encodeFrame, OPCODE, type OutgoingFrame, type ReceivedFrame } from "./frame-codec.ts";
import { HttpHead } from "./http-head.ts";

/** Where to connect and what to ask; everything but the port has a well-behaved default. */
export interface ClientOptions {
  readonly port: number;
  /** Path and query, sent as they are. Default: `/ws/client/hubs/chat`. */
  readonly path?: string;
  /** Further header lines (`Name: value`), sent as Latin-1 behind the usual ones. */
  readonly lines?: readonly string[];
  /** Names of usual lines to leave out, in lower case (`host`, `upgrade`, `connection`, …). */
  readonly without?: readonly string[];
  readonly method?: string;
  readonly httpVersion?: string;
  /** The address to connect from: any of 127.0.0.0/8. */
  readonly localAddress?: string;
  readonly host?: string;
  readonly tls?: ConnectionOptions;
}

/** An HTTP answer, read to its end. */
export interface RawAnswer {
  readonly status: number;
  readonly head: HttpHead;
  readonly body: Buffer;
}

/**
 * A WebSocket client over bare TCP or TLS that can do everything right and everything wrong.
 *
 * Nothing is answered automatically: only `nextMessage` answers pings, and closes are never answered.
 */
export class RawWebSocket {
  readonly stream: ByteStream;
  readonly key = randomBytes(16).toString("base64");
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.stream = new ByteStream(socket);
  }

  /** The socket under it, for writers that heed its back-pressure. */
  get tcp(): Socket {
    return this.#socket;
  }

  /** Opens the socket and sends nothing. */
  static async dial(options: ClientOptions): Promise<RawWebSocket> {
    const host = options.host ?? "127.0.0.1";
    const local = options.localAddress === undefined ? {} : { localAddress: options.localAddress };
    if (options.tls === undefined) {
      const socket = connectTcp({ host, port: options.port, allowHalfOpen: true, ...local });
      socket.setNoDelay(true);
      const client = new RawWebSocket(socket);
      await within(Promise.race([once(socket, "connect"), client.stream.ended]), "the TCP connection");
      return client;
    }
    const socket = connectTls({ host, port: options.port, ...options.tls });
    const client = new RawWebSocket(socket);
    await within(Promise.race([once(socket, "secureConnect"), client.stream.ended]), "the TLS connection");
    return client;
  }

  /** Opens the socket and sends the handshake; read what comes with `answer` or `head`. */
  static async request(options: ClientOptions): Promise<RawWebSocket> {
    const client = await RawWebSocket.dial(options);
    client.write(client.handshake(options));
    return client;
  }

  /** Opens the socket, upgrades and checks the 101. */
  static async open(options: ClientOptions): Promise<RawWebSocket> {
    const client = await RawWebSocket.request(options);
    await client.upgraded();
    return client;
  }

  /** The handshake's bytes. */
  handshake(options: ClientOptions): Buffer {
    const usual = [
      `Host: 127.0.0.1:${options.port}`,
      "Upgrade: websocket",
      "Connection: Upgrade",
      `Sec-WebSocket-Key: ${this.key}`,
      "Sec-WebSocket-Version: 13",
    ].filter((line) => !options.without?.includes(line.slice(0, line.indexOf(":")).toLowerCase()));
    const first = `${options.method ?? "GET"} ${options.path ?? "/ws/client/hubs/chat"} HTTP/${options.httpVersion ?? "1.1"}`;
    return Buffer.from([first, ...usual, ...(options.lines ?? []), "", ""].join("\r\n"), "latin1");
  }

  /** Reads a response head; its body, if any, stays to be read. */
  async head(deadlineMs = DEADLINE_MS): Promise<HttpHead> {
    return new HttpHead(await this.stream.takeThrough("\r\n\r\n", "a response head", deadlineMs));
  }

  /** Reads a 101 and checks what RFC 6455, section 4.1 asks of it. */
  async upgraded(deadlineMs = DEADLINE_MS): Promise<HttpHead> {
    const head = await this.head(deadlineMs);
    const accept = createHash("sha1").update(`${this.key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
    if (statusOf(head) !== 101) throw new Error(`expected 101, got ${head.firstLine}`);
    if (head.all("sec-websocket-accept").join() !== accept) throw new Error("wrong Sec-WebSocket-Accept");
    if (head.all("upgrade").join().toLowerCase() !== "websocket") throw new Error("wrong Upgrade");
    return head;
  }

  /** Reads a whole answer: head, then the body by its `Content-Length`, or to the end of the stream. */
  async answer(deadlineMs = DEADLINE_MS): Promise<RawAnswer> {
    const head = await this.head(deadlineMs);
    const [declared] = head.all("content-length");
    const status = statusOf(head);
    if (status === 101) return { status, head, body: Buffer.alloc(0) };
    const body =
      declared === undefined
        ? await this.stream.takeRest("a response body", deadlineMs)
        : await this.stream.take(Number(declared), "a response body", deadlineMs);
    return { status, head, body };
  }

  write(bytes: string | Uint8Array): void {
    this.#socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
  }

  /** Sends frames in one write, so that they arrive together. */
  send(...frames: readonly OutgoingFrame[]): void {
    this.write(Buffer.concat(frames.map(encodeFrame)));
  }

  /** Sends whole text messages in one write. */
  text(...messages: readonly string[]): void {
    this.send(...messages.map((payload) => ({ opcode: OPCODE.text, payload })));
  }

  binary(payload: Uint8Array): void {
    this.send({ opcode: OPCODE.binary, payload });
  }

  close(code?: number, reason = ""): void {
    this.send({ opcode: OPCODE.close, payload: closePayload(code, reason) });
  }

  async frame(deadlineMs = DEADLINE_MS): Promise<ReceivedFrame> {
    const [first = 0, second = 0] = await this.stream.take(2, "a frame", deadlineMs);
    let byteCount = second & 0x7f;
    if (byteCount === 126) byteCount = (await this.stream.take(2, "a frame's length", deadlineMs)).readUInt16BE();
    else if (byteCount === 127)
      byteCount = Number((await this.stream.take(8, "a frame's length", deadlineMs)).readBigUInt64BE());
    const payload = Buffer.from(await this.stream.take(byteCount, "a frame's payload", deadlineMs));
    return {
      fin: (first & 0x80) !== 0,
      rsv: (first >> 4) & 7,
      opcode: first & 15,
      masked: (second & 0x80) !== 0,
      payload,
    };
  }

  /** The next text or binary frame; pings on the way are answered. */
  async nextMessage(deadlineMs = DEADLINE_MS): Promise<{ type: "text" | "binary"; payload: Buffer }> {
    for (;;) {
      const frame = await this.frame(deadlineMs);
      if (frame.opcode === OPCODE.ping) this.send({ opcode: OPCODE.pong, payload: frame.payload });
      else if (frame.opcode === OPCODE.text) return { type: "text", payload: frame.payload };
      else if (frame.opcode === OPCODE.binary) return { type: "binary", payload: frame.payload };
      else throw new Error(`expected a message, got opcode ${frame.opcode}: ${frame.payload.toString("latin1")}`);
    }
  }

  /** The next message, which must be a text, as a string. */
  async nextText(deadlineMs = DEADLINE_MS): Promise<string> {
    const { type, payload } = await this.nextMessage(deadlineMs);
    if (type !== "text") throw new Error("expected a text message, got a binary one");
    return payload.toString("utf8");
  }

  /** The next frame, which must be a close; a code of 1005 means that it had none. */
  async closed(deadlineMs = DEADLINE_MS): Promise<{ code: number; reason: string }> {
    const frame = await this.frame(deadlineMs);
    if (frame.opcode !== OPCODE.close) throw new Error(`expected a close frame, got opcode ${frame.opcode}`);
    if (frame.payload.length < 2) return { code: 1005, reason: "" };
    return { code: frame.payload.readUInt16BE(), reason: frame.payload.subarray(2).toString("utf8") };
  }

  /** Waits for the other side to end or reset the stream. */
  async ended(deadlineMs = DEADLINE_MS): Promise<StreamEnd> {
    return await within(this.stream.ended, "the end of the stream", deadlineMs);
  }

  /** Sends FIN and goes on reading. */
  halfClose(): void {
    this.#socket.end();
  }

  /** Sends RST. */
  reset(): void {
    this.#socket.resetAndDestroy();
  }

  /** Stops reading from the kernel, so that its buffers fill up. */
  pauseReading(): void {
    this.#socket.pause();
  }

  resumeReading(): void {
    this.#socket.resume();
  }

  /** Ends the client in any state. */
  destroy(): void {
    this.#socket.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}

/** The status code of a response head. */
export function statusOf(head: HttpHead): number {
  return Number(head.firstLine.split(" ")[1]);
}
