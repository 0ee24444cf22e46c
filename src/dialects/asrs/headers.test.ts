import { describe, expect, test } from "bun:test";
import type { UpstreamEvent } from "../../protocol/events.ts";
import type { ConnectionFacts } from "../../protocol/facts.ts";
import type { HeaderLine } from "../../protocol/headers.ts";
import { formatHeaders, formatStart } from "./headers.ts";

const FACTS: ConnectionFacts = {
  connectionId: "id-1",
  hub: "chat",
  userId: "zoë",
  claims: "sub: zo%C3%AB",
  clientQuery: "a=1&b=%0d%0a",
  forwardedFor: "1.2.3.4, 5.6.7.8",
};
const BARE: ConnectionFacts = { ...FACTS, userId: null, claims: "", clientQuery: "" };
const CONTEXT = { hub: "Chat", signature: "sha256=aa,sha256=bb", date: "Fri, 10 Jan 2020 01:02:03 GMT" } as const;

function format(event: UpstreamEvent, connectEventName: "handshake" | "connect" = "handshake"): string[] {
  const asLines = (headers: readonly HeaderLine[]) => headers.map(([name, value]) => `${name}: ${value}`);
  const context = { ...CONTEXT, connectEventName };
  if (event.name !== "message") return asLines(formatHeaders(event, context));
  const { headers, lines, dateAt } = formatStart(event, context);
  expect(lines.slice(dateAt)).toStartWith(`${CONTEXT.date}\r\n`);
  return [...asLines(headers), ...lines.split("\r\n")];
}

function connect(over: Partial<Extract<UpstreamEvent, { name: "connect" }>> = {}): UpstreamEvent {
  return {
    name: "connect",
    eventId: "e-1",
    facts: FACTS,
    subprotocols: "v2, v1",
    certThumbprint: "AB12",
    headers: new Headers(),
    ...over,
  };
}

function disconnect(over: Partial<Extract<UpstreamEvent, { name: "disconnect" }>> = {}): UpstreamEvent {
  const event = { closeCode: 4001, closeReason: "bye, 50% ü", connectOutcomeUnknown: false };
  return { name: "disconnect", eventId: "e-3", facts: FACTS, ...event, ...over };
}

