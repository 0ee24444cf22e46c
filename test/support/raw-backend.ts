import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { ByteStream } from "./byte-stream.ts";
import { DEADLINE_MS, within } from "./deadline.ts";
import { HttpHead } from "./http-head.ts";

export type BackendEvent = "connect" | "message" | "disconnect" | "other";

/** One request, exactly as it arrived. */
export interface RecordedRequest {
  /** From 0, in the order of arrival over all connections. */
  readonly ordinal: number;
  /** From 0, the TCP connection it came on. */
  readonly connection: number;
  /** Taken from the URL alone, so that a wrong header cannot hide a request. */
  readonly event: BackendEvent;
  readonly method: string;
  readonly target: string;
  readonly head: HttpHead;
  readonly body: Buffer;
  /** The value of the header spelled exactly so; throws where it is repeated or spelled otherwise. */
  header(name: string): string | undefined;
}

/** One request and the socket to answer it on: `reply` for an orderly answer, `raw` for any bytes. */
export class Exchange {
  readonly request: RecordedRequest;
  readonly socket: Socket;
  /** Resolves when the caller has closed or reset the connection. */
  readonly callerGone: Promise<unknown>;

  constructor(request: RecordedRequest, socket: Socket, callerGone: Promise<unknown>) {
    this.request = request;
    this.socket = socket;
    this.callerGone = callerGone;
  }

  reply(status: number, lines: readonly string[] = [], body: string | Uint8Array = ""): void {
    const bytes = typeof body === "string" ? Buffer.from(body, "utf8") : Buffer.from(body);
    const length = status === 204 || status === 304 ? [] : [`Content-Length: ${bytes.length}`];
    const head = [`HTTP/1.1 ${status} Told`, ...lines, ...length, "", ""].join("\r\n");
    this.socket.write(Buffer.concat([Buffer.from(head, "utf8"), bytes]));
  }

  /** Strings are written as Latin-1, one byte a char. */
  raw(bytes: string | Uint8Array): void {
    this.socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
  }

  end(): void {
    this.socket.end();
  }

  reset(): void {
    this.socket.resetAndDestroy();
  }
}

export type Script = (exchange: Exchange) => void | Promise<void>;

/** Answers with a user id, so that anonymous clients are let in. */
export const acceptAs =
  (userId: string, lines: readonly string[] = [], body: string | Uint8Array = ""): Script =>
  (exchange) =>
    exchange.reply(200, [`X-ASRS-User-Id: ${userId}`, ...lines], body);

/** Answers nothing and waits until the caller gives up. */
export const never: Script = async (exchange) => {
  await exchange.callerGone;
};

/** Sends the message's body back under its own type. */
export const echo: Script = (exchange) => {
  const type = exchange.request.head.all("content-type")[0] ?? "text/plain";
  exchange.reply(200, [`Content-Type: ${type}`], exchange.request.body);
};

export const acknowledge: Script = (exchange) => exchange.reply(204);

interface Waiter {
  readonly matches: (request: RecordedRequest) => boolean;
  readonly resolve: (request: RecordedRequest) => void;
}

export interface BackendTls {
  readonly key: string;
  readonly cert: string;
  readonly ca?: string;
  readonly requestCert?: boolean;
  readonly rejectUnauthorized?: boolean;
  /** Called with the name that a client asks for. */
  readonly SNICallback?: (name: string, done: (error: null) => void) => void;
}

/**
 * A backend over bare TCP: records every request's bytes and answers by one script per event.
 *
 * Scripts may be replaced at any time; a request is recorded before its script runs.
 */
export class RawBackend {
  readonly requests: RecordedRequest[] = [];
  /** How many TCP connections have come. */
  connectionCount = 0;
  onConnect: Script = acceptAs("alice");
  onMessage: Script = echo;
  onDisconnect: Script = acknowledge;
  onOther: Script = acknowledge;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #taken = new Set<RecordedRequest>();
  readonly #waiters: Waiter[] = [];
  readonly #scheme: string;

