import { afterEach, beforeEach, expect, test } from "bun:test";
import { within } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { acceptAs, never, RawBackend } from "../../test/support/raw-backend.ts";
import {
  connectEvent,
  messageEvent,
  startUpstream,
  type TestUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import { SWEEP_INTERVAL_MS } from "./deadlines.ts";

/** What becomes of a connect event whose client leaves: given up before it is posted, carried to its end after. */
let backend: RawBackend;
let clock: FakeClock;
let upstream: TestUpstream;

const NOT_SENT = { kind: "not-sent", detail: "the client has left" };

beforeEach(async () => {
  backend = await RawBackend.start();
  clock = new FakeClock();
  const breaker = { failureRatio: 0.5, minCalls: 2, windowMs: 10_000 };
  upstream = startUpstream([upstreamEntry(`${backend.url}/{event}`, { maxConcurrency: 1, breaker })], { clock });
});

afterEach(async () => {
  await upstream.stop();
  await backend.stop();
});

test("one that waits for a place is given up by the next sweep, and the next client has its turn", async () => {
  backend.onMessage = never;
  const holder = upstream.call(messageEvent());
  await backend.next("message");
  const leaver = { hasLeft: false };
  const left = upstream.call(connectEvent(), leaver);
  const stayed = upstream.call(connectEvent(), { hasLeft: false });
  leaver.hasLeft = true;
  clock.advanceSync(SWEEP_INTERVAL_MS);
  expect(await within(left, "the end of the client's call")).toMatchObject(NOT_SENT);
  backend.onConnect = acceptAs("bob");
  upstream.abandonMessages();
  expect(await within(stayed, "the other's answer")).toMatchObject({ kind: "answer", status: 200 });
  await holder;
  expect(backend.of("connect")).toHaveLength(1);
});

test("one that gets its place after its client has left is not posted, and says nothing of the upstream", async () => {
  backend.onMessage = never;
  const holder = upstream.call(messageEvent());
  await backend.next("message");
  const leaver = { hasLeft: false };
  const left = Array.from({ length: 5 }, () => upstream.call(connectEvent(), leaver));
  leaver.hasLeft = true;
  // Before a sweep: only its turn tells.
  upstream.abandonMessages();
  for (const outcome of await within(Promise.all(left), "the ends of the calls"))
    expect(outcome).toMatchObject(NOT_SENT);
  await holder;
  expect([backend.of("connect").length, upstream.reported]).toEqual([0, []]);
});

test("those that leave while the upstream's host is looked up say nothing of the upstream either", async () => {
  const breaker = { failureRatio: 0.5, minCalls: 2, windowMs: 10_000 };
  const entry = upstreamEntry("http://backend.test/{event}", { breaker });
  await using slow = startUpstream([entry], { clock, resolve: () => new Promise(() => {}) });
  const leaver = { hasLeft: false };
  const left = Array.from({ length: 5 }, () => slow.call(connectEvent(), leaver));
  leaver.hasLeft = true;
  clock.advanceSync(SWEEP_INTERVAL_MS);
  for (const outcome of await within(Promise.all(left), "the ends of the calls"))
    expect(outcome).toMatchObject(NOT_SENT);
  expect(slow.reported).toEqual([]);
});

test("one that was posted goes on to its answer", async () => {
  const leaver = { hasLeft: false };
  backend.onConnect = (exchange) => {
    leaver.hasLeft = true;
    clock.advanceSync(3 * SWEEP_INTERVAL_MS);
    acceptAs("bob")(exchange);
  };
  expect(await within(upstream.call(connectEvent(), leaver), "the answer")).toMatchObject({ kind: "answer" });
});

test("one whose client stays keeps its deadlines", async () => {
  backend.onConnect = never;
  const asked = upstream.call(connectEvent(), { hasLeft: false });
  await backend.next("connect");
  const waited = upstream.call(connectEvent(), { hasLeft: false });
  clock.advanceSync(5000 - 1);
  let ended = false;
  void waited.finally(() => {
    ended = true;
  });
  await Promise.resolve();
  expect(ended).toBe(false);
  clock.advanceSync(SWEEP_INTERVAL_MS);
  expect(await within(waited, "the end of its wait")).toMatchObject({ kind: "refused", cause: "concurrency" });
  clock.advanceSync(30_000);
  expect(await within(asked, "its time-out")).toMatchObject({ kind: "unknown", cause: "timeout" });
});
