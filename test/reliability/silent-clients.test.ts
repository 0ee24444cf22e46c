import { expect, setDefaultTimeout, test } from "bun:test";
import { encodeFrame, OPCODE } from "../support/frame-codec.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { percentile } from "./broadcast/audience.ts";
import { openClients, openMute, writeUntilEnd } from "./strangers/flood.ts";
import { IS_LONG, inForm, recordFigure } from "./support/form.ts";
import { LedgerBackend, orderly } from "./support/ledger-backend.ts";
import { ProbedGateway } from "./support/probed-gateway.ts";

/** A few clients that do not read, or that send nothing but control frames, and what others notice of them. */
setDefaultTimeout(10 * 60_000);

const MESSAGE = encodeFrame({ opcode: OPCODE.binary, payload: Buffer.alloc(65_536) });
const EMPTY_PINGS = Buffer.concat(Array.from({ length: 5000 }, () => encodeFrame({ opcode: OPCODE.ping })));

const startBackend = (): Promise<LedgerBackend> =>
  LedgerBackend.start({
    respond: ({ event, body }) =>
      event === "connect"
        ? orderly(200, ["X-ASRS-User-Id: alice"])
        : event === "message"
          ? orderly(200, [], body)
          : orderly(204),
  });

/** Sends small messages one after the other, and returns how long each took to come back. Units: ms. */
async function echoTimes(client: RawWebSocket, count: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const sentAt = performance.now();
    client.text(`echo ${i}`);
    expect(await client.nextText()).toBe(`echo ${i}`);
    times.push(performance.now() - sentAt);
  }
  return times;
}

test("17 clients that do not read their echoes are ended, and shut nobody out for long", async () => {
  await using backend = await startBackend();
  await using gateway = await ProbedGateway.start({ upstreams: [{ urlTemplate: backend.urlTemplate }] });
  const clients = await openClients(17, () => openMute(gateway.port));
  const flood = new AbortController();
  const floods = clients.map((client) => writeUntilEnd(client, MESSAGE, "again and again", flood.signal));
  const startedAt = performance.now();
  let longestMs = 0;
  let refusedSince: number | null = null;
  const endedCount = (): number =>
    [...backend.ledger.accounts.values()].filter(({ closeCode }) => closeCode === "1013").length;
  while (endedCount() < 17) {
    const client = await RawWebSocket.request({ port: gateway.port });
    const { status } = await client.answer();
    client.destroy();
    expect([101, 503]).toContain(status);
    const now = performance.now();
    if (status === 503) refusedSince ??= now;
    if (refusedSince !== null) longestMs = Math.max(longestMs, now - refusedSince);
    if (status === 101) refusedSince = null;
    await new Promise(setImmediate);
  }
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
  const endedMs = performance.now() - startedAt;
  flood.abort();
  for (const client of clients) client.destroy();
  await Promise.all(floods);
  recordFigure(
    "17 clients that read nothing: all ended after; new clients refused at one time for at most",
    `${seconds(endedMs)}; ${seconds(longestMs)}`,
    "60 s; 5 s",
  );
  if (IS_LONG) {
    expect(endedMs).toBeLessThan(60_000);
    expect(longestMs).toBeLessThan(5000);
  }
});

test("clients that flood empty pings are ended with 1008, and the others' echoes are hardly later", async () => {
  const ECHOES = inForm({ short: 20, long: 500 });
  const MAX_MS = 50;
  await using backend = await startBackend();
  await using gateway = await ProbedGateway.start({
    upstreams: [{ urlTemplate: backend.urlTemplate }],
    limits: { messagesPerSecond: 10_000 },
  });
  const other = await RawWebSocket.open({ port: gateway.port });
  const before = await echoTimes(other, ECHOES);
  const flood = new AbortController();
  const flooding = async (): Promise<void> => {
    while (!flood.signal.aborted) {
      const client = await RawWebSocket.open({ port: gateway.port });
      client.tcp.resume();
      await writeUntilEnd(client, EMPTY_PINGS, "again and again", flood.signal);
      client.destroy();
    }
  };
  const floods = Array.from({ length: 8 }, flooding);
  const during = await echoTimes(other, ECHOES);
  const limited = (): number =>
    [...backend.ledger.accounts.values()].filter(({ closeCode }) => closeCode === "1008").length;
  await backend.ledger.until(() => limited() >= 8, "the flooders' disconnects");
  flood.abort();
  await Promise.all(floods);
  other.destroy();
  const show = (times: readonly number[]): string =>
    `${percentile(times, 0.5).toFixed(1)} ms, p99 ${percentile(times, 0.99).toFixed(1)} ms`;
  recordFigure(
    "an echo; an echo while 8 clients flood empty pings and come back",
    `${show(before)}; ${show(during)}`,
    `p99 ${MAX_MS} ms`,
  );
  if (IS_LONG) expect(percentile(during, 0.99)).toBeLessThan(MAX_MS);
});

test("clients that upload or read slowly, but steadily, are not cut", async () => {
  const SECONDS = inForm({ short: 14, long: 75 });
  const websocket = inForm({ short: { pingAfterMs: 2000, pongTimeoutMs: 4000 }, long: {} });
  /**
   * Bytes per second that PROTOCOL.md calls safe; for the upload a tenth more, since a test's seconds are not exact. In the short form
   * twice as many: on a busy machine a quarter of a second may take one.
   */
  const [UPLOAD, READ] = [inForm({ short: 2000, long: 1100 }), 25_000];
  await using backend = await startBackend();
  await using gateway = await ProbedGateway.start({ upstreams: [{ urlTemplate: backend.urlTemplate }], websocket });
  const uploader = await RawWebSocket.open({ port: gateway.port });
  const reader = await openMute(gateway.port);
  for (let i = 0; i < 150; i++) reader.write(MESSAGE);
  uploader.send({ opcode: OPCODE.binary, payload: Buffer.alloc(0), declaredBytes: 1_048_576 });
  let readBytes = 0;
  let owedBytes = 0;
  reader.tcp.on("data", (piece: Buffer) => {
    readBytes += piece.length;
    reader.pauseReading();
  });
  for (let quarter = 0; quarter < SECONDS * 4; quarter++) {
    uploader.write(Buffer.alloc(UPLOAD / 4));
    owedBytes += READ / 4;
    if (readBytes < owedBytes) reader.resumeReading();
    // A pace has its time; this is it, no wait for something to happen.
    await Bun.sleep(250);
  }
  const ends = [...backend.ledger.accounts.values()].filter(({ disconnects }) => disconnects > 0);
  recordFigure(
    `an upload at ${UPLOAD} bytes per second and a reader at ${READ}, for ${SECONDS} s: clients cut`,
    String(ends.length),
    "0",
  );
  expect(ends.map(({ closeCode, closeReason }) => `${closeCode} ${closeReason}`)).toEqual([]);
  uploader.destroy();
  reader.destroy();
});
