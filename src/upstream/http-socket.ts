import type { Socket, SocketHandler, TLSOptions } from "bun";
import type { Clock } from "../core/ports/clock.ts";
import { copyOf } from "./byte-gatherer.ts";
import type { Destination, FoundAddresses } from "./destination.ts";
import { Dialer } from "./dialer.ts";
import {
  type Exchange,
  type ExchangeCarrier,
  type HttpAnswer,
  type HttpOutcome,
  lostAnswer,
  type SeenHead,
} from "./exchange.ts";
import type { FileReserve } from "./file-reserve.ts";
import type { RequestRoom } from "./request-bytes.ts";
import { ResponseParser } from "./response-parser.ts";
import { Silence, type SilentSockets } from "./silent-sockets.ts";

/** The pool of a socket, as the socket sees it. */
export interface HttpSocketPool {
  readonly maxBodyBytes: number;
  /** Holds the requests that are written at the end of the turn: others will use it. */
  readonly room: RequestRoom;
  /** Told of bytes of requests and answers as they begin to wait; negative when they are let go. */
  readonly hold: (byteCount: number) => void;
  readonly fits: (byteCount: number) => boolean;
  /** Where a socket without a byte of answer is told; null where nobody asks. */
  readonly silentSockets: SilentSockets | null;
  /** The socket has carried an exchange to its end, which `answerSoon` was told of, and may carry another. */
  onReusable(socket: HttpSocket, keepAliveSeconds: number | null): void;
  /** The socket has something to send: `flush` is to be called before the event loop waits again. */
  flushSoon(socket: HttpSocket): void;
  /** An exchange has its answer: its owner is to be told before the event loop waits again. */
  answerSoon(exchange: Exchange, answer: HttpAnswer): void;
  /** The socket is gone. */
  onGone(socket: HttpSocket): void;
  /** The socket died before a byte of answer, and its exchange may be sent again over a fresh one. */
  onStale(exchange: Exchange): void;
}

/** Where a socket connects to, and how. */
export interface HttpPeer {
  readonly destination: Destination;
  readonly port: number;
  /** Null for plain TCP. Names the server, since the connection is to an address. */
  readonly tls: TLSOptions | null;
  readonly clock: Clock;
  /** Files that nothing else can take; null where none are kept. */
  readonly files: FileReserve | null;
}

/**
 * One connection to an upstream. It carries one exchange at a time; no pipelining.
 *
 *   connecting ──> busy <──> idle
 *       └───────────┴─────────┴──> closed
 *
 * Errors: every fault of the network becomes an outcome of the exchange. Details name no query or header, and
 *         an address only where it is refused.
 */
export class HttpSocket implements ExchangeCarrier {
  /** When it has been idle for too long, in the clock's time; the pool's field. */
  idleUntilMs = 0;
  readonly #pool: HttpSocketPool;
  readonly #peer: HttpPeer;
  #dialer: Dialer | null = null;
  #socket: Socket<HttpSocket> | null = null;
  #state: "connecting" | "busy" | "idle" | "closed" = "connecting";
  #exchange: Exchange | null;
  readonly #ownParser: ResponseParser;
  /** Its own while an answer is awaited. */
  #parser: ResponseParser | null = null;
  /** The bytes that are still to be written, from `#unsentStart` to `#unsentEnd`. */
  #unsent: Uint8Array | null = null;
  #unsentStart = 0;
  #unsentEnd = 0;
  /** Of the request, while it waits for the connection or for the server to read. */
  #heldRequestBytes = 0;
  /** Whether an earlier exchange ended well here, so that the server may have closed it in the meantime. */
  #pooled = false;
  #written = false;
  #answered = false;
  /** Until its first byte. */
  #silence: Silence | null;
  #tlsFault: string | null = null;
  /** Bytes of the answer so far. */
  #heldBytes = 0;

  constructor(pool: HttpSocketPool, peer: HttpPeer, exchange: Exchange) {
    this.#pool = pool;
    this.#peer = peer;
    this.#exchange = exchange;
    this.#ownParser = new ResponseParser(pool.maxBodyBytes);
    this.#silence = pool.silentSockets === null ? null : new Silence(pool.silentSockets);
    exchange.carrier = this;
    this.#holdRequest(exchange.bytes.length);
  }

