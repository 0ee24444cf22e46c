import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { brotliCompressSync, constants, deflateRawSync, deflateSync, gzipSync } from "node:zlib";
import { within } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { RawBackend } from "../../test/support/raw-backend.ts";
import {
  bodyOf,
  type CallEnd,
  connectEvent,
  disconnectEvent,
  messageEvent,
  startUpstream,
  type TestUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import type { UpstreamEvent } from "../protocol/events.ts";
import { SWEEP_INTERVAL_MS } from "./deadlines.ts";

/** Answers with a content coding, though `identity` was asked for. */

const MAX_BODY = 100_000;
const TIMEOUT_MS = 1000;
const MIB = 1_048_576;

let backend: RawBackend;
let upstream: TestUpstream;
let clock: FakeClock;
/** What is held of the process's memory, the most of it so far, and how much may be. */
let held: number;
let mostHeld: number;
let room: number;
let onHold: () => void;

beforeEach(async () => {
  backend = await RawBackend.start();
  clock = new FakeClock();
  [held, mostHeld, room] = [0, 0, Number.POSITIVE_INFINITY];
  onHold = () => {};
  upstream = startUpstream([upstreamEntry(`${backend.url}/{event}`, { timeoutMs: TIMEOUT_MS })], {
    maxResponseBytes: MAX_BODY,
    clock,
    fits: (byteCount) => held + byteCount <= room,
    hold: (byteCount) => {
      held += byteCount;
      mostHeld = Math.max(mostHeld, held);
      onHold();
    },
  });
});

afterEach(async () => {
  await upstream.stop();
  await backend.stop();
});

interface Coded {
  readonly coding: string;
  readonly body: Uint8Array;
  readonly status?: number;
  readonly event?: UpstreamEvent;
}

/** The outcome of an event that is answered with such a body. */
function answeredWith({ coding, body, status = 200, event = messageEvent() }: Coded): Promise<CallEnd> {
  backend.onConnect = (x) => x.reply(status, [`Content-Encoding: ${coding}`, "Content-Type: text/x-own"], body);
  backend.onMessage = backend.onConnect;
  backend.onDisconnect = backend.onConnect;
  return within(upstream.call(event), "the outcome");
}

const TEXT = "grüß dich, und noch einmal: grüß dich";

describe("an answer that hubwire reads is decoded", () => {
  const codings: readonly (readonly [string, Uint8Array])[] = [
    ["gzip", gzipSync(TEXT)],
    ["x-gzip", gzipSync(TEXT)],
    ["GZIP", gzipSync(TEXT)],
    ["deflate", deflateSync(TEXT)],
    ["deflate", deflateRawSync(TEXT)],
    ["deflate", deflateRawSync("")],
    ["br", brotliCompressSync(TEXT)],
    ["identity, gzip", gzipSync(TEXT)],
    ["deflate, gzip", gzipSync(deflateSync(TEXT))],
    ["gzip, br, deflate", deflateSync(brotliCompressSync(gzipSync(TEXT)))],
  ];
  test.each(codings)("%s (%#)", async (coding, body) => {
    const text = body.length < 3 ? "" : TEXT;
    for (const [event, status] of [
      [messageEvent(), 200],
      [messageEvent(), 404],
      [messageEvent(), 500],
      [connectEvent(), 200],
    ] as const) {
      const outcome = await answeredWith({ coding, body, status, event });
      const own = event.name === "message" ? { contentType: "text/x-own", text } : {};
      expect(outcome).toMatchObject({ kind: "answer", status, ...own });
      expect(bodyOf(outcome).toString()).toBe(text);
    }
    expect(held).toBe(0);
  });

  test("over two lines, in their order", async () => {
    const body = brotliCompressSync(gzipSync(TEXT));
    backend.onMessage = (x) => x.reply(200, ["Content-Encoding: gzip", "content-encoding: br"], body);
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", text: TEXT });
  });

  test("with no body it is an answer without one", async () => {
    expect(await answeredWith({ coding: "gzip", body: new Uint8Array() })).toMatchObject({ kind: "answer", text: "" });
  });

  test("that is no UTF-8 has no text", async () => {
    const bytes = Buffer.from([0xff, 0, 1]);
    const outcome = await answeredWith({ coding: "gzip", body: gzipSync(bytes) });
    expect(outcome).toMatchObject({ kind: "answer", text: null });
    expect(bodyOf(outcome).equals(bytes)).toBe(true);
  });

  test("of exactly maxResponseBytes, and not of one byte more", async () => {
    for (const [coding, code] of [
      ["gzip", gzipSync],
      ["deflate", deflateRawSync],
      ["br", brotliCompressSync],
    ] as const) {
      const whole = await answeredWith({ coding, body: code(Buffer.alloc(MAX_BODY, "x")) });
      expect(bodyOf(whole).length).toBe(MAX_BODY);
      const tooLong = await answeredWith({ coding, body: code(Buffer.alloc(MAX_BODY + 1, "x")) });
      expect(tooLong).toMatchObject({ kind: "unknown", cause: "too-large", status: 200 });
    }
    expect(held).toBe(0);
  });

  test("and its connection is used again", async () => {
    for (let i = 0; i < 3; i++) await answeredWith({ coding: "gzip", body: gzipSync(TEXT) });
    expect(backend.connectionCount).toBe(1);
  });
});

describe("an answer that hubwire does not read keeps its coding", () => {
  const body = gzipSync(TEXT);
  test.each([400, 403, 499, 500, 302])("connect, status %d", async (status) => {
    const outcome = await answeredWith({ coding: "gzip", body, status, event: connectEvent() });
    expect(outcome).toMatchObject({ kind: "answer", status });
    expect(bodyOf(outcome).equals(body)).toBe(true);
  });

  test("disconnect: the status is all that counts, even of a coding that nobody knows", async () => {
    for (const coding of ["gzip", "zstd"]) {
      const outcome = await answeredWith({ coding, body: Buffer.from("?"), event: disconnectEvent() });
      expect(outcome).toMatchObject({ kind: "answer", status: 200 });
    }
  });
});

describe("an answer that cannot be decoded counts as no answer, with its status and headers", () => {
  const gzip = gzipSync(TEXT);
  const rows: readonly (readonly [string, string, Uint8Array])[] = [
    ["an unknown coding", "zstd", gzip],
    ["a coding named like a property of objects", "constructor", gzip],
    ["a known coding and an unknown one", "zstd, gzip", gzip],
    ["more codings than three", "gzip, gzip, gzip, gzip", gzipSync(gzipSync(gzipSync(gzip)))],
    ["another coding than it says", "br", gzip],
    ["no coding though it says one", "gzip", Buffer.from(TEXT)],
    ["a body that is cut off", "gzip", gzip.subarray(0, -1)],
    ["a body that is cut off in the second coding", "gzip, br", brotliCompressSync(gzip.subarray(0, -9))],
    ["a wrong checksum", "gzip", Buffer.concat([gzip.subarray(0, -8), Buffer.alloc(8)])],
    ["garbage for deflate", "deflate", Buffer.from([0xff, 0xff, 0xff])],
  ];
  test.each(rows)("%s", async (_what, coding, body) => {
    for (const event of [messageEvent(), connectEvent()]) {
      const outcome = await answeredWith({ coding, body, event });
      expect(outcome).toMatchObject({ kind: "unknown", cause: "malformed", status: 200 });
      expect(outcome).toHaveProperty("headers", expect.arrayContaining([["Content-Type", "text/x-own"]]));
    }
    expect(held).toBe(0);
  });

  test("where there is no room for it, and it counts while it is decoded", async () => {
    const body = gzipSync(Buffer.alloc(MAX_BODY, "x"));
    expect(await answeredWith({ coding: "gzip", body })).toMatchObject({ kind: "answer" });
    expect(mostHeld).toBeGreaterThan(MAX_BODY);
    room = mostHeld - 1;
    const outcome = await answeredWith({ coding: "gzip", body });
    expect(outcome).toMatchObject({ kind: "unknown", cause: "too-large", status: 200 });
    expect(outcome).toHaveProperty("detail", expect.stringContaining("limits.maxBufferedBytes"));
    expect(held).toBe(0);
  });
});

describe("a body that would become very large", () => {
  const zeros = Buffer.alloc(64 * MIB);
  const quick = { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } };
  const bombs: readonly (readonly [string, () => Uint8Array])[] = [
    ["gzip", () => gzipSync(zeros)],
    ["deflate", () => deflateRawSync(zeros)],
    ["br", () => brotliCompressSync(zeros, quick)],
    ["gzip, gzip", () => gzipSync(gzipSync(zeros))],
    // 1.3 million members of nothing: much work for no byte of answer.
    ["gzip, br", () => brotliCompressSync(Buffer.concat(Array(1_300_000).fill(gzipSync(""))), quick)],
  ];
  test.each(bombs)("%s: ends at the limit, and little is held of it", async (coding, makeBody) => {
    const body = makeBody();
    const big = startUpstream([upstreamEntry(`${backend.url}/{event}`)], {
      maxResponseBytes: MIB,
      hold: (byteCount) => {
        held += byteCount;
        mostHeld = Math.max(mostHeld, held);
      },
    });
    try {
      backend.onMessage = (x) => x.reply(200, [`Content-Encoding: ${coding}`], body);
      const outcome = await within(big.call(messageEvent()), "the outcome");
      expect(outcome).toMatchObject({ kind: "unknown", cause: "too-large", status: 200 });
      // The body twice, as it came and as it is decoded, and what a decoder takes.
      expect(mostHeld).toBeLessThan(5 * MIB);
      expect(held).toBe(0);
    } finally {
      await big.stop();
    }
  });
});

