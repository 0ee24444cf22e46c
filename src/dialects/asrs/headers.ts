import { clientPathOf } from "../../protocol/client-paths.ts";
import type { CallContext, RequestStart } from "../../protocol/dialect.ts";
import {
  type ConnectEvent,
  categoryOf,
  type DisconnectEvent,
  type MessageEvent,
  messageEventIdStart,
  type UpstreamEvent,
} from "../../protocol/events.ts";
import { encodeHeaderValue, type HeaderLine } from "../../protocol/headers.ts";
import type { PayloadType } from "../../protocol/payload.ts";
import { percentEncodeForHeader } from "../../protocol/percent.ts";
import { encodeUserId } from "../../protocol/user-coding.ts";

const CONTENT_TYPES: Readonly<Record<PayloadType, string>> = {
  text: "text/plain",
  binary: "application/octet-stream",
};

const BEYOND_BYTES = /[^\0-\xff]/;

/**
 * Forms the headers of a connect or disconnect event.
 *
 * Shape:  the seed's headers in its order and spelling, for each event its own; then hubwire's. Headers without `?` in the
 *         seed are always there, empty where there is no value; those with `?` are absent then.
 * Source: the seed, the "HEAD" list of each event; PROTOCOL.md for `connectEventName` and `X-Hubwire-*`.
 */
export function formatHeaders(event: ConnectEvent | DisconnectEvent, context: CallContext): HeaderLine[] {
  const lines = formatLastingHeaders(event, context);
  lines.push(["Date", context.date], ["X-Hubwire-Event-Id", event.eventId]);
  if (event.name === "disconnect") pushClose(lines, event);
  return lines;
}

/**
 * Forms what the messages of a connection begin with.
 *
 * Shape: the seed's headers; then `Date`, `Content-Type`, and the event's id up to the message's number.
 */
export function formatStart(event: MessageEvent, context: CallContext): RequestStart {
  const type = CONTENT_TYPES[event.payloadType];
  const id = messageEventIdStart(event.facts.connectionId);
  return {
    headers: formatLastingHeaders(event, context),
    lines: `Date: ${context.date}\r\nContent-Type: ${type}\r\nX-Hubwire-Event-Id: ${id}`,
    dateAt: "Date: ".length,
  };
}

/** The headers that are the same for all messages of a connection, for as long as the keys are. */
function formatLastingHeaders(event: UpstreamEvent, context: CallContext): HeaderLine[] {
  const { facts } = event;
  const lines: HeaderLine[] = [];
  if (event.name === "connect") {
    if (event.subprotocols !== null) lines.push(["Sec-WebSocket-Protocol", event.subprotocols]);
    if (event.certThumbprint !== null) lines.push(["X-ASRS-Client-Cert-Thumbprint", event.certThumbprint]);
    lines.push(["X-ASRS-Connection-Id", facts.connectionId]);
  }
  lines.push(["X-ASRS-Hub", encodeHeaderValue(context.hub)], ["X-ASRS-Category", categoryOf(event.name)]);
  if (event.name !== "connect") lines.push(["X-ASRS-Connection-Id", facts.connectionId]);
  lines.push(
    ["X-ASRS-Event", event.name === "connect" ? context.connectEventName : event.name],
    ["X-ASRS-User-Id", encodeUserId(facts)],
    ["X-ASRS-User-Claims", facts.claims],
    ["X-ASRS-Signature", context.signature],
  );
  if (facts.clientQuery !== "") lines.push(["X-ASRS-Client-Query", facts.clientQuery]);
  lines.push(["X-Forwarded-For", forwardedForBytes(facts.forwardedFor)]);
  const clientPath = clientPathOf(facts);
  if (clientPath !== null) lines.push(["X-Hubwire-Client-Path", clientPath]);
  return lines;
}

/** A journal of before 0.1.0 may hold a chain as Unicode; all others have one char a byte. */
function forwardedForBytes(forwardedFor: string): string {
  return BEYOND_BYTES.test(forwardedFor) ? encodeHeaderValue(forwardedFor) : forwardedFor;
}

/** Facts of a disconnect that the seed does not tell. A client chooses the reason, so it is encoded like a claim. */
function pushClose(lines: HeaderLine[], event: DisconnectEvent): void {
  lines.push(
    ["X-Hubwire-Close-Code", String(event.closeCode)],
    ["X-Hubwire-Close-Reason", percentEncodeForHeader(event.closeReason)],
  );
  if (event.connectOutcomeUnknown) lines.push(["X-Hubwire-Connect-Outcome", "unknown"]);
}
