import { isIP } from "node:net";
import type { TLSOptions } from "bun";
import type { AllowedHosts } from "../config/allowed-hosts.ts";
import type { TlsFiles } from "../config/tls-files.ts";
import type { Clock } from "../core/ports/clock.ts";
import { TurnList } from "../core/turn-list.ts";
import { ContentDecoding, type DecodingRoom } from "./content-decoding.ts";
import { Destination, type ResolveHost } from "./destination.ts";
import { Exchange, type ExchangeOwner, type HttpAnswer, lostAnswer } from "./exchange.ts";
import type { FileReserve } from "./file-reserve.ts";
import { type HttpPeer, HttpSocket, type HttpSocketPool } from "./http-socket.ts";
import { RequestRoom } from "./request-bytes.ts";
import type { IdleSockets, SilentSockets } from "./silent-sockets.ts";
import type { Origin } from "./url-template.ts";

/** How long a socket is kept for the next request, unless told otherwise. Node's servers close their sockets after 5 s. */
export const KEEP_ALIVE_MS = 4000;

/** How often idle sockets are looked through. */
const IDLE_SWEEP_MS = 1000;

export interface HttpClientOptions {
  readonly origin: Origin;
  /** Certificates to trust and to show; not used for a plain origin. */
  readonly tls: TlsFiles;
  /** Hosts and addresses that may be called; null for all. */
  readonly allowed: AllowedHosts | null;
  readonly resolve: ResolveHost;
  /** Longest body of an answer; asked for each. */
  readonly maxBodyBytes: () => number;
  readonly clock: Clock;
  /** How long a socket is kept for the next request; 0 closes each after its request. Left out: `KEEP_ALIVE_MS`. */
  readonly keepAliveMs?: number;
  /** Idle sockets at most. Left out: as many as there were requests at a time. */
  readonly maxIdleSockets?: number;
  /** Files for its sockets. Left out: none are kept. */
  readonly files?: FileReserve;
  /** Fresh sockets without a byte, of all clients of this origin. Left out: they are not looked for. */
  readonly silentSockets?: SilentSockets;
  /** Told of bytes of answers as they begin to wait for the rest; negative when they are let go. Left out: nobody is. */
  readonly hold?: (byteCount: number) => void;
  /** Whether so many bytes more of answers may wait in the process. */
  readonly fits?: (byteCount: number) => boolean;
}

/**
 * Speaks HTTP/1.1 to one origin, over sockets that are kept and used again.
 *
 * Errors: every fault of the network is an outcome, told to the exchange's owner.
 * Order:  the socket used last is used next, so that the surplus of a burst grows old and is closed. Answers are told and requests
 *         written at the end of the turn of the event loop that brought them.
 * Source: RFC 9112, section 9; docs/decisions/0001.
 */
export class HttpClient implements HttpSocketPool, IdleSockets, DecodingRoom {
  readonly hold: (byteCount: number) => void;
  readonly fits: (byteCount: number) => boolean;
  readonly #maxBodyBytes: () => number;
  readonly #clock: Clock;
  readonly #keepAliveMs: number;
  readonly #maxIdle: number;
  readonly silentSockets: SilentSockets | null;
  readonly #peer: HttpPeer;
  readonly #open = new Set<HttpSocket>();
  readonly #idle: HttpSocket[] = [];
  /** For requests that are written at the end of this turn. */
  readonly room = new RequestRoom();
  readonly #unflushed = new TurnList<HttpSocket>();
  /** Exchanges that were answered in this turn. */
  readonly #answered = new TurnList<Exchange>();
  /** Answers whose bodies are being decoded. */
  readonly #decodings = new Set<ContentDecoding>();
  #isTurnEndDue = false;
  readonly #onTurnEnd = () => this.#endTurn();
  /** The time at the first answer of the turn: the clock is read once for all of them. */
  #turnMs = 0;
  #cancelSweep: (() => void) | null = null;
  #stopped = false;

  constructor(options: HttpClientOptions) {
    const { origin, tls, allowed, resolve, clock } = options;
    this.#maxBodyBytes = options.maxBodyBytes;
    this.hold = options.hold ?? (() => {});
    this.fits = options.fits ?? (() => true);
    this.#clock = clock;
    this.#keepAliveMs = options.keepAliveMs ?? KEEP_ALIVE_MS;
    this.#maxIdle = options.maxIdleSockets ?? Number.POSITIVE_INFINITY;
    this.silentSockets = options.silentSockets ?? null;
    this.silentSockets?.addPool(this);
    const destination = new Destination({ hostname: origin.hostname, allowed, resolve, clock });
    const { files = null } = options;
    this.#peer = { destination, port: origin.port, tls: tlsOptions(origin, tls), clock, files };
  }

  get maxBodyBytes(): number {
    return this.#maxBodyBytes();
  }

  /** Sends one request. The owner hears of its end, unless it cuts the exchange before; it has no deadline of its own. */
  send(owner: ExchangeOwner, bytes: Uint8Array, nowMs = this.#clock.now()): Exchange {
    const exchange = new Exchange(owner, bytes);
    this.carry(exchange, nowMs);
    return exchange;
  }

  /** The same for an exchange whose request may be in `room`. */
  carry(exchange: Exchange, nowMs: number): void {
    const idle = this.#takeIdle(nowMs);
    if (idle !== null) {
      idle.start(exchange);
      return;
    }
    if (exchange.bytes === this.room.bytes) exchange.keepBytes();
    this.#sendFresh(exchange);
  }

