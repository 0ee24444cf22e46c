import { categoryOf, type MessageEvent, messageEventIdStart, type UpstreamEvent } from "./events.ts";
import { encodeHeaderValue, type HeaderLine } from "./headers.ts";
import { percentEncodeForHeader } from "./percent.ts";
import { encodeUserId } from "./user-coding.ts";

const BEYOND_BYTES = /[^\0-\xff]/;

/** What an event's headers say that is no fact of the connection: made anew for every try. */
export interface AsrsContext {
  /** What `X-ASRS-Hub` says. Source: `spellHub`. */
  readonly hub: string;
  /** The whole `X-ASRS-Signature` value. */
  readonly signature: string;
  /** The time of this try as an IMF-fixdate, for `Date`. */
  readonly date: string;
  /** What `X-ASRS-Event` says of the connect event: the seed's word, or that of deployed backends. */
  readonly connectEventName: "handshake" | "connect";
}

/**
 * Forms a connect or disconnect event's headers in the seed's dialect.
 *
 * Shape:  the seed's headers in its order and spelling, for each event its own; then ours. Headers without `?` in the
 *         seed always stand there, empty where there is no value; those with `?` are absent then.
 * Source: the seed, the "HEAD" list of each event; for the rest PROTOCOL.md, "Calling the upstream".
 */
export function formatAsrsHeaders(event: Exclude<UpstreamEvent, MessageEvent>, context: AsrsContext): HeaderLine[] {
  const lines = formatLastingHeaders(event, context);
  lines.push(["Date", context.date], ["X-Hubwire-Event-Id", event.eventId]);
  if (event.name === "disconnect") pushClose(lines, event);
  return lines;
}

/** The first part of an event's headers: the same for all messages of a connection, for as long as the keys are. */
export function formatLastingHeaders(event: UpstreamEvent, context: Omit<AsrsContext, "date">): HeaderLine[] {
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
  return lines;
}

/** A journal of before 0.1.0 may hold a chain as Unicode; all others have one char a byte. */
function forwardedForBytes(forwardedFor: string): string {
  return BEYOND_BYTES.test(forwardedFor) ? encodeHeaderValue(forwardedFor) : forwardedFor;
}

/** Where the date stands in `formatMessageLines`. */
export const MESSAGE_DATE_AT = "Date: ".length;

/**
 * What stands behind in a message's, as the lines that they become, joined by CRLF. What ends the last, the message's number, is
 * left out: but for it and the date they are the same for all of a connection's messages of one kind.
 *
 * Shape: ASCII. The date is ours, and so is the event's id.
 */
export function formatMessageLines({ facts, binary }: MessageEvent, date: string): string {
  const type = binary ? "application/octet-stream" : "text/plain";
  return `Date: ${date}\r\nContent-Type: ${type}\r\nX-Hubwire-Event-Id: ${messageEventIdStart(facts.connectionId)}`;
}

/** What the seed does not tell of a disconnect. A client chooses the reason, so it is encoded like a claim. */
function pushClose(lines: HeaderLine[], event: Extract<UpstreamEvent, { name: "disconnect" }>): void {
  lines.push(
    ["X-Hubwire-Close-Code", String(event.closeCode)],
    ["X-Hubwire-Close-Reason", percentEncodeForHeader(event.closeReason)],
  );
  if (event.connectOutcomeUnknown) lines.push(["X-Hubwire-Connect-Outcome", "unknown"]);
}