describe("while an answer is decoded", () => {
  const body = gzipSync(Buffer.alloc(MAX_BODY, "x"));

  /** Does something as soon as the first decoded bytes are there. */
  function whenDecoding(act: () => void): void {
    onHold = () => {
      // The body as it came, then the decoder, then what it gives.
      if (held < MAX_BODY + body.length) return;
      onHold = () => {};
      act();
    };
  }

  test("timeoutMs goes on: a late one is a time-out that knows the status", async () => {
    whenDecoding(() => clock.advanceSync(TIMEOUT_MS + SWEEP_INTERVAL_MS));
    const outcome = await answeredWith({ coding: "gzip", body });
    expect(outcome).toMatchObject({ kind: "unknown", cause: "timeout", status: 200 });
    expect(held).toBe(0);
  });

  test("a shutdown ends it", async () => {
    whenDecoding(() => upstream.abandonMessages());
    const outcome = await answeredWith({ coding: "gzip", body });
    expect(outcome).toMatchObject({ kind: "unknown", cause: "abandoned", status: 200 });
    expect(held).toBe(0);
  });

  test("the end of the upstream ends it", async () => {
    whenDecoding(() => void upstream.stop());
    const outcome = await answeredWith({ coding: "gzip", body });
    expect(outcome).toMatchObject({ kind: "unknown", cause: "abandoned", status: 200 });
    expect(held).toBe(0);
  });

  test("other calls get their answers", async () => {
    const other = Promise.withResolvers<CallEnd>();
    whenDecoding(() => {
      backend.onMessage = (x) => x.reply(204);
      void upstream.call(messageEvent("another")).then(other.resolve);
    });
    expect(await answeredWith({ coding: "gzip", body })).toMatchObject({ kind: "answer" });
    expect(await within(other.promise, "the other's answer")).toMatchObject({ kind: "answer", status: 204 });
  });
});
