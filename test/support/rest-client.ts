import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { ByteStream, type StreamEnd } from "./byte-stream.ts";
import { DEADLINE_MS, within } from "./deadline.ts";
import { KEYS } from "./gateway.ts";
import { HttpHead } from "./http-head.ts";
import type { RawAnswer } from "./raw-websocket.ts";
import { secondsFromNow, signToken } from "./tokens.ts";

/** One request to the REST API; what is left out is what a well-behaved backend would send. */
export interface RestRequest {
  readonly method: string;
  /** Path and query, sent as they are. */
  readonly target: string;
  /** The value of `Content-Type`; left out, there is no such line. */
  readonly type?: string;
  /** Strings are sent as UTF-8. */
  readonly body?: string | Uint8Array;
  /** Left out: a good token for this target. `null`: no `Authorization` line. */
  readonly token?: string | null;
  /** Further lines, as Latin-1. */
  readonly lines?: readonly string[];
}

/**
 * A caller of the REST API over bare TCP, one request after the other on one connection.
 *
 * Order: `call` waits for the answer, so what one client calls is in order. A connection that the other side has ended
 * while nothing was asked is replaced by a new one, as any HTTP client does.
 */
export class RestClient {
  readonly port: number;
  #socket: Socket;
  #stream: ByteStream;
  #isOver = false;

  private constructor(port: number, socket: Socket) {
    this.port = port;
    this.#socket = socket;
    this.#stream = new ByteStream(socket);
    this.#watch(socket);
  }

  static async dial(port: number): Promise<RestClient> {
    return new RestClient(port, await openSocket(port));
  }

  /** Sends a request and reads its answer to the end. */
  async call(request: RestRequest, deadlineMs = DEADLINE_MS): Promise<RawAnswer> {
    if (this.#isOver) await this.#redial();
    const body = Buffer.from(request.body ?? "");
    const hasLength = request.body !== undefined || /^(?:POST|PUT)$/.test(request.method);
    const head = this.#head(request, hasLength ? [`Content-Length: ${body.length}`] : []);
    this.write(Buffer.concat([head, body]));
    return await this.answer(request.method, deadlineMs);
  }

  /** Sends a head only; `framing` says how the body, which the test sends itself or not, would be delimited. */
  begin(request: RestRequest, framing: string): void {
    this.write(this.#head(request, [framing]));
  }

  /** Sends one chunk of a chunked body; an empty one ends it. */
  chunk(bytes: string | Uint8Array): void {
    const piece = Buffer.from(bytes);
    this.write(Buffer.concat([Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from("\r\n")]));
  }

  /** Sends any bytes; strings as Latin-1. */
  write(bytes: string | Uint8Array): void {
    this.#socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
  }

  /** Reads the next answer that is final (1xx are skipped); the method decides whether it has a body. */
  async answer(method = "GET", deadlineMs = DEADLINE_MS): Promise<RawAnswer> {
    const bytes = await this.#stream.takeThrough("\r\n\r\n", `the answer to ${method}`, deadlineMs);
    const head = new HttpHead(bytes);
    const status = Number(head.firstLine.split(" ")[1]);
    if (status >= 100 && status < 200) return await this.answer(method, deadlineMs);
    const isBodyless = method === "HEAD" || status === 204 || status === 304;
    return { status, head, body: isBodyless ? Buffer.alloc(0) : await this.#body(head, deadlineMs) };
  }

  /** How the other side ended the connection; waits for it. */
  async ended(deadlineMs = DEADLINE_MS): Promise<StreamEnd> {
    return await within(this.#stream.ended, "the end of the caller's connection", deadlineMs);
  }

  /** What has arrived beyond the answers that were read. */
  get leftover(): Buffer {
    return this.#stream.leftover;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }

  #head(request: RestRequest, framing: readonly string[]): Buffer {
    const token = request.token === undefined ? restToken(audienceOf(this.port, request.target)) : request.token;
    const lines = [
      `${request.method} ${request.target} HTTP/1.1`,
      `Host: 127.0.0.1:${this.port}`,
      ...(token === null ? [] : [`Authorization: Bearer ${token}`]),
      ...(request.type === undefined ? [] : [`Content-Type: ${request.type}`]),
      ...framing,
      ...(request.lines ?? []),
    ];
    return Buffer.from([...lines, "", ""].join("\r\n"), "latin1");
  }

  async #body(head: HttpHead, deadlineMs: number): Promise<Buffer> {
    if (head.all("transfer-encoding").join().toLowerCase() === "chunked") return await this.#chunks(deadlineMs);
    const [declared] = head.all("content-length");
    if (declared === undefined) return await this.#stream.takeRest("a body", deadlineMs);
    return Buffer.from(await this.#stream.take(Number(declared), "a body", deadlineMs));
  }

  async #chunks(deadlineMs: number): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for (;;) {
      const line = await this.#stream.takeThrough("\r\n", "a chunk's length", deadlineMs);
      const byteCount = Number.parseInt(line.toString("latin1"), 16);
      const piece = await this.#stream.take(byteCount + 2, "a chunk", deadlineMs);
      if (byteCount === 0) return Buffer.concat(pieces);
      pieces.push(Buffer.from(piece.subarray(0, byteCount)));
    }
  }

  async #redial(): Promise<void> {
    this.#socket.destroy();
    this.#socket = await openSocket(this.port);
    this.#stream = new ByteStream(this.#socket);
    this.#isOver = false;
    this.#watch(this.#socket);
  }

  #watch(socket: Socket): void {
    const over = (): void => {
      if (socket === this.#socket) this.#isOver = true;
    };
    socket.on("end", over).on("error", over).on("close", over);
  }
}

async function openSocket(port: number): Promise<Socket> {
  const socket = connect({ host: "127.0.0.1", port });
  socket.setNoDelay(true);
  await within(once(socket, "connect"), "the caller's TCP connection");
  return socket;
}

/**
 * The audience that a backend of 2020 signs for a request: its URL, of the query only the hub.
 *
 * Source: PROTOCOL.md, "REST API" (`aud` is the URL that is called; query parameters other than `hub` do not matter).
 */
export function audienceOf(port: number, target: string): string {
  const [path = "", query = ""] = target.split("?");
  const hub = query.split("&").find((pair) => pair.startsWith("hub="));
  return `http://127.0.0.1:${port}${path}${hub === undefined ? "" : `?${hub}`}`;
}

/** A REST token: HS256, valid for five minutes. `claims` replaces or, by `undefined`, removes single ones. */
export function restToken(
  audience: unknown,
  claims: Readonly<Record<string, unknown>> = {},
  options: { readonly key?: string; readonly alg?: string } = {},
): string {
  return signToken({ aud: audience, exp: secondsFromNow(300), ...claims }, { key: KEYS.primary, ...options });
}
