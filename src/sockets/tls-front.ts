import { createHash } from "node:crypto";
import type { Socket, SocketHandler, TCPSocketListener } from "bun";
import type { TlsFiles } from "../config/tls-files.ts";
import type { Report } from "../protocol/notices.ts";
import { steerToLater } from "./accept-steering.ts";
import { plainAddress } from "./addresses.ts";
import { Pipe } from "./pipe.ts";
import { PortHolder } from "./port-holder.ts";
import { assertPortIsFree } from "./port-probe.ts";
import type { Peer } from "./upgrade.ts";

/** A client that has not finished its TLS handshake by then is cut. Bun rounds up to its next 4 s tick. */
const HANDSHAKE_TIMEOUT_SECONDS = 5;

/** How long a client may take to read what was sent before its connection ended. Rounded up likewise. */
const LINGER_SECONDS = 15;

/**
 * A client that reads nothing of what waits for it is cut after this long. Meanwhile the inner side is not read, so its end
 * would not be seen, and the core's own cut would not reach the client. Rounded up likewise.
 */
const STUCK_SECONDS = 20;

export interface TlsFrontOptions {
  readonly host: string;
  readonly port: number;
  /** In PEM; `ca` are the authorities that client certificates must come from. */
  readonly tls: TlsFiles;
  readonly clientCert: "optional" | "require";
  /** The plain listener on 127.0.0.1 that the decrypted bytes go to. */
  readonly innerPort: () => number;
}

/** The two ends of one client's connection. */
interface Link {
  readonly client: Socket<Link>;
  /** To the client; null until its handshake is done. */
  toClient: Pipe | null;
  /** To the inner listener; null until it is connected. */
  toInner: Pipe | null;
  innerPort: number;
  closed: boolean;
}

export interface TlsFront {
  readonly port: number;
  /** The peer whose bytes come from this local port; null for a connection that is not the front's. */
  peerBehind(port: number): Peer | null;
  /**
   * Shows new clients another certificate from now on, and asks them for one of these authorities; connected clients stay.
   *
   * Errors: throws where the port cannot be opened once more; then nothing has changed.
   */
  renew(tls: TlsFiles): void;
  stopAccepting(): void;
  stop(): void;
}

/**
 * Ends TLS where client certificates are asked for, and pipes the decrypted bytes unchanged to the inner listener.
 *
 *     client ══TLS══▶ front ──plain, 127.0.0.1:source port──▶ Bun.serve
 *                       └─ table: source port → address, thumbprint ◀─ asks ┘
 *
 * Why: Bun.serve checks client certificates but does not show them. Nothing is parsed or added on the way, so a client
 * cannot forge what the inner listener learns.
 * Source: the seed, `X-ASRS-Client-Cert-Thumbprint`; PROTOCOL.md, "Authentication of the client".
 */
export function startTlsFront(options: TlsFrontOptions, report: Report): TlsFront {
  const peers = new Map<number, Peer>();
  const links = new Set<Link>();
  assertPortIsFree(options);
  const open = (port: number, { cert, key, ca }: TlsFiles): TCPSocketListener<Link> => {
    const shared = { hostname: options.host, port, reusePort: true };
    return Bun.listen<Link>({
      ...shared,
      tls: {
        ...(cert !== null && { cert }),
        ...(key !== null && { key }),
        ...(ca !== null && { ca }),
        requestCert: true,
        rejectUnauthorized: options.clientCert === "require",
      },
      socket: clientHandlers(options, { peers, links, report }),
    });
  };
  const listeners = new PortHolder(open(options.port, options.tls));
  const { port } = listeners.current;
  return {
    port,
    peerBehind: (innerPort) => peers.get(innerPort) ?? null,
    renew: (tls) => {
      listeners.endLinger();
      const next = open(port, tls);
      listeners.handOver(next, { isSteered: steerToLater(port), lingerMs: HANDSHAKE_TIMEOUT_SECONDS * 1000 });
    },
    stopAccepting: () => listeners.stopAccepting(),
    stop: () => {
      void listeners.stop();
      for (const link of links) endLink(link);
    },
  };
}

