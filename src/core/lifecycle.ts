import { type ClientProtocols, type Frame, protocolOf } from "../protocol/client-protocol.ts";
import { CLOSE, type ConnectionEnd } from "../protocol/close-causes.ts";
import type { Report } from "../protocol/notices.ts";
import type { Payload } from "../protocol/payload.ts";
import type { Arrivals } from "./arrivals.ts";
import { type CommandOptions, Commands } from "./commands.ts";
import type { Connection } from "./connection.ts";
import type { Departure } from "./departure.ts";
import { Liveness, type LivenessOptions } from "./liveness.ts";
import type { Membership } from "./membership.ts";
import type { ClientSocket } from "./ports/client-socket.ts";
import type { Clock } from "./ports/clock.ts";
import type { Upstream } from "./ports/upstream.ts";
import type { Pressure } from "./pressure.ts";
import type { Registry } from "./registry.ts";
import { type SendRateOptions, SendRates } from "./send-rates.ts";

export interface LifecycleOptions extends CommandOptions, LivenessOptions, SendRateOptions {}

/** What a TLS record holds at most, and what it adds: that of TLS 1.2 with AES-GCM; TLS 1.3 adds 22. Source: RFC 5246, RFC 5288. */
const TLS_RECORD_BYTES = 16_384;
const TLS_RECORD_OVERHEAD_BYTES = 29;

/**
 * What a client's frame takes on its connection: the head, mask included, and TLS records of its own, as clients mostly send
 * them. Source: RFC 6455, section 5.2.
 */
function frameBytes(payloadBytes: number, isEncrypted: boolean): number {
  const bytes = payloadBytes + (payloadBytes < 126 ? 6 : payloadBytes < 65_536 ? 8 : 14);
  return isEncrypted ? bytes + Math.ceil(bytes / TLS_RECORD_BYTES) * TLS_RECORD_OVERHEAD_BYTES : bytes;
}

/**
 * The life of a connection from its open socket to its disconnect event: the socket adapter's one door into the core.
 *
 * Order:  `opened` once, then `received` and `heard` any number of times, then `closed` once.
 */
export class Lifecycle {
  readonly #options: LifecycleOptions;
  readonly #registry: Registry;
  readonly #arrivals: Arrivals;
  readonly #membership: Membership;
  readonly #departure: Departure;
  readonly #pressure: Pressure;
  readonly #clock: Clock;
  readonly #report: Report;
  readonly #liveness: Liveness;
  readonly #protocols: ClientProtocols;
  readonly #commands: Commands;
  /** Set at shutdown: how those end whose handshake was just being finished. */
  #arrivalsEnd: ConnectionEnd | null = null;

