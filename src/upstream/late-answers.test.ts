import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { within } from "../../test/support/deadline.ts";
import { type Exchange, RawBackend } from "../../test/support/raw-backend.ts";
import {
  bodyOf,
  connectEvent,
  disconnectEvent,
  messageEvent,
  startUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import type { UpstreamEvent } from "../protocol/events.ts";

/** An answer that comes late on a kept connection comes in the place of the answer to the next event. */

let backend: RawBackend;

beforeEach(async () => {
  backend = await RawBackend.start();
});

afterEach(() => backend.stop());

const ECHO = "X-Hubwire-Event-Id";
const eventIdOf = ({ request }: Exchange) => request.header(ECHO) ?? "";

/** Answers every event by one script. */
function answer(script: (exchange: Exchange) => void): void {
  backend.onConnect = script;
  backend.onMessage = script;
  backend.onDisconnect = script;
}

function start(overrides: Parameters<typeof upstreamEntry>[1] = {}) {
  return startUpstream([upstreamEntry(`${backend.url}/{event}`, { maxConcurrency: 1, ...overrides })]);
}

/** Which connection each request came on. */
const connections = () => backend.requests.map(({ connection }) => connection);

describe("an answer that names another event", () => {
  test("is nobody's: of sixty events behind each other none gets another's answer", async () => {
    await using upstream = start({ breaker: { failureRatio: 0, minCalls: 20, windowMs: 10_000 } });
    // Each is answered twice; the second answer is written when the next request of that connection is there.
    let late: { readonly socket: unknown; readonly write: () => void } | null = null;
    answer((exchange) => {
      const id = eventIdOf(exchange);
      if (late?.socket === exchange.socket) late.write();
      exchange.reply(200, [`${ECHO}: ${id}`], id);
      late = { socket: exchange.socket, write: () => exchange.reply(200, [`${ECHO}: ${id}`], id) };
    });
    const events = Array.from({ length: 60 }, (_, index) => messageEvent("x", { connectionId: `client-${index}` }));
    const outcomes = await within(Promise.all(events.map((event) => upstream.call(event))), "sixty outcomes");
    const answered = events.filter((_event, index) => outcomes[index]?.kind === "answer");
    for (const [index, outcome] of outcomes.entries()) {
      if (outcome.kind === "answer") expect(bodyOf(outcome).toString()).toBe(events[index]?.eventId ?? "");
      else expect(outcome).toMatchObject({ kind: "unknown", cause: "malformed", status: null });
    }
    expect(answered).toHaveLength(30);
    expect(backend.connectionCount).toBe(30);
  });

  const another: readonly (readonly [string, (id: string) => readonly string[]])[] = [
    ["another event's id", () => [`${ECHO}: another`]],
    ["the id of an event before", (id) => [`${ECHO}: ${id.replace(/.$/, "0")}`]],
    ["the id and more", (id) => [`${ECHO}: ${id}, ${id}`]],
    ["an empty id", () => [`${ECHO}:`]],
    ["the id and another one in two lines", (id) => [`${ECHO}: ${id}`, `${ECHO}: another`]],
    ["another one and the id in two lines", (id) => [`${ECHO}: another`, `${ECHO}: ${id}`]],
    ["another id under a name in lower case", () => [`${ECHO.toLowerCase()}: another`]],
  ];
  const events: readonly UpstreamEvent[] = [connectEvent(), messageEvent(), disconnectEvent()];
  test.each(another)("%s: the event has no answer, and the connection is closed", async (_what, lines) => {
    await using upstream = start();
    for (const event of events) {
      answer((exchange) => exchange.reply(200, lines(eventIdOf(exchange)), "for another"));
      expect(await upstream.call(event)).toMatchObject({ kind: "unknown", cause: "malformed", status: null });
    }
    expect(connections()).toEqual([0, 1, 2]);
  });

  test("says nothing of the event, though its body is cut off or too long", async () => {
    await using upstream = start();
    answer((exchange) => exchange.raw(`HTTP/1.1 200 OK\r\n${ECHO}: another\r\nContent-Length: 9999999\r\n\r\n`));
    expect(await upstream.call(connectEvent())).toMatchObject({ kind: "unknown", cause: "malformed", status: null });
  });

  test("is refused in an interim answer too", async () => {
    await using upstream = start();
    answer((exchange) => {
      exchange.raw(`HTTP/1.1 103 Early Hints\r\n${ECHO}: another\r\n\r\n`);
      exchange.reply(200);
    });
    expect(await upstream.call(connectEvent())).toMatchObject({ kind: "unknown", cause: "malformed", status: null });
  });
});

describe("an answer that names its event", () => {
  const same: readonly (readonly [string, (id: string) => readonly string[]])[] = [
    ["once", (id) => [`${ECHO}: ${id}`]],
    ["in lower case, with blanks around it", (id) => [`${ECHO.toLowerCase()}:  \t${id} \t`]],
    ["in two lines", (id) => [`${ECHO}: ${id}`, "Content-Type: text/plain", `${ECHO.toUpperCase()}: ${id}`]],
  ];
  test.each(same)("%s is taken, and the connection kept", async (_what, lines) => {
    await using upstream = start();
    for (const event of [connectEvent(), messageEvent(), disconnectEvent()]) {
      answer((exchange) => exchange.reply(200, lines(eventIdOf(exchange)), event.name));
      expect(bodyOf(await upstream.call(event)).toString()).toBe(event.name);
    }
    expect(connections()).toEqual([0, 0, 0]);
  });

  test("is taken wherever its head was cut", async () => {
    await using upstream = start();
    const head = (id: string) => `HTTP/1.1 200 OK\r\n${ECHO}: ${id}\r\nContent-Length: 0\r\n\r\n`;
    const { length } = head(messageEvent().eventId);
    for (let cutAt = 1; cutAt < length; cutAt += 3) {
      answer((exchange) => {
        const bytes = head(eventIdOf(exchange));
        exchange.socket.setNoDelay(true);
        exchange.raw(bytes.slice(0, cutAt));
        setImmediate(() => exchange.raw(bytes.slice(cutAt)));
      });
      expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 200 });
    }
    expect(backend.connectionCount).toBe(1);
  });

  test("is taken where it answers a repeat, which has the same id", async () => {
    await using upstream = start();
    answer((exchange) => exchange.reply(200, [`${ECHO}: ${eventIdOf(exchange)}`]));
    await upstream.call(messageEvent());
    let isFirst = true;
    answer((exchange) => {
      if (isFirst) exchange.reset();
      else exchange.reply(200, [`${ECHO}: ${eventIdOf(exchange)}`]);
      isFirst = false;
    });
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", wasRepeated: true });
  });
});