describe("formatHeaders", () => {
  test("gives connect the seed's headers in the seed's order", () => {
    expect(format(connect())).toEqual([
      "Sec-WebSocket-Protocol: v2, v1",
      "X-ASRS-Client-Cert-Thumbprint: AB12",
      "X-ASRS-Connection-Id: id-1",
      "X-ASRS-Hub: Chat",
      "X-ASRS-Category: connections",
      "X-ASRS-Event: handshake",
      "X-ASRS-User-Id: zo\u00c3\u00ab",
      "X-ASRS-User-Claims: sub: zo%C3%AB",
      "X-ASRS-Signature: sha256=aa,sha256=bb",
      "X-ASRS-Client-Query: a=1&b=%0d%0a",
      "X-Forwarded-For: 1.2.3.4, 5.6.7.8",
      "Date: Fri, 10 Jan 2020 01:02:03 GMT",
      "X-Hubwire-Event-Id: e-1",
    ]);
  });

  test("says by which path of the configuration the client came, on every event, and nothing where it is no path", () => {
    const line = "X-Hubwire-Client-Path: /ocpp/CP%201";
    const message: UpstreamEvent = {
      name: "message",
      eventId: "e-2",
      facts: FACTS,
      number: 1,
      payload: new Uint8Array(),
      payloadType: "text",
    };
    for (const event of [connect(), message, disconnect()]) {
      const lines = format(event);
      const index = lines.indexOf("X-Forwarded-For: 1.2.3.4, 5.6.7.8") + 1;
      const facts = { ...FACTS, rare: { clientPath: "/ocpp/CP%201" } };
      expect(format({ ...event, facts })).toEqual(lines.toSpliced(index, 0, line));
      const odd = { ...FACTS, rare: { clientPath: "/a\r\nX-ASRS-User-Id: eve" } };
      expect(format({ ...event, facts: odd })).toEqual(lines);
    }
  });

  test("leaves out what the seed marks optional and keeps the rest empty when there is no value", () => {
    expect(format(connect({ facts: BARE, subprotocols: null, certThumbprint: null }))).toEqual([
      "X-ASRS-Connection-Id: id-1",
      "X-ASRS-Hub: Chat",
      "X-ASRS-Category: connections",
      "X-ASRS-Event: handshake",
      "X-ASRS-User-Id: ",
      "X-ASRS-User-Claims: ",
      "X-ASRS-Signature: sha256=aa,sha256=bb",
      "X-Forwarded-For: 1.2.3.4, 5.6.7.8",
      "Date: Fri, 10 Jan 2020 01:02:03 GMT",
      "X-Hubwire-Event-Id: e-1",
    ]);
  });

  test("calls the connect event as the entry wants it, and no other event", () => {
    expect(format(connect(), "connect")).toContain("X-ASRS-Event: connect");
    expect(format(disconnect(), "connect")).toContain("X-ASRS-Event: disconnect");
  });

  test.each([
    ["binary", "application/octet-stream"],
    ["text", "text/plain"],
  ] as const)("gives message the seed's headers in the seed's order, up to its number (%s)", (payloadType, type) => {
    const [eventId, payload] = ["id-1.2", new Uint8Array()];
    expect(format({ name: "message", number: 2, eventId, facts: FACTS, payload, payloadType })).toEqual([
      "X-ASRS-Hub: Chat",
      "X-ASRS-Category: messages",
      "X-ASRS-Connection-Id: id-1",
      "X-ASRS-Event: message",
      "X-ASRS-User-Id: zo\u00c3\u00ab",
      "X-ASRS-User-Claims: sub: zo%C3%AB",
      "X-ASRS-Signature: sha256=aa,sha256=bb",
      "X-ASRS-Client-Query: a=1&b=%0d%0a",
      "X-Forwarded-For: 1.2.3.4, 5.6.7.8",
      "Date: Fri, 10 Jan 2020 01:02:03 GMT",
      `Content-Type: ${type}`,
      "X-Hubwire-Event-Id: id-1.",
    ]);
  });

  test("writes a chain that an older journal kept as Unicode as UTF-8, and any other as it is", () => {
    const chainOf = (forwardedFor: string) => {
      const event = { ...disconnect(), facts: { ...FACTS, forwardedFor } };
      return format(event).find((line) => line.startsWith("X-Forwarded-For"));
    };
    expect(chainOf("東, 1.2.3.4")).toBe("X-Forwarded-For: \u00e6\u009d\u00b1, 1.2.3.4");
    expect(chainOf("gr\u00fc\u00df, 1.2.3.4")).toBe("X-Forwarded-For: gr\u00fc\u00df, 1.2.3.4");
  });

  test("gives disconnect the seed's headers, then how the connection ended", () => {
    expect(format(disconnect())).toEqual([
      "X-ASRS-Hub: Chat",
      "X-ASRS-Category: connections",
      "X-ASRS-Connection-Id: id-1",
      "X-ASRS-Event: disconnect",
      "X-ASRS-User-Id: zo\u00c3\u00ab",
      "X-ASRS-User-Claims: sub: zo%C3%AB",
      "X-ASRS-Signature: sha256=aa,sha256=bb",
      "X-ASRS-Client-Query: a=1&b=%0d%0a",
      "X-Forwarded-For: 1.2.3.4, 5.6.7.8",
      "Date: Fri, 10 Jan 2020 01:02:03 GMT",
      "X-Hubwire-Event-Id: e-3",
      "X-Hubwire-Close-Code: 4001",
      "X-Hubwire-Close-Reason: bye%2C 50%25 %C3%BC",
    ]);
  });

  test("says that the connect's outcome is unknown only where it is", () => {
    const unknown = "X-Hubwire-Connect-Outcome: unknown";
    expect(format(disconnect({ connectOutcomeUnknown: true })).at(-1)).toBe(unknown);
    expect(format(disconnect())).not.toContain(unknown);
  });
});
