import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { until } from "../../test/support/deadline.ts";
import { FakeClock, settled } from "../../test/support/fake-clock.ts";
import { RawBackend } from "../../test/support/raw-backend.ts";
import { messageEvent, startUpstream, type TestUpstream, upstreamEntry } from "../../test/support/upstream/fixture.ts";
import { SWEEP_INTERVAL_MS } from "./deadlines.ts";
import { REPEAT_AFTER_MS } from "./message-post.ts";

/** A message of which provably nothing was sent is posted again. Source: decision 0002. */

let backend: RawBackend;
let clock: FakeClock;
/** Whether the address of the backend is found. */
let isReachable: boolean;
let lookupCount: number;

beforeEach(async () => {
  backend = await RawBackend.start();
  clock = new FakeClock();
  isReachable = false;
  lookupCount = 0;
});

afterEach(() => backend.stop());

async function resolve(): Promise<string[]> {
  lookupCount++;
  if (!isReachable) throw Object.assign(new Error("no address"), { code: "ENOTFOUND" });
  return ["127.0.0.1"];
}

function start(): TestUpstream {
  const entry = upstreamEntry(`http://backend.test:${new URL(backend.url).port}/{event}`, {
    breaker: { failureRatio: 0, minCalls: 20, windowMs: 10_000 },
  });
  return startUpstream([entry], { clock, resolve, repeatAfterMs: REPEAT_AFTER_MS });
}

/** Posts a message; what its listener hears. */
function post(upstream: TestUpstream) {
  const heard: string[] = [];
  const call = upstream.post(messageEvent("hello"), {
    onReply: () => void heard.push("reply"),
    onFailure: ({ kind }, entry) => void heard.push(`${kind} ${entry?.label ?? "no entry"}`),
    onFault: (bug) => void heard.push(String(bug)),
  });
  if (call === null) throw new Error("no entry takes it");
  return { heard, call };
}

/** Waits for the end of the current try, then lets its pause go by. */
async function nextTry(pauseMs: number): Promise<void> {
  const count = lookupCount;
  await until(() => {
    clock.advanceSync(SWEEP_INTERVAL_MS);
    return lookupCount > count;
  }, `a try after ${pauseMs} ms`);
  await settled();
}

const LABEL = () => `upstreams[0] http://backend.test:${new URL(backend.url).port}/{event}`;

describe("a message that is not sent", () => {
  test("is posted again three times, then its listener hears of it once, with its entry", async () => {
    await using upstream = start();
    const { heard, call } = post(upstream);
    const postedAtMs = clock.now();
    await until(() => lookupCount === 1, "the first try");
    for (const pauseMs of REPEAT_AFTER_MS) await nextTry(pauseMs);
    await until(() => heard.length > 0, "the failure");
    expect(call.tookMs()).toBe(clock.now() - postedAtMs);
    expect(call.tookMs()).toBeGreaterThanOrEqual(700);
    expect(upstream.meters.messageRepeats).toBe(3);
    expect(upstream.meters.calls.message).toMatchObject({ "2xx": 0, "not-sent": 4 });
    clock.advanceSync(60_000);
    await settled();
    expect([heard, lookupCount]).toEqual([[`not-sent ${LABEL()}`], 4]);
  });

  test("pauses for 100 ms at least", async () => {
    await using upstream = start();
    post(upstream);
    await until(() => lookupCount === 1, "the first try");
    await settled();
    clock.advanceSync(99);
    await settled();
    expect(lookupCount).toBe(1);
    await nextTry(100);
    expect(lookupCount).toBe(2);
  });

  test("is answered where one of its repeats is, with the same id", async () => {
    await using upstream = start();
    const { heard } = post(upstream);
    await until(() => lookupCount === 1, "the first try");
    await nextTry(100);
    isReachable = true;
    await nextTry(200);
    await until(() => heard.length > 0, "the reply");
    expect([heard, lookupCount]).toEqual([["reply"], 3]);
    expect(backend.requests.map((request) => request.header("X-Hubwire-Event-Id"))).toEqual([messageEvent().eventId]);
  });

  test("goes to the entry that takes it by then, and to none after a reload without one", async () => {
    await using upstream = start();
    const moved = post(upstream);
    await until(() => lookupCount === 1, "the first try");
    await settled();
    upstream.reload([upstreamEntry(`${backend.url}/{event}`)]);
    await until(() => {
      clock.advanceSync(SWEEP_INTERVAL_MS);
      return moved.heard.length > 0;
    }, "the reply of the new entry");
    expect([moved.heard, lookupCount]).toEqual([["reply"], 1]);
    upstream.reload([]);
    expect(upstream.post(messageEvent(), { onReply() {}, onFailure() {}, onFault() {} })).toBeNull();
  });

  test("is given up in its pause with all others, and none is repeated from then on", async () => {
    await using upstream = start();
    const { heard } = post(upstream);
    await until(() => lookupCount === 1, "the first try");
    await settled();
    upstream.abandonMessages();
    expect(heard).toEqual([`not-sent ${LABEL()}`]);
    const later = post(upstream);
    await until(() => later.heard.length > 0, "the failure");
    clock.advanceSync(60_000);
    await settled();
    expect([later.heard, lookupCount]).toEqual([[`not-sent ${LABEL()}`], 2]);
  });

  test("is given up alone, and nothing waits for it any more", async () => {
    await using upstream = start();
    const { heard, call } = post(upstream);
    await until(() => lookupCount === 1, "the first try");
    await settled();
    expect(call.forgoRepeat()).toBe(false);
    call.abandon();
    call.abandon();
    clock.advanceSync(60_000);
    await settled();
    expect([heard, lookupCount]).toEqual([[`not-sent ${LABEL()}`], 1]);
  });
});
