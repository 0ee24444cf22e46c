import { isDeepStrictEqual } from "node:util";
import type { ApiListener, Config, ListenTls } from "../config/schema.ts";
import { type Renewal, readTlsFiles, type TlsFiles } from "../config/tls-files.ts";
import { type Listener, type ListenerOptions, type ListenerParts, listen, type WebSocketLimits } from "./listener.ts";
import { startTlsFront, type TlsFront } from "./tls-front.ts";

/** The listeners for clients and backends, however they are built. */
export interface Doors extends Pick<Listener, "port" | "publish" | "reconfigure" | "stopAccepting" | "stop"> {
  /** The port of the REST API's own listener; null where it shares the public one. */
  readonly apiPort: number | null;
  /**
   * Reads the certificate's files again; where they have changed, new connections get the new certificate, and open ones stay. Where
   * they cannot be used or a port cannot be opened once more, the previous certificate stays in use, and the next call tries again.
   */
  renewCertificates(): Renewal[];
}

/** The parts to which the two listeners hand requests and sockets. */
export interface DoorsParts {
  readonly clients: ListenerParts;
  /** Used where the configuration gives the REST API a listener of its own. */
  readonly api: ListenerParts;
}

type PublicDoors = Omit<Doors, "apiPort" | "renewCertificates"> & Pick<Listener, "renew">;

/**
 * Opens the public listener, or the TLS front and the listener behind it, and the REST API's own listener where there is one.
 *
 * Errors: throws where a port or a certificate cannot be used; nothing is open then.
 */
export function openDoors(options: Config["listen"], websocket: WebSocketLimits, parts: DoorsParts): Doors {
  const files = readListenerFiles(options.tls);
  if (options.api === null) {
    const open = openPublicDoors(options, files, { websocket, wired: parts.clients });
    return { ...open, apiPort: null, renewCertificates: renewing(options.tls, files, [open]) };
  }
  // First: if its port is taken, no client has been accepted in vain.
  const api = openApiListener(options, options.api, { files, websocket, wired: parts.api });
  let open: PublicDoors;
  try {
    open = openPublicDoors(options, files, { websocket, wired: parts.clients });
  } catch (error) {
    void api.stop();
    throw error;
  }
  return {
    ...open,
    apiPort: api.port,
    renewCertificates: renewing(options.tls, files, [open, api]),
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
 * Opens the REST API's own listener. Client certificates need no front here: the API only demands that there
 * is one (decision 0019).
 */
function openApiListener(
  { reusePort, keepAliveMs, tls }: Config["listen"],
  { host, port }: ApiListener,
  { files, ...on }: ListenOn & { readonly files: TlsFiles | null },
): Listener {
  const isRequired = tls?.clientCert === "require";
  return openListener({ host, port, reusePort, keepAliveMs }, { ...on, files, isRequired });
}

/** What a listener serves. */
interface ListenOn {
  readonly websocket: WebSocketLimits;
  readonly wired: ListenerParts;
}

/** Opens a listener without a front. `isRequired`: clients without a certificate are refused. */
function openListener(
  address: Pick<ListenerOptions, "host" | "port" | "reusePort" | "keepAliveMs">,
  on: ListenOn & { readonly files: TlsFiles | null; readonly isRequired: boolean },
): Listener {
  const { websocket, wired, files, isRequired } = on;
  // Without the authorities no client is asked for a certificate.
  const shown = (read: TlsFiles): TlsFiles => (isRequired ? read : { ...read, ca: null });
  const tls = files === null ? null : shown(files);
  const listener = listen({ ...address, tls, websocket, peerBehind: null }, wired);
  return { ...listener, renew: (renewed) => listener.renew(shown(renewed)) };
}

function openPublicDoors(
  { host, port, reusePort, keepAliveMs, tls }: Config["listen"],
  files: TlsFiles | null,
  on: ListenOn,
): PublicDoors {
  if (tls === null || files === null || tls.clientCert === "none") {
    return openListener({ host, port, reusePort, keepAliveMs }, { ...on, files, isRequired: false });
  }
  const { clientCert } = tls;
  const { websocket, wired } = on;
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
    opened = startTlsFront({ host, port, tls: files, clientCert, innerPort }, wired.report);
  } catch (error) {
    void inner.stop();
    throw error;
  }
  front = opened;
  return {
    port: opened.port,
    publish: (topic, frame) => inner.publish(topic, frame),
    reconfigure: () => inner.reconfigure(),
    renew: (renewed) => opened.renew(renewed),
    stopAccepting: () => opened.stopAccepting(),
    stop: async () => {
      await inner.stop();
      opened.stop();
    },
  };
}

function readListenerFiles(tls: ListenTls | null): TlsFiles | null {
  if (tls === null) return null;
  try {
    return readTlsFiles({ ...tls, caFile: tls.clientCaFile });
  } catch (error) {
    throw new Error(`listen.${reasonOf(error)}`);
  }
}

function renewing(
  tls: ListenTls | null,
  opened: TlsFiles | null,
  listeners: readonly Pick<Listener, "renew">[],
): Doors["renewCertificates"] {
  const where = "listen.tls";
  let inForce = opened;
  return () => {
    try {
      const files = readListenerFiles(tls);
      if (files === null || isDeepStrictEqual(files, inForce)) return [];
      // Where one of them fails, the next call gives it to all of them again.
      for (const listener of listeners) listener.renew(files);
      inForce = files;
      return [{ where, fault: null }];
    } catch (error) {
      return [{ where, fault: reasonOf(error) }];
    }
  };
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : "cannot be used";
}
