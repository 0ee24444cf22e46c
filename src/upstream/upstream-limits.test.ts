import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { within } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { type Exchange, never, RawBackend } from "../../test/support/raw-backend.ts";
import {
  type CallEnd,
  messageEvent,
  startUpstream,
  type TestUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import { SWEEP_INTERVAL_MS } from "./deadlines.ts";
import { MAX_HEAD_BYTES, MAX_HEADER_LINES } from "./response-head.ts";

/** Every limit of an answer, at the limit and one beyond. */
const MAX_BODY = 100_000;
const TIMEOUT_MS = 1000;

let backend: RawBackend;
let clock: FakeClock;
let upstream: TestUpstream;

beforeEach(async () => {
  backend = await RawBackend.start();
  clock = new FakeClock();
  const entry = upstreamEntry(`${backend.url}/{event}`, { timeoutMs: TIMEOUT_MS });
  upstream = startUpstream([entry], { maxResponseBytes: MAX_BODY, clock });
});

afterEach(async () => {
  await upstream.stop();
  await backend.stop();
});

function answeredBy(script: (exchange: Exchange) => void): Promise<CallEnd> {
  backend.onMessage = script;
  return within(upstream.call(messageEvent()), "the outcome");
}

/** Answers with these bytes, and leaves the connection open. */
function answeredWith(bytes: string): Promise<CallEnd> {
  return answeredBy((exchange) => exchange.raw(bytes));
}

const OK = "HTTP/1.1 200 OK\r\n";
const chunk = (length: number) => `${length.toString(16)}\r\n${"x".repeat(length)}\r\n`;

describe("a body", () => {
  test.each([
    ["declared", (length: number) => `${OK}Content-Length: ${length}\r\n\r\n${"x".repeat(length)}`],
    ["in one chunk", (length: number) => `${OK}Transfer-Encoding: chunked\r\n\r\n${chunk(length)}0\r\n\r\n`],
    ["in two", (length: number) => `${OK}Transfer-Encoding: chunked\r\n\r\n${chunk(7)}${chunk(length - 7)}0\r\n\r\n`],
  ])("%s may have the greatest length, and not a byte more", async (_name, answerOf) => {
    const taken = await answeredWith(answerOf(MAX_BODY));
    expect(taken).toMatchObject({ kind: "answer", status: 200, body: { length: MAX_BODY } });
    const refused = await answeredWith(answerOf(MAX_BODY + 1));
    expect(refused).toMatchObject({ kind: "unknown", cause: "too-large", status: 200 });
  });
});

test("a body up to the end of the connection may have the greatest length, and not a byte more", async () => {
  const closedAfter = (length: number) =>
    answeredBy((exchange) => {
      exchange.raw(`${OK}\r\n${"x".repeat(length)}`);
      exchange.end();
    });
  expect(await closedAfter(MAX_BODY)).toMatchObject({ kind: "answer", status: 200, body: { length: MAX_BODY } });
  expect(await closedAfter(MAX_BODY + 1)).toMatchObject({ kind: "unknown", cause: "too-large", status: 200 });
});

describe("a head", () => {
  const headOf = (length: number) => {
    const [before, after] = [`HTTP/1.1 204 No\r\nX: `, "\r\n\r\n"];
    return before + "y".repeat(length - before.length - after.length) + after;
  };

  test("may have the greatest length, and not a byte more", async () => {
    expect(await answeredWith(headOf(MAX_HEAD_BYTES))).toMatchObject({ kind: "answer", status: 204 });
    expect(await answeredWith(headOf(MAX_HEAD_BYTES + 1))).toMatchObject({ kind: "unknown", cause: "malformed" });
  });

  test("may have the greatest number of lines, and not one more", async () => {
    const lines = (count: number) => "X: y\r\n".repeat(count);
    const answer = await answeredWith(`HTTP/1.1 204 No\r\n${lines(MAX_HEADER_LINES)}\r\n`);
    expect(answer).toMatchObject({ kind: "answer", status: 204, headers: { length: MAX_HEADER_LINES } });
    const refused = await answeredWith(`HTTP/1.1 204 No\r\n${lines(MAX_HEADER_LINES + 1)}\r\n`);
    expect(refused).toMatchObject({ kind: "unknown", cause: "malformed" });
  });
});

describe("an answer", () => {
  test("may come in the last millisecond of timeoutMs, and not when the sweep has found it late", async () => {
    const inTime = upstream.call(messageEvent());
    backend.onMessage = (exchange) => {
      clock.advanceSync(TIMEOUT_MS - 1);
      exchange.reply(200);
    };
    expect(await within(inTime, "the answer in time")).toMatchObject({ kind: "answer", status: 200 });

    backend.onMessage = never;
    const late = upstream.call(messageEvent());
    await backend.next("message");
    await backend.next("message");
    clock.advanceSync(TIMEOUT_MS + SWEEP_INTERVAL_MS);
    expect(await within(late, "the time-out")).toMatchObject({ kind: "unknown", cause: "timeout" });
  });
});
