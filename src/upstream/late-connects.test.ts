import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { until, within } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { type Exchange, never, RawBackend } from "../../test/support/raw-backend.ts";
import {
  connectEvent,
  disconnectEvent,
  messageEvent,
  startUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import type { ConnectOutcome, LateAnswer } from "../core/ports/upstream.ts";
import { SWEEP_INTERVAL_MS } from "./deadlines.ts";
import { MAX_GRACE_MS } from "./late-answers.ts";

/** A connect event that timed out, and what comes of its answer. Source: decision 0038. */

const TIMEOUT_MS = 300;

let backend: RawBackend;
let clock: FakeClock;
/** The connect events that the backend has not answered. */
let asked: Exchange[];

beforeEach(async () => {
  backend = await RawBackend.start();
  clock = new FakeClock();
  asked = [];
  backend.onConnect = (exchange) => void asked.push(exchange);
});

afterEach(() => backend.stop());

function start(overrides: Parameters<typeof upstreamEntry>[1] = {}) {
  const entry = upstreamEntry(`${backend.url}/{event}`, { timeoutMs: TIMEOUT_MS, breaker: NEVER_OPEN, ...overrides });
  return startUpstream([entry], { clock });
}

const NEVER_OPEN = { failureRatio: 0, minCalls: 20, windowMs: 10_000 };

/** Posts connect events that time out together; `late` is what comes of the answer of each. */
async function allTimedOut(upstream: ReturnType<typeof start>, connectionIds: readonly string[]) {
  const count = asked.length;
  const calls = connectionIds.map((connectionId) => upstream.connect(connectEvent({ connectionId }), null));
  await until(() => asked.length === count + calls.length, "the connect events");
  clock.advanceSync(TIMEOUT_MS + SWEEP_INTERVAL_MS);
  const outcomes = await within(Promise.all(calls), "the time-outs");
  return connectionIds.map((connectionId, index) => {
    const outcome = outcomes[index] as ConnectOutcome;
    expect(outcome).toMatchObject({ kind: "unknown", cause: "timeout", status: null });
    const exchange = asked.find(({ request }) => request.header("X-ASRS-Connection-Id") === connectionId) as Exchange;
    return { exchange, late: lateOf(outcome) };
  });
}

async function timedOut(upstream: ReturnType<typeof start>) {
  const [only] = await allTimedOut(upstream, ["c1"]);
  if (only === undefined) throw new Error("nothing was posted");
  return only;
}

function lateOf(outcome: ConnectOutcome): Promise<LateAnswer> {
  if (outcome.kind !== "unknown" || outcome.late === undefined) throw new Error("no late answer is waited for");
  return within(outcome.late, "what comes of the late answer");
}

describe("the answer to a connect event that timed out", () => {
  test.each([
    [200, { kind: "accepted", reply: { userId: "ann" } }],
    [204, { kind: "accepted", reply: { userId: "ann" } }],
    [403, { kind: "none" }],
    [500, { kind: "none" }],
  ])("%d: is read by its head, and the connection is used again", async (status, read) => {
    await using upstream = start();
    const { exchange, late } = await timedOut(upstream);
    exchange.reply(status, ["X-ASRS-User-Id: ann"]);
    expect(await late).toMatchObject(read);
    await upstream.call(disconnectEvent());
    expect(backend.connectionCount).toBe(1);
  });

  test("counts as soon as its head is there when the time is over, and where its body breaks", async () => {
    await using upstream = start();
    const [begun, broken] = await allTimedOut(upstream, ["c1", "c2"]);
    if (begun === undefined || broken === undefined) throw new Error("nothing was posted");
    const half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    broken.exchange.raw(half);
    broken.exchange.end();
    expect(await broken.late).toMatchObject({ kind: "accepted" });
    begun.exchange.raw(half);
    // Its bytes have arrived when those of an event behind them have been answered.
    await upstream.call(messageEvent());
    await until(() => {
      clock.advanceSync(SWEEP_INTERVAL_MS);
      return Bun.peek.status(begun.late) !== "pending";
    }, "the end of the wait");
    expect(await begun.late).toMatchObject({ kind: "accepted" });
  });

  test("names another event: it is no answer", async () => {
    await using upstream = start();
    const { exchange, late } = await timedOut(upstream);
    exchange.reply(200, ["X-Hubwire-Event-Id: another"]);
    expect(await late).toEqual({ kind: "none" });
  });

  test.each([
    ["as long as the time-out", 300, 300],
    ["30 s where that is longer", 100_000, MAX_GRACE_MS],
  ])("never comes: the wait ends after %s, and its socket with it", async (_what, timeoutMs, graceMs) => {
    await using upstream = start({ timeoutMs });
    const call = upstream.connect(connectEvent(), null);
    await until(() => asked.length === 1, "the connect event");
    clock.advanceSync(timeoutMs + SWEEP_INTERVAL_MS);
    const late = lateOf(await within(call, "the time-out"));
    clock.advanceSync(graceMs - SWEEP_INTERVAL_MS);
    expect(Bun.peek.status(late)).toBe("pending");
    clock.advanceSync(2 * SWEEP_INTERVAL_MS);
    expect(await late).toEqual({ kind: "none" });
    await within(asked[0]?.callerGone ?? Promise.resolve(), "the end of the socket");
  });

  test("never comes, since the connection ends: nothing is posted again", async () => {
    await using upstream = start();
    await upstream.call(disconnectEvent());
    const { exchange, late } = await timedOut(upstream);
    exchange.reset();
    expect(await late).toEqual({ kind: "none" });
    expect(backend.of("connect")).toHaveLength(1);
  });

  test("is not waited for where some of it was there, or the event is no connect", async () => {
    await using upstream = start();
    backend.onConnect = (exchange) => exchange.raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    backend.onMessage = never;
    const outcomes = [upstream.call(connectEvent()), upstream.call(messageEvent())];
    await Promise.all([backend.next("connect"), backend.next("message")]);
    // The bytes of the first are read before the answer to another comes.
    await upstream.call(disconnectEvent());
    clock.advanceSync(TIMEOUT_MS + SWEEP_INTERVAL_MS);
    for (const outcome of await within(Promise.all(outcomes), "the time-outs")) {
      expect(outcome).toMatchObject({ kind: "unknown", cause: "timeout" });
      expect(outcome).not.toHaveProperty("late");
    }
  });
});

describe("while late answers are waited for", () => {
  test("their places are free", async () => {
    await using upstream = start({ maxConcurrency: 1, maxWaitMs: 0 });
    const { exchange, late } = await timedOut(upstream);
    expect(await upstream.call(disconnectEvent())).toMatchObject({ kind: "answer", status: 204 });
    exchange.reply(200);
    expect(await late).toMatchObject({ kind: "accepted" });
  });

  test("idle sockets are kept: nobody waits for a worker any more", async () => {
    await using upstream = start();
    await timedOut(upstream);
    clock.advanceSync(200);
    await upstream.call(disconnectEvent());
    await upstream.call(disconnectEvent());
    expect(backend.connectionCount).toBe(2);
  });

  test("a reload that takes the entry out leaves their sockets, and a stop says that nothing is known", async () => {
    await using upstream = start();
    const [first, second] = await allTimedOut(upstream, ["c1", "c2"]);
    if (first === undefined || second === undefined) throw new Error("nothing was posted");
    upstream.reload([]);
    first.exchange.reply(200);
    expect(await first.late).toMatchObject({ kind: "accepted" });
    await upstream.stop();
    expect(await second.late).toEqual({ kind: "stopped" });
    expect(clock.timerCount).toBe(0);
  });
});