  /** Connects, and sends the exchange as soon as that is done. A refusal may be told before this returns. */
  connect(): void {
    const { destination } = this.#peer;
    const known = destination.current();
    if (known === null) void destination.find().then((found) => this.#dial(found));
    else this.#dial(known);
  }

  /** Sends an exchange over the idle socket. */
  start(exchange: Exchange): void {
    this.#exchange = exchange;
    exchange.carrier = this;
    this.#send();
  }

  /** Ends the connection; its exchange gets no outcome. */
  drop(): SeenHead | null {
    const seen = this.#parser?.seen ?? null;
    this.#exchange = null;
    this.#close();
    return seen;
  }

  /** A fresh socket that waits for an answer that may never come says no more about the backend's workers. */
  linger(): boolean {
    if (this.#state !== "busy" || this.#unsent !== null || this.#parser === null || this.#parser.seen !== null)
      return false;
    this.#endSilence();
    return true;
  }

  /** Ends the connection, and its exchange with it. */
  stop(): void {
    const exchange = this.#exchange;
    const seen = this.drop();
    const detail = "the upstream client was stopped";
    if (exchange === null) return;
    end(exchange, exchange.written ? lostAnswer("abandoned", seen, detail) : notSent(detail));
  }

  onOpen(socket: Socket<HttpSocket>): void {
    // Dropped while it was connecting, when there was no socket to close yet; or another address was faster.
    if (this.#state === "closed" || this.#socket !== null) {
      socket.terminate();
      return;
    }
    this.#socket = socket;
    this.#dialer?.stop();
    this.#dialer = null;
    this.#silence?.begin();
    if (this.#peer.tls === null) this.#send();
  }

  onHandshake(socket: Socket<HttpSocket>, ok: boolean, error: Error | null): void {
    if (this.#state === "closed" || socket !== this.#socket) return;
    if (ok && socket.authorized) {
      this.#silence?.begin();
      this.#send();
      return;
    }
    this.#tlsFault = errorCode(error) ?? "handshake failed";
    this.onLost(null);
  }

  onTlsFault(socket: Socket<HttpSocket>, error: Error): void {
    if (socket === this.#socket) this.#tlsFault ??= errorCode(error) ?? "protocol error";
  }

  /** A connection has ended; one that was too slow does not matter. */
  onClose(socket: Socket<HttpSocket>, error: unknown): void {
    this.#peer.files?.giveBack();
    if (socket === this.#socket) this.onLost(error);
  }

  /** Writes what has not been written. */
  flush(): void {
    if (this.#unsent !== null) this.#write(this.#unsent);
  }

  onData(chunk: Uint8Array): void {
    if (this.#silence !== null) this.#endSilence();
    const parser = this.#parser;
    if (parser === null || (this.#pooled && !this.#written)) {
      // Nothing was asked, so this cannot be an answer to the next request. On a fresh socket it may be the
      // server's excuse that it is too busy to listen.
      this.onLost(null);
      return;
    }
    this.#answered = true;
    parser.push(chunk);
    // An answer of one piece, as nearly all are, waits for nothing.
    if (parser.result !== null) {
      this.#conclude(parser);
    } else if (this.#pool.fits(chunk.length)) {
      this.#hold(chunk.length);
    } else if (this.#exchange !== null) {
      this.#fail(this.#exchange, "no room for the answer: limits.maxBufferedBytes is in use", "too-large");
    }
  }

  /** The connection is gone, or was never made; `error` is null or undefined where it was closed in order. */
  onLost(error: unknown): void {
    if (this.#state === "closed") return;
    const exchange = this.#exchange;
    const parser = this.#parser;
    const wasConnecting = this.#state === "connecting";
    if (exchange === null) {
      this.#close();
    } else if (wasConnecting) {
      this.#fail(exchange, this.#connectFault(error));
    } else if (!this.#answered && this.#pooled && (!this.#written || exchange.owner.mayRepeat)) {
      this.#exchange = null;
      this.#close();
      this.#pool.onStale(exchange);
    } else if (parser !== null && !isFault(error)) {
      parser.end();
      this.#conclude(parser);
    } else {
      this.#fail(exchange, this.#lossDetail(error));
    }
  }

  #dial(found: FoundAddresses): void {
    const exchange = this.#exchange;
    // Dropped while the name was looked up.
    if (exchange === null) return;
    if ("fault" in found) {
      this.#fail(exchange, found.fault);
      return;
    }
    const { destination, port, tls, clock, files } = this.#peer;
    this.#silence?.begin();
    this.#dialer = new Dialer({
      addresses: found,
      clock,
      connect: async (hostname) => {
        const connection = { hostname, port, data: this, socket: HANDLERS };
        files?.take();
        try {
          await Bun.connect<HttpSocket>(tls === null ? connection : { ...connection, tls });
        } catch (error) {
          files?.giveBack();
          throw error;
        }
      },
      onPassedOver: (address) => destination.demote(address),
      onFailed: (error) => {
        destination.forget();
        this.onLost(error);
      },
    });
    this.#dialer.start();
  }

  #connectFault(error: unknown): string {
    if (this.#tlsFault !== null) return `TLS: ${this.#tlsFault}`;
    return `connecting failed: ${errorCode(error) ?? "closed"}`;
  }

  #lossDetail(error: unknown): string {
    return `the connection broke: ${this.#tlsFault ?? errorCode(error) ?? "closed"}`;
  }

  #send(): void {
    const exchange = this.#exchange;
    if (exchange === null) return;
    this.#state = "busy";
    this.#parser = this.#ownParser;
    this.#parser.begin(this.#pool.maxBodyBytes, exchange.owner);
    this.#written = false;
    this.#answered = false;
    this.#unsent = exchange.bytes;
    this.#unsentStart = exchange.start;
    this.#unsentEnd = exchange.end;
    this.#pool.flushSoon(this);
  }

  #write(bytes: Uint8Array): void {
    const length = this.#unsentEnd - this.#unsentStart;
    const count = this.#socket?.write(bytes, this.#unsentStart, length) ?? -1;
    if (count > 0) {
      this.#written = true;
      if (this.#exchange !== null) this.#exchange.written = true;
    }
    if (count >= length) {
      this.#unsent = null;
      this.#exchange?.letBytesGo();
      if (this.#heldRequestBytes > 0) this.#holdRequest(0);
      return;
    }
    this.#unsentStart += Math.max(0, count);
    if (bytes === this.#pool.room.bytes) {
      this.#unsent = copyOf(bytes, this.#unsentStart, this.#unsentEnd);
      this.#unsentStart = 0;
      this.#unsentEnd = this.#unsent.length;
    }
    this.#holdRequest(this.#unsent?.length ?? 0);
    if (count < 0) this.onLost(null);
  }

  /** The parser has come to a result: hands it over, and the socket back to the pool where it can be used again. */
  #conclude(parser: ResponseParser): void {
    const exchange = this.#exchange;
    const { result } = parser;
    if (exchange === null || result === null) return;
    if (result.kind === "fault") {
      this.#fail(exchange, result.detail, result.cause);
      return;
    }
    this.#exchange = null;
    this.#parser = null;
    // They are held until the owner has the answer: many may arrive in one turn.
    exchange.heldBytes = this.#heldBytes;
    this.#heldBytes = 0;
    exchange.carrier = null;
    this.#pool.answerSoon(exchange, result);
    // An answer that came before the whole request was written leaves the rest of it in the way of the next.
    if (parser.persistent && this.#unsent === null && this.#state === "busy") {
      this.#state = "idle";
      this.#pooled = true;
      this.#pool.onReusable(this, parser.keepAliveSeconds);
    } else {
      this.#close();
    }
  }

  #endSilence(): void {
    this.#silence?.end();
    this.#silence = null;
  }

  #hold(byteCount: number): void {
    if (byteCount === 0) return;
    this.#heldBytes += byteCount;
    this.#pool.hold(byteCount);
  }

  #holdRequest(byteCount: number): void {
    this.#pool.hold(byteCount - this.#heldRequestBytes);
    this.#heldRequestBytes = byteCount;
  }

  #fail(exchange: Exchange, detail: string, cause: "reset" | "malformed" | "too-large" = "reset"): void {
    const seen = this.drop();
    end(exchange, exchange.written ? lostAnswer(cause, seen, detail) : notSent(detail));
  }

  #close(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#endSilence();
    this.#parser = null;
    this.#hold(-this.#heldBytes);
    if (this.#heldRequestBytes > 0) this.#holdRequest(0);
    this.#unsent = null;
    this.#dialer?.stop();
    this.#socket?.terminate();
    this.#pool.onGone(this);
  }
}

/** Shared by all sockets; each finds its own state in `socket.data`. */
const HANDLERS: SocketHandler<HttpSocket> = {
  open: (socket) => socket.data.onOpen(socket),
  handshake: (socket, ok, error) => socket.data.onHandshake(socket, ok, error),
  data: (socket, chunk) => socket.data.onData(chunk),
  drain: (socket) => socket.data.flush(),
  error: (socket, error) => socket.data.onTlsFault(socket, error),
  close: (socket, error) => socket.data.onClose(socket, error),
};

function end(exchange: Exchange, outcome: HttpOutcome): void {
  exchange.carrier = null;
  exchange.owner.onExchangeEnd(outcome);
}

function notSent(detail: string): HttpOutcome {
  return { kind: "not-sent", detail };
}

function isFault(error: unknown): boolean {
  return error !== null && error !== undefined;
}

/** A fault's code, such as ECONNREFUSED. Its message is left out: it may name what must not be logged. */
function errorCode(error: unknown): string | null {
  if (typeof error !== "object" || error === null || !("code" in error)) return null;
  return typeof error.code === "string" ? error.code : null;
}
