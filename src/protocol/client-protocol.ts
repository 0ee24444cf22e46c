import type { ConnectionEnd } from "./close-causes.ts";
import type { Payload, PayloadType } from "./payload.ts";

/** The form of what hubwire and a client say to each other. A connection has one from its handshake on. Source: decisions 0044 and 0049. */
export type Encoding = "raw";

/** The encoding of a connection whose facts name none. */
export const FIRST_ENCODING: Encoding = "raw";

/** The encoding of a connection. */
export function encodingOf({ rare }: { readonly rare?: { readonly encoding?: Encoding } }): Encoding {
  return rare?.encoding ?? FIRST_ENCODING;
}

/** A complete WebSocket message: a string is a text frame, bytes are a binary frame. */
export type Frame = string | Uint8Array;

/** A client's event for the upstream. */
export interface EventCommand {
  /** The content as the upstream gets it. */
  readonly payload: Uint8Array;
  readonly payloadType: PayloadType;
}

/** What a client can ask for. */
export type ClientCommand = EventCommand;

/**
 * What hubwire and a client say to each other, in the frames of one encoding. Pure: no state, no clock, no input or output.
 *
 * Cost: each is called for a message, so that it makes nothing that the message does not need.
 */
export interface ClientProtocol {
  /** Reads a message of a client. `bytes` are those of the frame, which for a binary one is the same object. */
  decode(frame: Frame, bytes: Uint8Array): ClientCommand;
  /** Forms the frame in which clients get a payload: the same for all of this encoding. */
  encode(payload: Payload): Frame;
  /** With what a connection closes after the upstream did not take its event. */
  failed(cause: ConnectionEnd): ConnectionEnd;
}

/** One client protocol for each encoding. */
export type ClientProtocols = Readonly<Record<Encoding, ClientProtocol>>;

/** The protocol that a connection's client speaks. */
export function protocolOf(protocols: ClientProtocols, connection: Parameters<typeof encodingOf>[0]): ClientProtocol {
  return protocols[encodingOf(connection)];
}
