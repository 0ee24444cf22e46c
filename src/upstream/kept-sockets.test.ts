import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { within } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { ACCEPT, PreforkBackend } from "../../test/support/prefork-backend.ts";
import { type Exchange, RawBackend } from "../../test/support/raw-backend.ts";
import {
  connectEvent,
  messageEvent,
  startUpstream,
  type TestUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import type { UpstreamEntry } from "../config/schema.ts";
import { SWEEP_INTERVAL_MS } from "./deadlines.ts";
import { SILENT_AFTER_MS } from "./silent-sockets.ts";

let clock: FakeClock;
beforeEach(() => {
  clock = new FakeClock();
});

/** Long enough for a fresh socket to count as silent, and for the sweep to notice. */
const LONG_SILENCE_MS = SILENT_AFTER_MS + SWEEP_INTERVAL_MS;

describe("keepAliveMs and maxIdleSockets", () => {
  let backend: RawBackend;
  beforeEach(async () => {
    backend = await RawBackend.start();
  });
  afterEach(() => backend.stop());

  const start = (overrides: Partial<UpstreamEntry>): TestUpstream =>
    startUpstream([upstreamEntry(`${backend.url}/{event}`, overrides)], { clock });
  const connections = () => backend.requests.map(({ connection }) => connection);
  const headers = () => backend.requests.map((request) => request.header("Connection"));

  test.each([
    ["keepAliveMs: 0", { keepAliveMs: 0 }],
    ["maxIdleSockets: 0", { maxIdleSockets: 0 }],
  ])("%s closes each socket after its call, and tells the backend", async (_name, overrides) => {
    await using upstream = start(overrides);
    const closed: Promise<unknown>[] = [];
    const script = (exchange: Exchange) => {
      closed.push(exchange.callerGone);
      exchange.reply(200);
    };
    backend.onMessage = script;
    backend.onConnect = script;
    await upstream.call(connectEvent());
    await upstream.call(messageEvent());
    await upstream.call(messageEvent());
    expect(connections()).toEqual([0, 1, 2]);
    expect(headers()).toEqual(["close", "close", "close"]);
    await within(Promise.all(closed), "the sockets to be closed");
  });

  test.each([100, 60_000])("keepAliveMs: %d keeps an idle socket for so long and no longer", async (keepAliveMs) => {
    await using upstream = start({ keepAliveMs });
    await upstream.call(messageEvent());
    clock.advanceSync(keepAliveMs - 1);
    await upstream.call(messageEvent());
    clock.advanceSync(keepAliveMs);
    await upstream.call(messageEvent());
    expect(connections()).toEqual([0, 0, 1]);
    expect(headers()).toEqual([undefined, undefined, undefined]);
  });

  test("keepAliveMs gives way to a shorter Keep-Alive of the backend", async () => {
    await using upstream = start({ keepAliveMs: 60_000 });
    backend.onMessage = (exchange) => exchange.reply(200, ["Keep-Alive: timeout=3"]);
    await upstream.call(messageEvent());
    clock.advanceSync(2000);
    await upstream.call(messageEvent());
    expect(connections()).toEqual([0, 1]);
  });

  test("maxIdleSockets keeps so many after a burst, and closes the others", async () => {
    await using upstream = start({ maxIdleSockets: 2 });
    const burst = () => Promise.all([1, 2, 3].map(() => upstream.call(messageEvent())));
    await burst();
    expect(backend.connectionCount).toBe(3);
    // Two are used again, and the third is fresh.
    await burst();
    expect(backend.connectionCount).toBe(4);
  });

  test("maxIdleSockets is maxConcurrency where it is left out", async () => {
    await using upstream = start({ maxConcurrency: 3 });
    const burst = () => Promise.all([1, 2, 3].map(() => upstream.call(messageEvent())));
    await burst();
    await burst();
    expect(backend.connectionCount).toBe(3);
  });
});

/** Resolves when connections that the backend has already seen are open for the client too. */
async function seenByClient(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

describe("a backend of which each kept socket holds a worker", () => {
  const entryTo = (backend: PreforkBackend, overrides: Partial<UpstreamEntry> = {}) =>
    upstreamEntry(`${backend.url}/{hub}/{event}`, overrides);
  const answered = (calls: Promise<unknown>[]) => within(Promise.all(calls), "all calls to be answered");

  test("answers calls that wait for a worker once sockets that had become idle are closed", async () => {
    await using backend = await PreforkBackend.start({ workers: 5 });
    await using upstream = startUpstream([entryTo(backend)], { clock });
    const calls = Array.from({ length: 50 }, () => upstream.call(connectEvent()));
    await Promise.race(calls);
    await backend.waiting(45);
    await seenByClient();
    clock.advanceSync(LONG_SILENCE_MS);
    await answered(calls);
    expect(backend.targets).toHaveLength(50);
  });

  test("has a socket closed that becomes idle while a call on a fresh one has no byte", async () => {
    await using backend = await PreforkBackend.start({ workers: 1 });
    await using upstream = startUpstream([entryTo(backend)], { clock });
    const { promise, resolve } = Promise.withResolvers<string>();
    backend.answer = () => promise;
    const first = upstream.call(messageEvent());
    const second = upstream.call(messageEvent());
    await backend.waiting(1);
    await seenByClient();
    clock.advanceSync(LONG_SILENCE_MS);
    resolve(ACCEPT);
    await answered([first, second]);
  });

  test("has the idle sockets of another entry closed too, where that has the same host and port", async () => {
    await using backend = await PreforkBackend.start({ workers: 1 });
    const entries = [entryTo(backend, { hubPattern: ["news"] }), entryTo(backend)];
    await using upstream = startUpstream(entries, { clock });
    await upstream.call(messageEvent("held", { hub: "news" }));
    const waits = upstream.call(messageEvent());
    await backend.waiting(1);
    await seenByClient();
    clock.advanceSync(LONG_SILENCE_MS);
    await answered([waits]);
    expect(backend.targets).toEqual(["/news/message", "/Chat/message"]);
  });

  test("has its sockets kept while calls on fresh ones get their first byte in time", async () => {
    await using backend = await PreforkBackend.start({ workers: 2 });
    await using upstream = startUpstream([entryTo(backend)], { clock });
    const { promise, resolve } = Promise.withResolvers<string>();
    backend.answer = (target) => (target === "/Chat/connect" ? promise : ACCEPT);
    const slow = upstream.call(connectEvent());
    await upstream.call(messageEvent());
    clock.advanceSync(SILENT_AFTER_MS - 1);
    await upstream.call(messageEvent());
    resolve(ACCEPT);
    await slow;
    clock.advanceSync(LONG_SILENCE_MS);
    await Promise.all([upstream.call(messageEvent()), upstream.call(messageEvent())]);
    expect(backend.connectionCount).toBe(2);
  });

  test("has its sockets kept again once the silent call has ended, however it ends", async () => {
    await using backend = await PreforkBackend.start({ workers: 1 });
    await using upstream = startUpstream([entryTo(backend, { timeoutMs: 1000 })], { clock });
    const { promise, resolve } = Promise.withResolvers<string>();
    backend.answer = () => promise;
    const silent = [upstream.call(messageEvent()), upstream.call(messageEvent())];
    await backend.waiting(1);
    await seenByClient();
    clock.advanceSync(1000 + SWEEP_INTERVAL_MS);
    expect(await answered(silent)).toMatchObject([{ cause: "timeout" }, { cause: "timeout" }]);
    resolve(ACCEPT);
    await upstream.call(messageEvent());
    const before = backend.connectionCount;
    await upstream.call(messageEvent());
    expect(backend.connectionCount).toBe(before);
  });
});
