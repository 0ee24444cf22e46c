import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { type Exchange, never, RawBackend, type Script } from "../../test/support/raw-backend.ts";
import {
  bodyOf,
  connectEvent,
  disconnectEvent,
  messageEvent,
  startUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import type { UpstreamEntry } from "../config/schema.ts";
import { SWEEP_INTERVAL_MS } from "./deadlines.ts";

/** How a pooled socket can die under a request that was written. */
const DEATHS = ["end", "reset"] as const;

let backend: RawBackend;

beforeEach(async () => {
  backend = await RawBackend.start();
});

afterEach(() => backend.stop());

function entryOf(overrides: Partial<UpstreamEntry> = {}): UpstreamEntry {
  return upstreamEntry(`${backend.url}/{event}`, overrides);
}

const MESSAGE_ID = messageEvent().eventId;

/** Answers all events in order, but the `nth` request of them all, from 1, by `death`. */
function dieAt(nth: number, death: (exchange: Exchange) => void): void {
  let count = 0;
  const script: Script = (exchange) => (++count === nth ? death(exchange) : exchange.reply(200, [], `answer ${count}`));
  backend.onConnect = script;
  backend.onMessage = script;
  backend.onDisconnect = script;
}

/** What the backend saw: each request's connection and event id. */
function seen(): string[] {
  return backend.requests.map((request) => `${request.connection} ${request.header("X-Hubwire-Event-Id")}`);
}

describe("a pooled socket that dies without a byte of answer", () => {
  for (const death of DEATHS) {
    for (const event of [connectEvent(), disconnectEvent()]) {
      for (const repeatOnStaleSocket of [false, true]) {
        const when = `repeatOnStaleSocket ${repeatOnStaleSocket}`;
        test(`has ${event.name} sent again, with the same event id (${death}, ${when})`, async () => {
          await using upstream = startUpstream([entryOf({ repeatOnStaleSocket })]);
          dieAt(2, (exchange) => exchange[death]());
          await upstream.call(messageEvent());
          expect(await upstream.call(event)).toMatchObject({ kind: "answer", wasRepeated: true });
          expect(seen()).toEqual([`0 ${MESSAGE_ID}`, `0 ${event.eventId}`, `1 ${event.eventId}`]);
          expect(upstream.meters.staleSocketRepeats).toBe(1);
          expect(upstream.meters.calls[event.name]["2xx"]).toBe(1);
        });
      }
    }

    test(`leaves a message unknown with repeatOnStaleSocket: false, since it may have been acted on (${death})`, async () => {
      dieAt(2, (exchange) => exchange[death]());
      await using upstream = startUpstream([entryOf({ repeatOnStaleSocket: false })]);
      await upstream.call(messageEvent());
      expect(await upstream.call(messageEvent())).toMatchObject({
        kind: "unknown",
        cause: "reset",
        status: null,
      });
      expect(seen()).toEqual([`0 ${MESSAGE_ID}`, `0 ${MESSAGE_ID}`]);
    });
  }

  test("says so with the answer: what was sent first may have been acted on", async () => {
    await using upstream = startUpstream([entryOf()]);
    dieAt(2, (exchange) => exchange.reset());
    const { wasRepeated: first } = (await upstream.call(connectEvent())) as { wasRepeated?: true };
    expect(await upstream.call(connectEvent())).toMatchObject({ kind: "answer", wasRepeated: true });
    const { wasRepeated: third } = (await upstream.call(connectEvent())) as { wasRepeated?: true };
    expect([first, third]).toEqual([undefined, undefined]);
  });

  test("says so too where the second answer does not come whole", async () => {
    await using upstream = startUpstream([entryOf()]);
    await upstream.call(connectEvent());
    let count = 0;
    backend.onConnect = (exchange) => {
      count++;
      if (count === 2) {
        exchange.raw("HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nhalf");
        exchange.end();
      } else exchange.reset();
    };
    expect(await upstream.call(connectEvent())).toMatchObject({ kind: "unknown", status: 403, wasRepeated: true });
  });

  test("is named by the outcome where nothing is repeated", async () => {
    dieAt(2, (exchange) => exchange.reset());
    await using upstream = startUpstream([entryOf({ repeatOnStaleSocket: false })]);
    await upstream.call(messageEvent());
    expect(await upstream.call(messageEvent())).toEqual({
      kind: "unknown",
      cause: "reset",
      status: null,
      detail: "the connection broke: ECONNRESET",
    });
  });
});

describe("by default, a message", () => {
  for (const death of DEATHS) {
    test(`is sent again over a fresh socket, with its id and body (${death})`, async () => {
      dieAt(2, (exchange) => exchange[death]());
      await using upstream = startUpstream([entryOf()]);
      await upstream.call(connectEvent());
      const payload = new Uint8Array(300_000).map((_, index) => index % 251);
      const outcome = await upstream.call(messageEvent(payload));
      expect(outcome).toMatchObject({ kind: "answer", status: 200 });
      expect(bodyOf(outcome).toString()).toBe("answer 3");
      expect(seen()).toEqual(["0 event-1", `0 ${MESSAGE_ID}`, `1 ${MESSAGE_ID}`]);
      for (const request of backend.of("message")) expect(request.body.equals(payload)).toBe(true);
    });
  }

  test("is sent again though another pooled socket is at hand: that one may be as dead", async () => {
    await using upstream = startUpstream([entryOf()]);
    await Promise.all([upstream.call(messageEvent()), upstream.call(messageEvent())]);
    dieAt(1, (exchange) => exchange.reset());
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer" });
    const [dead, fresh] = backend.requests.slice(2).map((request) => request.connection);
    expect(dead).toBeLessThan(2);
    expect(fresh).toBe(2);
  });

  test("is not sent a third time", async () => {
    await using upstream = startUpstream([entryOf()]);
    await upstream.call(messageEvent());
    backend.onMessage = (exchange) => exchange.reset();
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "unknown", cause: "reset" });
    expect(seen()).toEqual([`0 ${MESSAGE_ID}`, `0 ${MESSAGE_ID}`, `1 ${MESSAGE_ID}`]);
  });

  test("is not sent again where the socket was fresh", async () => {
    backend.onMessage = (exchange) => exchange.reset();
    await using upstream = startUpstream([entryOf()]);
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "unknown", cause: "reset" });
    expect(seen()).toEqual([`0 ${MESSAGE_ID}`]);
  });

  test.each([
    ["a byte of answer", "H"],
    ["an interim answer, which somebody has read the request for", "HTTP/1.1 102 Processing\r\n\r\n"],
  ])("is not sent again once there came %s", async (_what, bytes) => {
    dieAt(2, (exchange) => {
      exchange.raw(bytes);
      exchange.end();
    });
    await using upstream = startUpstream([entryOf()]);
    await upstream.call(messageEvent());
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "unknown", cause: "reset", status: null });
    expect(backend.requests).toHaveLength(2);
  });

  test("stays unknown where the second try cannot connect: the first was sent", async () => {
    await using upstream = startUpstream([entryOf()]);
    await upstream.call(messageEvent());
    const stopped = Promise.withResolvers<void>();
    backend.onMessage = async () => {
      await backend.stop();
      stopped.resolve();
    };
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "unknown", cause: "reset", status: null });
    await stopped.promise;
    expect(backend.requests).toHaveLength(2);
    backend = await RawBackend.start();
  });

  test("has one timeoutMs for both tries, and none is sent because it is over", async () => {
    const clock = new FakeClock();
    await using upstream = startUpstream([entryOf({ timeoutMs: 1000 })], { clock });
    await upstream.call(messageEvent());
    await backend.next("message");
    let release = () => {};
    backend.onMessage = (exchange) => {
      release = () => exchange.reset();
    };
    const outcome = upstream.call(messageEvent());
    await backend.next("message");
    clock.advanceSync(900);
    backend.onMessage = never;
    release();
    await backend.next("message");
    clock.advanceSync(100 + SWEEP_INTERVAL_MS);
    expect(await outcome).toMatchObject({ kind: "unknown", cause: "timeout" });
    expect(backend.requests).toHaveLength(3);
  });

  test("of an entry with repeatOnStaleSocket: false is not repeated", async () => {
    const news = entryOf({ hubPattern: ["news"] });
    await using upstream = startUpstream([news, entryOf({ repeatOnStaleSocket: false })]);
    for (const hub of ["news", "chat"]) {
      backend.onMessage = (exchange) => exchange.reply(204);
      await upstream.call(messageEvent("first", { hub }));
      dieAt(1, (exchange) => exchange.reset());
      const kind = hub === "news" ? "answer" : "unknown";
      expect(await upstream.call(messageEvent("second", { hub }))).toMatchObject({ kind });
    }
  });
});
