import type { Server, SocketAddress } from "bun";
import type { TlsFiles } from "../config/tls-files.ts";
import type { Lifecycle } from "../core/lifecycle.ts";
import type { Meters } from "../core/meters.ts";
import type { Fanout } from "../core/ports/client-socket.ts";
import type { PlainRequest } from "../core/ports/plain-request.ts";
import type { ClientEndpoint } from "../protocol/client-endpoint.ts";
import { CLOSE } from "../protocol/close-causes.ts";
import { type Refusal, refusal } from "../protocol/error-codes.ts";
import type { Report } from "../protocol/notices.ts";
import { refusalResponse } from "../protocol/refusal-response.ts";
import { steerToLater } from "./accept-steering.ts";
import { plainAddress } from "./addresses.ts";
import type { BunSocket, SharedBySockets } from "./bun-socket.ts";
import { closeCauseFromBun } from "./frame-violations.ts";
import { announceKeepAlive, type KeepAlive, keepAliveOf } from "./keep-alive.ts";
import { type Acceptor, PortHolder } from "./port-holder.ts";
import { assertPortIsFree } from "./port-probe.ts";
import { RequestRuns } from "./request-runs.ts";
import { isOneHost, RequestTargets } from "./request-target.ts";
import { TcpInfo } from "./tcp-info.ts";
import { TurnWrites } from "./turn-writes.ts";
import type { Peer, Upgrade } from "./upgrade.ts";

const utf8 = new TextEncoder();

/** Larger than every limit of hubwire: Bun would answer with an empty 413, so the REST API counts for itself. */
const MAX_REQUEST_BODY_BYTES = 2 ** 40;

/** An unread body that is announced as this short is read and dropped, so that the connection can be used again. */
const MAX_DRAINED_BYTES = 65_536;

/** Settings of every WebSocket of a listener. */
export interface WebSocketLimits {
  readonly compression: boolean;
  readonly maxMessageBytes: number;
  readonly maxOutboxBytes: number;
}

export interface ListenerOptions {
  readonly host: string;
  /** 0: the system chooses. */
  readonly port: number;
  /** Whether other processes may listen at the port too. */
  readonly reusePort: boolean;
  /** How long a connection for plain HTTP may be silent between requests, or in the middle of one. */
  readonly keepAliveMs: number;
  /**
   * Certificate and key; null listens without TLS. With `ca` only callers with a certificate of these authorities are accepted; which one
   * it was is not told.
   */
  readonly tls: TlsFiles | null;
  /** May change while the listener is open; `reconfigure` follows. */
  readonly websocket: WebSocketLimits;
  /** Knows the peers behind a TLS front; null where clients connect directly. */
  readonly peerBehind: ((port: number) => Peer | null) | null;
}

export interface Listener extends Fanout {
  readonly port: number;
  /** Takes over changed limits, for open connections too; their compression stays as it was agreed on. */
  reconfigure(): void;
  /**
   * Shows new connections another certificate from now on; open ones stay as they are. For a listener with TLS.
   *
   * Errors: throws where the port cannot be opened once more; then nothing has changed.
   */
  renew(tls: TlsFiles): void;
  /** Accepts no more connections; open ones stay. */
  stopAccepting(): void;
  /** Cuts what is still open. May be called twice. */
  stop(): Promise<void>;
}

/** The parts to which the listener hands requests and sockets. */
export interface ListenerParts {
  /** Null for a listener without client endpoint: there, a WebSocket handshake is an ordinary request. */
  readonly upgrade: Upgrade | null;
  readonly lifecycle: Lifecycle;
  readonly report: Report;
  readonly meters: Meters;
  /** Refuses a request before it is known whose it is, and says so in the log. */
  readonly refuse: (request: Request, peerAddress: string, refused: Refusal) => Response;
  /** Answers what is not the client endpoint; null: the path does not exist. */
  readonly route: (call: PlainRequest) => Response | Promise<Response> | null;
}

/**
 * Opens the listener for clients and for plain HTTP, over Bun.serve.
 *
 * Shape:  the client endpoint goes to `upgrade`; everything else to `route`, whose null means 404.
 * Errors: nothing that a handler throws may reach Bun, which would end the process; it becomes a `fault` of the report.
 */