  private constructor(tls: BackendTls | undefined) {
    this.#scheme = tls === undefined ? "http" : "https";
    const serve = (socket: Socket): void => void this.#serve(socket);
    this.#server =
      tls === undefined ? createServer({ allowHalfOpen: true }, serve) : createTlsServer({ ...tls }, serve);
  }

  /** `port` 0 picks a free one. */
  static async start(options: { port?: number; tls?: BackendTls } = {}): Promise<RawBackend> {
    const backend = new RawBackend(options.tls);
    backend.#server.listen(options.port ?? 0, "127.0.0.1");
    await once(backend.#server, "listening");
    return backend;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("the backend does not listen");
    return address.port;
  }

  /** Scheme, host and port, without a slash at the end. */
  get url(): string {
    return `${this.#scheme}://127.0.0.1:${this.port}`;
  }

  /** The recorded requests of one event, in the order of arrival. */
  of(event: BackendEvent, matches: (request: RecordedRequest) => boolean = () => true): RecordedRequest[] {
    return this.requests.filter((request) => request.event === event && matches(request));
  }

  /** The next request of an event that no earlier `next` returned; waits for it. */
  async next(
    event: BackendEvent,
    matches: (request: RecordedRequest) => boolean = () => true,
    deadlineMs = DEADLINE_MS,
  ): Promise<RecordedRequest> {
    const fits = (request: RecordedRequest): boolean => request.event === event && matches(request);
    const here = this.requests.find((request) => fits(request) && !this.#taken.has(request));
    if (here !== undefined) {
      this.#taken.add(here);
      return here;
    }
    const coming = new Promise<RecordedRequest>((resolve) => this.#waiters.push({ matches: fits, resolve }));
    const seen = (): string => this.requests.map((request) => request.target).join(" ");
    return await within(coming, `the backend's next ${event}`, deadlineMs).catch((fault: Error) => {
      throw new Error(`${fault.message}; so far: ${seen()}`);
    });
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #serve(socket: Socket): Promise<void> {
    const connection = this.connectionCount++;
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    const stream = new ByteStream(socket);
    // A caller that ends its side wants no further answer; half-open sockets must be closed by hand.
    void stream.ended.then(() => socket.end());
    for (;;) {
      const request = await this.#read(stream, connection).catch(() => undefined);
      if (request === undefined) return;
      this.#record(request);
      await this.#script(request.event)(new Exchange(request, socket, stream.ended));
    }
  }

  async #read(stream: ByteStream, connection: number): Promise<RecordedRequest> {
    const foreverMs = 2 ** 31 - 1;
    const head = new HttpHead(await stream.takeThrough("\r\n\r\n", "a request's head", foreverMs));
    const byteCount = Number(head.all("content-length")[0] ?? "0");
    const body = Buffer.from(await stream.take(byteCount, "a request's body", foreverMs));
    const [method = "", target = ""] = head.firstLine.split(" ");
    return {
      ordinal: this.requests.length,
      connection,
      event: eventOf(target),
      method,
      target,
      head,
      body,
      header: (name) => head.header(name),
    };
  }

  #record(request: RecordedRequest): void {
    this.requests.push(request);
    const at = this.#waiters.findIndex((waiter) => waiter.matches(request));
    if (at < 0) return;
    this.#taken.add(request);
    this.#waiters.splice(at, 1)[0]?.resolve(request);
  }

  #script(event: BackendEvent): Script {
    if (event === "connect") return this.onConnect;
    if (event === "message") return this.onMessage;
    return event === "disconnect" ? this.onDisconnect : this.onOther;
  }
}

function eventOf(target: string): BackendEvent {
  const found = /\/(connect|message|disconnect)(?=[/?]|$)/.exec(target)?.[1];
  return found === "connect" || found === "message" || found === "disconnect" ? found : "other";
}

/** A port of 127.0.0.1 on which nothing listens (any more). */
export async function unusedPort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