interface FrontState {
  readonly peers: Map<number, Peer>;
  readonly links: Set<Link>;
  readonly report: Report;
}

function clientHandlers(options: TlsFrontOptions, state: FrontState): SocketHandler<Link> {
  return {
    open(socket) {
      socket.data = { client: socket, toClient: null, toInner: null, innerPort: 0, closed: false };
      state.links.add(socket.data);
      socket.timeout(HANDSHAKE_TIMEOUT_SECONDS);
    },
    handshake(socket, succeeded) {
      const certificate = succeeded ? readCertificate(socket) : "refused";
      if (certificate === "refused" || (certificate === null && options.clientCert === "require")) {
        socket.terminate();
        return;
      }
      socket.timeout(0);
      socket.data.toClient = new Pipe(socket);
      // Bytes that come before the inner connection is open wait in the kernel.
      socket.pause();
      const peer = { address: plainAddress(socket.remoteAddress), certThumbprint: certificate };
      connectInner(socket, peer, options, state).catch((error) => {
        state.report({ kind: "fault", where: "TLS front", error });
        socket.terminate();
      });
    },
    data(socket, bytes) {
      const { toInner } = socket.data;
      if (toInner === null) socket.data.toClient?.keepEarly(bytes);
      else toInner.write(bytes, socket);
    },
    drain(socket) {
      const { toClient, closed } = socket.data;
      toClient?.drained();
      if (!closed) socket.timeout(toClient?.isWaiting === true ? STUCK_SECONDS : 0);
    },
    timeout(socket) {
      socket.terminate();
    },
    close(socket) {
      state.links.delete(socket.data);
      endLink(socket.data);
    },
    error(socket) {
      endLink(socket.data);
    },
  };
}

async function connectInner(
  client: Socket<Link>,
  peer: Peer,
  options: TlsFrontOptions,
  state: FrontState,
): Promise<void> {
  const link = client.data;
  await Bun.connect<Link>({
    hostname: "127.0.0.1",
    port: options.innerPort(),
    data: link,
    socket: {
      open(inner) {
        inner.data = link;
        if (link.closed) {
          inner.end();
          return;
        }
        link.innerPort = inner.localPort;
        // Before the first byte goes out, so that the inner listener finds the peer when it reads the request.
        state.peers.set(inner.localPort, peer);
        link.toInner = new Pipe(inner);
        for (const bytes of link.toClient?.takeEarly() ?? []) link.toInner.write(bytes, client);
        client.resume();
      },
      data(inner, bytes) {
        link.toClient?.write(bytes, inner);
        if (link.toClient?.isWaiting === true && !link.closed) client.timeout(STUCK_SECONDS);
      },
      drain() {
        link.toInner?.drained();
      },
      close() {
        state.peers.delete(link.innerPort);
        endLink(link);
      },
      error() {
        endLink(link);
      },
    },
  });
}

/** Ends both sides; what one side still has to send is sent first. */
function endLink(link: Link): void {
  if (link.closed) return;
  link.closed = true;
  link.client.timeout(LINGER_SECONDS);
  link.toClient?.end();
  link.toInner?.end();
}

/** The SHA-1 thumbprint of a certificate that the authorities vouch for; null without one; `refused` for any other. */
function readCertificate(socket: Socket<Link>): string | null | "refused" {
  const certificate = socket.getPeerCertificate();
  const raw: unknown = certificate?.raw;
  if (!(raw instanceof Uint8Array)) return null;
  // `authorized` and not the handshake's flag, which is true for an untrusted certificate too.
  if (!socket.authorized) return "refused";
  return createHash("sha1").update(raw).digest("hex").toUpperCase();
}