export function listen(options: ListenerOptions, parts: ListenerParts): Listener {
  const isRenewable = options.tls !== null;
  if (isRenewable && !options.reusePort) assertPortIsFree(options);
  const keepAlive = keepAliveOf(options.keepAliveMs);
  const writes = new TurnWrites();
  const bound = { port: options.port };
  const shared = {
    options: options.websocket,
    writes,
    isEncrypted: isRenewable,
    tcpInfo: TcpInfo.open(),
    localPort: (): number => bound.port,
    meters: parts.meters,
  };
  const common = {
    peerBehind: options.peerBehind,
    parts,
    keepAlive,
    targets: new RequestTargets(),
    runs: new RequestRuns(),
    isLeaving: (server: Server<BunSocket>): boolean => server !== servers.current.server,
  };
  const open = (tls: TlsFiles | null) =>
    openServer({ ...options, port: bound.port, reusePort: options.reusePort || isRenewable, tls }, common, shared);
  const servers = new PortHolder(open(options.tls));
  bound.port = servers.current.server.port ?? 0;
  return {
    port: bound.port,
    publish: (topic, frame) => {
      writes.flush();
      publishOn(servers.current, topic, frame, shared);
      // A topic is known to the server that accepted its sockets.
      for (const earlier of servers.earlier) publishOn(earlier, topic, frame, shared);
    },
    reconfigure: () => servers.applyToAll((opened) => opened.reconfigure()),
    renew: (tls) => {
      servers.endLinger();
      const next = open(tls);
      const isSteered = !options.reusePort && steerToLater(bound.port);
      servers.handOver(next, { isSteered, lingerMs: keepAlive.lingerMs });
    },
    stopAccepting: () => servers.stopAccepting(),
    stop: async () => {
      writes.flush();
      await servers.stop();
    },
  };
}

function publishOn(
  { server }: OpenedServer,
  topic: string,
  frame: string | Uint8Array,
  { options, meters }: Pick<SharedBySockets, "options" | "meters">,
): void {
  meters.sent(frame.length, server.subscriberCount(topic));
  server.publish(topic, frame as string | Uint8Array<ArrayBuffer>, options.compression);
}

/** Bun's server of one certificate. */
interface OpenedServer extends Acceptor {
  readonly server: Server<BunSocket>;
  reconfigure(): void;
}

function openServer(
  options: ListenerOptions,
  common: Omit<Answering, "server">,
  shared: Parameters<typeof websocketHandlers>[0],
): OpenedServer {
  const { report, lifecycle } = common.parts;
  const serving = () => ({
    hostname: options.host,
    port: options.port,
    reusePort: options.reusePort,
    ...(options.tls === null ? {} : { tls: tlsOptions(options.tls) }),
    maxRequestBodySize: MAX_REQUEST_BODY_BYTES,
    idleTimeout: common.keepAlive.idleTimeoutSeconds,
    fetch: (request: Request) => answer(request, answering),
    error: (error: Error) => {
      report({ kind: "fault", where: "request", error });
      return refusalResponse(refusal("internal_error", "internal error; the log has the details", "service"));
    },
    websocket: websocketHandlers(shared, lifecycle, report),
  });
  const server = Bun.serve<BunSocket>(serving());
  const answering: Answering = { server, ...common };
  return {
    server,
    reconfigure: () => void server.reload(serving()),
    stop: (closeOpenOnes) => server.stop(closeOpenOnes),
  };
}

function tlsOptions({ cert, key, ca }: TlsFiles): Bun.TLSOptions {
  return {
    ...(cert !== null && { cert }),
    ...(key !== null && { key }),
    ...(ca !== null && { ca, requestCert: true, rejectUnauthorized: true }),
  };
}

/** The parts that answer the requests of one listener. */
interface Answering {
  readonly server: Server<BunSocket>;
  readonly peerBehind: ListenerOptions["peerBehind"];
  readonly parts: ListenerParts;
  readonly keepAlive: KeepAlive;
  readonly targets: RequestTargets;
  readonly runs: RequestRuns;
  /** Whether a server has handed its port over, so that its connections for plain HTTP should end. */
  readonly isLeaving: (server: Server<BunSocket>) => boolean;
}

/** Without a promise of its own where nothing has to be waited for: each costs a call to the REST API something. */
function answer(request: Request, answering: Answering): Response | Promise<Response | undefined> {
  const { peerBehind, parts, server, keepAlive, targets } = answering;
  const target = isOneHost(request.headers.get("host")) ? targets.read(request.url) : null;
  if (target === null)
    return refuse(
      request,
      answering,
      refusal("bad_request", "the request must have exactly one valid Host header", "Host"),
    );
  const { path, query } = target;
  if (peerBehind !== null && peerOf(server.requestIP(request), peerBehind) === null) {
    return refuse(request, answering, NO_PEER);
  }
  const { upgrade } = parts;
  if (upgrade !== null) {
    const endpoint = upgrade.findEndpoint(path, query);
    if (endpoint.kind === "endpoint") return connect(request, { upgrade, endpoint, query }, answering);
    if (endpoint.kind === "bad-hub") return refuse(request, answering, refusal("bad_hub", endpoint.sentence, "hub"));
  }
  const holdOpen = () => {
    server.timeout(request, 0);
    return () => server.timeout(request, keepAlive.idleTimeoutSeconds);
  };
  const routed = parts.route({ request, path, query, holdOpen });
  if (routed instanceof Promise) return routed.then((response) => finish(request, response, answering));
  const response = routed ?? refusalResponse(refusal("not_found", "this path does not exist", "path"));
  return finish(request, response, answering);
}