  constructor(parts: {
    options: LifecycleOptions;
    protocols: ClientProtocols;
    upstream: Upstream;
    registry: Registry;
    arrivals: Arrivals;
    membership: Membership;
    pressure: Pressure;
    departure: Departure;
    clock: Clock;
    report: Report;
  }) {
    this.#options = parts.options;
    this.#protocols = parts.protocols;
    this.#registry = parts.registry;
    this.#arrivals = parts.arrivals;
    this.#membership = parts.membership;
    this.#departure = parts.departure;
    this.#pressure = parts.pressure;
    this.#clock = parts.clock;
    this.#report = parts.report;
    this.#liveness = new Liveness(parts.options, parts.clock, (connection) =>
      this.close(connection, CLOSE.pingTimeout),
    );
    this.#commands = new Commands({
      ...parts,
      close: (connection, cause) => this.close(connection, cause),
      onDrained: (connection) => this.#depart(connection),
      // A pong that came during the pause has not been read yet: its deadline begins anew.
      onResumed: (connection) => this.#liveness.heard(connection),
    });
  }

  /** The handshake is done. The connect answer's message goes out first, then what waited for the handshake. */
  opened(connection: Connection, socket: ClientSocket, first: Payload | null): void {
    connection.socket = socket;
    connection.messageAtTick = this.#liveness.tick;
    this.#membership.enter(connection);
    this.#liveness.add(connection);
    this.#report({ kind: "connection-opened", facts: connection });
    const { end } = connection;
    connection.end = null;
    if (first !== null) this.#sendFirst(connection, socket, first);
    for (const payload of this.#arrivals.take(connection)) this.#sendFirst(connection, socket, payload);
    if (end !== null) this.close(connection, end);
    if (this.#arrivalsEnd !== null) this.close(connection, this.#arrivalsEnd);
  }

  /** From now on a connection that opens is closed at once. */
  closeArrivals(cause: ConnectionEnd): void {
    this.#arrivalsEnd = cause;
  }

  /** A complete message has arrived; `bytes` are those of the frame, which for a binary one is the same object. */
  received(connection: Connection, frame: Frame, bytes: Uint8Array): void {
    // After the decision to close nothing more is taken from the client.
    const { socket } = connection;
    if (socket === null || connection.end !== null || connection.isDisowned) return;
    this.#liveness.heard(connection);
    const { length } = bytes;
    connection.frameBytes += frameBytes(length, socket.isEncrypted);
    connection.messageAtTick = this.#liveness.tick;
    if (!this.#withinRates(connection, length)) this.close(connection, CLOSE.rateLimited);
    else this.#commands.received(connection, frame, bytes);
  }

  /** A ping has arrived; its pong, of the same size, is on its way. */
  pinged(connection: Connection, byteCount: number): void {
    const { socket } = connection;
    if (socket === null || connection.end !== null) return;
    this.#liveness.heard(connection);
    this.#pressure.moved(byteCount);
    connection.frameBytes += frameBytes(byteCount, socket.isEncrypted);
    this.#chargeControlFrame(connection, byteCount);
  }

  /** A pong has arrived, asked for or not. */
  ponged(connection: Connection, byteCount: number): void {
    const { socket } = connection;
    if (socket === null || connection.end !== null) return;
    const isAnswer = this.#liveness.isPinged(connection);
    this.#liveness.heard(connection);
    connection.frameBytes += frameBytes(byteCount, socket.isEncrypted);
    if (!isAnswer) this.#chargeControlFrame(connection, byteCount);
  }

  /** Ends a connection from our side, one that is not open yet as soon as it is. The first cause stays; a second call does nothing. */
  close(connection: Connection, cause: ConnectionEnd): void {
    const { socket } = connection;
    if (connection.end !== null) return;
    if (socket === null) {
      if (this.#arrivals.has(connection)) connection.end = cause;
      return;
    }
    connection.end = cause;
    // A peer that does not answer or does not read gets no close frame: it would wait behind what is not read.
    // Nor does a client in the middle of a message: the part that has arrived would be kept until the peer has closed too.
    if (cause.code === 1006 || cause === CLOSE.slowConsumer || cause === CLOSE.bufferLimit) socket.terminate();
    else socket.close(cause.code, cause.reason);
  }

  /** The socket has closed, by whichever side; `seen` is what the socket says of it. */
  closed(connection: Connection, seen: ConnectionEnd): void {
    const end = connection.end ?? seen;
    connection.end = end;
    connection.socket = null;
    this.#membership.exit(connection);
    this.#liveness.remove(connection);
    this.#report({ kind: "connection-closed", facts: connection, end });
    this.#commands.closed(connection);
  }

  /** Ends a connection: at once where no call is in flight, else when its answer has been delivered. */
  closeAfterCall(connection: Connection, cause: ConnectionEnd): void {
    if (connection.inFlight !== null) this.#commands.closeAfterCall(connection, cause);
    else this.close(connection, cause);
  }

  /** The options have changed: they hold for open connections too. */
  reconfigure(): void {
    this.#liveness.reconfigure();
    for (const connection of this.#registry.values()) connection.rates = null;
  }

  /** Gives up the messages in flight and waiting. */
  abandonMessages(): void {
    this.#commands.abandon();
  }

  stop(): void {
    this.#liveness.stop();
    this.#commands.stop();
  }

  #sendFirst(connection: Connection, socket: ClientSocket, payload: Payload): void {
    // An earlier one has found the outbox full.
    if (connection.end !== null) return;
    const frame = protocolOf(this.#protocols, connection).encode(payload);
    if (socket.send(frame) === "full") this.close(connection, CLOSE.slowConsumer);
    this.#pressure.moved(frame.length);
  }

  #ratesOf(connection: Connection, now: number): SendRates {
    connection.rates ??= new SendRates(this.#options, now);
    return connection.rates;
  }

  #withinRates(connection: Connection, byteCount: number): boolean {
    const { messagesPerSecond, bytesPerSecond } = this.#options;
    if (messagesPerSecond === 0 && bytesPerSecond === 0) return true;
    const now = this.#clock.now();
    return this.#ratesOf(connection, now).takeMessage(byteCount, now);
  }

  #chargeControlFrame(connection: Connection, byteCount: number): void {
    const now = this.#clock.now();
    if (!this.#ratesOf(connection, now).takeControlFrame(byteCount, now)) this.close(connection, CLOSE.rateLimited);
  }

  #depart(connection: Connection): void {
    if (connection.isDisowned) {
      this.#departure.handOver();
      return;
    }
    void this.#departure.send(connection, connection.end ?? CLOSE.networkLost);
  }
}
