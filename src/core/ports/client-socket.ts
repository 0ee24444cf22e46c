import type { Frame } from "../../protocol/client-protocol.ts";

/** What a client's TCP connection has carried, as the system counts it. Only growth has a meaning. Units: bytes. */
export interface Traffic {
  /** Received from the client, bytes of an incomplete message included. */
  readonly received: number;
  /** Acknowledged by the client's system: no longer waiting anywhere on this machine. */
  readonly delivered: number;
  /** Not sent yet, since the client's system takes no more. Bytes that wait in this process are not included. */
  readonly unsent: number;
}

/**
 * One client's WebSocket, already open.
 *
 * `close` and `terminate` may call the core's `closed` before they return. After either, every method does nothing.
 */
export interface ClientSocket {
  /** Bytes that wait for the client to read. */
  readonly waitingBytes: number;
  /** Whether its messages may come compressed. */
  readonly isCompressed: boolean;
  /** Whether its bytes come in TLS records, whose heads `readTraffic` counts too. */
  readonly isEncrypted: boolean;
  /** What its TCP connection has carried; null where the system does not tell. Costs a system call. */
  readTraffic(): Traffic | null;
  /** `sent`: given to the kernel or queued within bounds. `full`: not sent, since more than `maxOutboxBytes` would wait. */
  send(frame: Frame): "sent" | "full";
  /**
   * The same, but may be written at the end of the turn, together with others' frames; `full` is told up to a quarter of
   * `maxOutboxBytes` later then. Later sends, publications and closes go out after it.
   */
  sendSoon(frame: Frame): "sent" | "full";
  /** From here on gets what the fan-out publishes to a topic. `unsubscribe` undoes it; both may be repeated. */
  subscribe(topic: string): void;
  unsubscribe(topic: string): void;
  ping(): void;
  /** Stops reading, so that TCP holds the client back. Messages already read may still arrive. */
  pause(): void;
  resume(): void;
  /** Sends a close frame behind what waits. `code` must be one that RFC 6455, section 7.4 lets an endpoint send. */
  close(code: number, reason: string): void;
  /** Cuts the TCP connection without a close frame. */
  terminate(): void;
}

/**
 * Sends one frame to every socket that subscribed to a topic.
 *
 * Order:  what is published and sent in one turn reaches a socket in that order.
 * Errors: nothing is dropped: what a client does not read waits, and `Pressure` ends those for whom too much does.
 */
export interface Fanout {
  publish(topic: string, frame: Frame): void;
}