function finish(request: Request, response: Response, answering: Answering): Response {
  closeIfDue(request, response, answering);
  announceKeepAlive(request, response, answering.keepAlive);
  return response;
}

const NO_PEER = refusal("bad_request", "connect to the public listener", "port");

type FoundEndpoint = Extract<ClientEndpoint, { kind: "endpoint" }>;

async function connect(
  request: Request,
  { upgrade, endpoint, query }: { readonly upgrade: Upgrade; readonly endpoint: FoundEndpoint; readonly query: string },
  answering: Answering,
): Promise<Response | undefined> {
  const { server, peerBehind } = answering;
  // To be read before anything is awaited: it is gone once the client is.
  const address = server.requestIP(request);
  const peer = peerOf(address, peerBehind);
  if (address === null || peer === null) return refuse(request, answering, NO_PEER);
  const { hub, clientPath } = endpoint;
  const response = await upgrade.handle({ request, peer, port: address.port, hub, clientPath, query }, server);
  return response === undefined ? undefined : closeIfDue(request, response, answering);
}

function refuse(request: Request, answering: Answering, refused: Refusal): Response {
  const { parts, server, peerBehind } = answering;
  const address = server.requestIP(request);
  // A client that does not come through the TLS front is named by the address that it comes from.
  const peerAddress = peerOf(address, peerBehind)?.address ?? address?.address ?? "";
  return closeIfDue(request, parts.refuse(request, peerAddress, refused), answering);
}

/**
 * Has Bun close the connection behind an answer where it must not go on: Bun would read the rest of a body that is not wanted
 * and has no bound, or one request of the same connection after the other.
 */
function closeIfDue(request: Request, response: Response, { server, runs, isLeaving }: Answering): Response {
  const isRunOver = runs.isPastEnd(() => server.requestIP(request));
  if (isRunOver || isLeaving(server) || leavesMuchUnread(request)) response.headers.set("Connection", "close");
  return response;
}

function leavesMuchUnread({ headers, bodyUsed }: Request): boolean {
  if (bodyUsed) return false;
  return headers.has("transfer-encoding") || Number(headers.get("content-length") ?? 0) > MAX_DRAINED_BYTES;
}

function peerOf(address: SocketAddress | null, peerBehind: ListenerOptions["peerBehind"]): Peer | null {
  if (address === null) return null;
  if (peerBehind !== null) return peerBehind(address.port);
  return { address: plainAddress(address.address), certThumbprint: null };
}

/**
 * The size to which a message may grow where deflate cannot shorten it, however the client's zlib is set: a compressing client must not be
 * refused for a message that would have passed uncompressed. Source: zlib, `deflateBound`, and the marker of a flush.
 */
function deflatedBound(byteCount: number): number {
  return byteCount + Math.ceil(byteCount / 8) + Math.ceil(byteCount / 64) + 16;
}

function websocketHandlers(
  shared: SharedBySockets & { readonly options: WebSocketLimits },
  lifecycle: Lifecycle,
  report: Report,
): Bun.WebSocketHandler<BunSocket> & { error: (first: unknown, second: unknown) => void } {
  const { options, meters } = shared;
  const { maxMessageBytes, maxOutboxBytes, compression } = options;
  return {
    // Bun measures a message as it comes and once more when it is inflated.
    maxPayloadLength: compression ? deflatedBound(maxMessageBytes) : maxMessageBytes,
    // hubwire keeps the bound (`BunSocket.send`); Bun's own would drop messages without a sign, so it lies beyond it.
    backpressureLimit: Math.min(2 * maxOutboxBytes + maxMessageBytes, 0x7fff_ffff),
    // Pings and their deadline are the core's: Bun's idle timeout never cuts a silent peer that gets messages.
    idleTimeout: 0,
    sendPings: false,
    // A dedicated compressor would cost 142-219 kB per connection as soon as a client offers it.
    perMessageDeflate: compression ? { compress: "shared", decompress: "shared" } : false,
    open(ws) {
      const first = ws.data.opened(ws, shared);
      lifecycle.opened(ws.data.connection, ws.data, first);
    },
    message(ws, message) {
      const bytes = typeof message === "string" ? utf8.encode(message) : message;
      meters.received(bytes.length);
      if (bytes.length > maxMessageBytes) lifecycle.close(ws.data.connection, CLOSE.messageTooBig);
      else lifecycle.received(ws.data.connection, message, bytes);
    },
    ping(ws, payload) {
      lifecycle.pinged(ws.data.connection, payload.length);
    },
    pong(ws, payload) {
      lifecycle.ponged(ws.data.connection, payload.length);
    },
    drain(ws) {
      ws.data.drained();
    },
    close(ws, code, reason) {
      ws.data.closed();
      lifecycle.closed(ws.data.connection, closeCauseFromBun(code, reason));
    },
    // Bun 1.4 gives the error first, other than its documentation says.
    error(first, second) {
      const error = first instanceof Error ? first : second;
      report({ kind: "fault", where: "WebSocket handler", error });
    },
  };
}
