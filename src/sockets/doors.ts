import { readFileSync } from "node:fs";
import type { ApiListener, Config, ListenTls } from "../config/schema.ts";
import {
  type Listener,
  type ListenerCertificate,
  type ListenerOptions,
  type ListenerParts,
  listen,
  type WebSocketLimits,
} from "./listener.ts";
import { startTlsFront, type TlsFront } from "./tls-front.ts";

/** What clients and backends come in by, however it is built. */
export interface Doors extends Pick<Listener, "port" | "publish" | "reconfigure" | "stopAccepting" | "stop"> {
  /** The port of the REST API's own listener; null where it shares the public one. */
  readonly apiPort: number | null;
}

/** The parts to which the two listeners hand requests and sockets. */
export interface DoorsParts {
  readonly clients: ListenerParts;
  /** Used where the configuration gives the REST API a listener of its own. */
  readonly api: ListenerParts;
}

type PublicDoors = Omit<Doors, "apiPort">;

/**
 * Opens the public listener, or the TLS front and the listener behind it, and the REST API's own listener where there is one.
 *
 * Errors: throws where a port or a certificate cannot be used; nothing is open then.
 */
export function openDoors(options: Config["listen"], websocket: WebSocketLimits, parts: DoorsParts): Doors {
  if (options.api === null) return { ...openPublicDoors(options, websocket, parts.clients), apiPort: null };
  // First: were its port taken, clients would have been let in for nothing.
  const api = openApiListener(options, options.api, { websocket, wired: parts.api });
  let open: PublicDoors;
  try {
    open = openPublicDoors(options, websocket, parts.clients);
  } catch (error) {
    void api.stop();
    throw error;
  }
  return {
    ...open,
    apiPort: api.port,
    stopAccepting: () => {
      open.stopAccepting();
      api.stopAccepting();
    },
    stop: async () => {
      await Promise.all([open.stop(), api.stop()]);
    },
  };
}

/**
 * Opens the REST API's own listener. Client certificates need no front here: nobody asks whose certificate it was, only that there
 * is one (decision 0019).
 */
function openApiListener(
  { reusePort, keepAliveMs, tls }: Config["listen"],
  { host, port }: ApiListener,
  { websocket, wired }: { readonly websocket: WebSocketLimits; readonly wired: ListenerParts },
): Listener {
  const requiredCa = tls?.clientCert === "require" ? tls.clientCaFile : null;
  const certificate = tls === null ? null : readCertificate(tls, requiredCa);
  return listen({ host, port, reusePort, keepAliveMs, tls: certificate, websocket, peerBehind: null }, wired);
}

function openPublicDoors(
  { host, port, reusePort, keepAliveMs, tls }: Config["listen"],
  websocket: WebSocketLimits,
  wired: ListenerParts,
): PublicDoors {
  if (tls === null || tls.clientCaFile === null || tls.clientCert === "none") {
    const certificate = tls === null ? null : readCertificate(tls, null);
    return listen({ websocket, host, port, reusePort, keepAliveMs, tls: certificate, peerBehind: null }, wired);
  }
  const { certFile, keyFile, clientCaFile, clientCert } = tls;
  let front: TlsFront | null = null;
  const behind: ListenerOptions = {
    websocket,
    host: "127.0.0.1",
    port: 0,
    reusePort: false,
    keepAliveMs,
    tls: null,
    peerBehind: (peerPort) => front?.peerBehind(peerPort) ?? null,
  };
  const inner = listen(behind, wired);
  const innerPort = () => inner.port;
  let opened: TlsFront;
  try {
    opened = startTlsFront({ host, port, certFile, keyFile, clientCaFile, clientCert, innerPort }, wired.report);
  } catch (error) {
    void inner.stop();
    throw error;
  }
  front = opened;
  return {
    port: opened.port,
    publish: (topic, frame) => inner.publish(topic, frame),
    reconfigure: () => inner.reconfigure(),
    stopAccepting: () => opened.stopAccepting(),
    stop: async () => {
      await inner.stop();
      opened.stop();
    },
  };
}

/** Read once: a reload that finds the files changed or gone must not fail half-way. A new certificate needs a restart. */
function readCertificate({ certFile, keyFile }: ListenTls, requiredCaFile: string | null): ListenerCertificate {
  return {
    cert: readFileSync(certFile, "utf8"),
    key: readFileSync(keyFile, "utf8"),
    requiredCa: requiredCaFile === null ? null : readFileSync(requiredCaFile, "utf8"),
  };
}
