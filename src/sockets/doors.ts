import { readFileSync } from "node:fs";
import type { Config, ListenTls } from "../config/schema.ts";
import { type Listener, type ListenerParts, listen, type WebSocketLimits } from "./listener.ts";
import { startTlsFront, type TlsFront } from "./tls-front.ts";

/** What clients and backends come in by, however it is built. */
export type Doors = Pick<Listener, "port" | "publish" | "reconfigure" | "stopAccepting" | "stop">;

/**
 * Opens the public listener, or the TLS front and the listener behind it.
 *
 * Errors: throws where the port or a certificate cannot be used.
 */
export function openDoors(
  { host, port, reusePort, tls }: Config["listen"],
  websocket: WebSocketLimits,
  wired: ListenerParts,
): Doors {
  const common = { websocket };
  if (tls === null || tls.clientCaFile === null || tls.clientCert === "none") {
    const files = tls === null ? null : readCertificate(tls);
    return listen({ ...common, host, port, reusePort, tls: files, peerBehind: null }, wired);
  }
  const { certFile, keyFile, clientCaFile, clientCert } = tls;
  let front: TlsFront | null = null;
  const inner = listen(
    {
      ...common,
      host: "127.0.0.1",
      port: 0,
      reusePort: false,
      tls: null,
      peerBehind: (peerPort) => front?.peerBehind(peerPort) ?? null,
    },
    wired,
  );
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
function readCertificate({ certFile, keyFile }: ListenTls): { cert: string; key: string } {
  return { cert: readFileSync(certFile, "utf8"), key: readFileSync(keyFile, "utf8") };
}