  /** Closes every socket; exchanges under way end with it. May be called twice. */
  stop(): void {
    this.#stopped = true;
    this.#cancelSweep?.();
    this.#cancelSweep = null;
    this.silentSockets?.removePool(this);
    this.#tellAnswers();
    for (const decoding of this.#decodings) decoding.stop();
    for (const socket of this.#open) socket.stop();
  }

  onReusable(socket: HttpSocket, keepAliveSeconds: number | null): void {
    const ownMs = this.#keepAliveMs;
    // A second less than the server says: its clock began before the answer arrived here.
    const idleMs = keepAliveSeconds === null ? ownMs : Math.min(ownMs, (keepAliveSeconds - 1) * 1000);
    if (idleMs <= 0 || this.#idle.length >= this.#maxIdle || this.silentSockets?.areThere === true) {
      socket.drop();
      return;
    }
    socket.idleUntilMs = this.#turnMs + idleMs;
    this.#idle.push(socket);
    this.#cancelSweep ??= this.#clock.every(IDLE_SWEEP_MS, () => this.#sweepIdle());
  }

  /** Writes at the end of the turn. Sockets that the same turn finds closed are then known before they are used. */
  flushSoon(socket: HttpSocket): void {
    this.#unflushed.add(socket);
    this.#endTurnSoon();
  }

  /** Tells the answer at the end of the turn, unless the exchange is cut before. */
  answerSoon(exchange: Exchange, answer: HttpAnswer): void {
    exchange.answer = answer;
    this.#answered.add(exchange);
    this.#endTurnSoon();
  }

  onGone(socket: HttpSocket): void {
    this.#open.delete(socket);
    const place = this.#idle.lastIndexOf(socket);
    if (place !== -1) this.#idle.splice(place, 1);
  }

  closeIdle(): void {
    for (let socket = this.#idle.pop(); socket !== undefined; socket = this.#idle.pop()) socket.drop();
  }

  onDecodingGone(decoding: ContentDecoding): void {
    this.#decodings.delete(decoding);
  }

  onStale(exchange: Exchange): void {
    exchange.repeated = exchange.written;
    exchange.formAgain();
    this.#sendFresh(exchange);
  }

  #sendFresh(exchange: Exchange): void {
    if (this.#stopped) {
      const detail = "the upstream client was stopped";
      exchange.owner.onExchangeEnd(
        exchange.written ? lostAnswer("abandoned", null, detail) : { kind: "not-sent", detail },
      );
      return;
    }
    const socket = new HttpSocket(this, this.#peer, exchange);
    this.#open.add(socket);
    socket.connect();
  }

  #endTurnSoon(): void {
    if (this.#isTurnEndDue) return;
    this.#isTurnEndDue = true;
    this.#turnMs = this.#clock.now();
    setImmediate(this.#onTurnEnd);
  }

  /**
   * All requests of a turn of the event loop are written in a row, and then all of its answers told in a row: the kernel has to
   * wake the backend once and the clients once, and not for each, and the backend works while the clients are told.
   */
  #endTurn(): void {
    this.#isTurnEndDue = false;
    try {
      this.#unflushed.drain(flush);
      // Requests that a failed write has caused meanwhile are still to be written.
      if (this.#unflushed.count === 0) this.room.clear();
      this.#tellAnswers();
    } finally {
      // A failure in one must not affect the others.
      if (this.#unflushed.count + this.#answered.count > 0) this.#endTurnSoon();
    }
  }

  #tellAnswers(): void {
    if (this.#answered.count === 0) return;
    const nowMs = this.#clock.now();
    this.#answered.drain((exchange) => {
      if (exchange.heldBytes > 0) this.hold(-exchange.heldBytes);
      this.#tell(exchange, nowMs);
    });
  }

  #tell(exchange: Exchange, nowMs: number): void {
    const { answer } = exchange;
    exchange.answer = null;
    if (answer === null || exchange.isCut) return;
    if (answer.contentCodings.length > 0 && exchange.owner.readsBody(answer.status)) this.#decode(exchange, answer);
    else exchange.owner.onExchangeEnd(answer, nowMs);
  }

  #decode(exchange: Exchange, answer: HttpAnswer): void {
    const decoding = new ContentDecoding(this, exchange, answer);
    this.#decodings.add(decoding);
    decoding.start();
  }

  #takeIdle(nowMs: number): HttpSocket | null {
    for (;;) {
      const socket = this.#idle.pop();
      if (socket === undefined) return null;
      if (socket.idleUntilMs > nowMs) return socket;
      socket.drop();
    }
  }

  #sweepIdle(): void {
    const now = this.#clock.now();
    for (const socket of this.#idle.filter((idle) => idle.idleUntilMs <= now)) socket.drop();
    if (this.#idle.length > 0) return;
    this.#cancelSweep?.();
    this.#cancelSweep = null;
  }
}

function flush(socket: HttpSocket): void {
  socket.flush();
}

function tlsOptions(origin: Origin, files: TlsFiles): TLSOptions | null {
  if (!origin.secure) return null;
  return {
    rejectUnauthorized: true,
    // The connection is to an address; the certificate must be for the name. An address is checked against itself.
    // The dot at the end of a name in full belongs to DNS, and to no certificate. Source: RFC 6066, section 3.
    ...(isIP(origin.hostname) === 0 ? { serverName: origin.hostname.replace(/\.$/, "") } : {}),
    ...(files.ca === null ? {} : { ca: files.ca }),
    ...(files.cert === null ? {} : { cert: files.cert }),
    ...(files.key === null ? {} : { key: files.key }),
  };
}
