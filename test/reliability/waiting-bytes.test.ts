import { expect, setDefaultTimeout, test } from "bun:test";
import { DEADLINE_MS, within } from "../support/deadline.ts";
import { encodeFrame, OPCODE } from "../support/frame-codec.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { openClients, openMute, readMemory, writeUntilEnd } from "./strangers/flood.ts";
import { formatMegabytes, IS_LONG, inForm, recordFigure } from "./support/form.ts";
import { type Call, LedgerBackend, orderly, type Reply } from "./support/ledger-backend.ts";
import { ProbedGateway } from "./support/probed-gateway.ts";

/**
 * Everything that strangers can make wait in the process, each driven past its bound from one machine without a token: the memory stays
 * bounded, and a new client gets in when the flood is over.
 */
setDefaultTimeout(10 * 60_000);

const MAX_BUFFERED = 268_435_456;
const FACTOR = 1.5;
/** What only the process's memory bounds may pass the bound by what comes in between two looks. */
const BETWEEN_LOOKS = 268_435_456;
const FLOOD_MS = inForm({ short: 3000, long: 15_000 });
const LARGE = Buffer.alloc(1_000_000, "a");

const accept = (body: Uint8Array | string = ""): Reply => orderly(200, ["X-ASRS-User-Id: alice"], body);

const MESSAGE = encodeFrame({ opcode: OPCODE.binary, payload: Buffer.alloc(65_536) });
const EMPTY = Buffer.concat(Array.from({ length: 2000 }, () => encodeFrame({ opcode: OPCODE.binary })));
const PART = encodeFrame({ opcode: OPCODE.binary, payload: LARGE, declaredBytes: 1_048_576 });
const PINGS = Buffer.concat(
  Array.from({ length: 500 }, () => encodeFrame({ opcode: OPCODE.ping, payload: LARGE.subarray(0, 125) })),
);

type Respond = (call: Call) => Reply | Promise<Reply>;

const echoing: Respond = ({ event, body }) =>
  event === "connect" ? accept() : event === "message" ? orderly(200, [], body) : orderly(204);
const silent: Respond = ({ event }) =>
  event === "connect" ? accept() : event === "message" ? new Promise(() => {}) : orderly(204);
const greeting: Respond = ({ event }) => (event === "connect" ? accept(LARGE) : orderly(204));
const refusing: Respond = () => orderly(401, [], LARGE);

interface Source {
  readonly clients: number;
  readonly respond: Respond;
  /** What each client sends: again and again until the flood ends, or once. */
  readonly sent: Buffer;
  readonly times: "again and again" | "once";
  readonly limits?: Readonly<Record<string, number>>;
  readonly isBoundByMemory?: boolean;
}

const SOURCES: Readonly<Record<string, Source>> = {
  "echoes that are not read": { clients: 40, respond: echoing, sent: MESSAGE, times: "again and again" },
  "pongs that are not read": {
    clients: 80,
    respond: echoing,
    sent: PINGS,
    times: "again and again",
    limits: { controlFramesPerSecond: 0 },
  },
  "first messages that are not read": { clients: 250, respond: greeting, sent: Buffer.alloc(0), times: "once" },
  "messages that the backend does not answer": {
    clients: 300,
    respond: silent,
    sent: MESSAGE,
    times: "again and again",
  },
  "empty messages that the backend does not answer": {
    clients: 200,
    respond: silent,
    sent: EMPTY,
    times: "again and again",
    limits: { maxInboxMessages: 1_000_000 },
  },
  "parts of messages": { clients: 600, respond: echoing, sent: PART, times: "once", isBoundByMemory: true },
};

/** The statuses of new clients, knocked one after the other, until one gets in. */
async function knockUntilIn(port: number): Promise<number[]> {
  const statuses: number[] = [];
  for (;;) {
    const client = await RawWebSocket.request({ port });
    const { status } = await client.answer();
    client.destroy();
    statuses.push(status);
    if (status === 101) return statuses;
    await new Promise(setImmediate);
  }
}

test.each(Object.entries(SOURCES))("%s: the memory stays bounded", async (what, source) => {
  await using backend = await LedgerBackend.start({ respond: source.respond });
  await using gateway = await ProbedGateway.start({
    upstreams: [{ urlTemplate: backend.urlTemplate, onMessageFailure: "ignore" }],
    limits: { maxPendingUpgradesPerAddress: 1024, ...source.limits },
    // Nobody here answers a ping; that is another test's matter.
    websocket: { pingAfterMs: 3_600_000 },
  });
  const { residentBytes } = await readMemory(gateway.pid);
  const clients = await openClients(source.clients, () => openMute(gateway.port));
  const flood = new AbortController();
  const floods = clients.map((client) => writeUntilEnd(client, source.sent, source.times, flood.signal));
  await Bun.sleep(FLOOD_MS);
  flood.abort();
  for (const client of clients) client.destroy();
  await within(Promise.all(floods), "the floods' end");
  const { peakBytes } = await readMemory(gateway.pid);
  const statuses = await within(knockUntilIn(gateway.port), "a new client to get in", 2 * DEADLINE_MS);
  expect(statuses.every((status) => status === 101 || status === 503)).toBeTrue();
  const grown = peakBytes - residentBytes;
  // The short form holds no ratio: a busy machine collects its garbage late.
  const slack = source.isBoundByMemory === true || !IS_LONG ? BETWEEN_LOOKS : 0;
  const allowed = FACTOR * MAX_BUFFERED + slack;
  recordFigure(
    `${what}, ${source.clients} clients: growth of the memory`,
    formatMegabytes(grown),
    formatMegabytes(allowed),
  );
  expect(grown).toBeLessThan(allowed);
  const { faults } = await gateway.probe();
  expect(faults).toEqual([]);
});

test("refusals of the backend that are not read: the memory stays bounded, and every client has its status", async () => {
  await using backend = await LedgerBackend.start({ respond: refusing });
  await using gateway = await ProbedGateway.start({
    upstreams: [{ urlTemplate: backend.urlTemplate }],
    limits: { maxPendingUpgradesPerAddress: 1024 },
  });
  const { residentBytes } = await readMemory(gateway.pid);
  const clients = await openClients(600, async () => {
    const client = await RawWebSocket.request({ port: gateway.port });
    client.pauseReading();
    return client;
  });
  await Bun.sleep(FLOOD_MS);
  const { peakBytes } = await readMemory(gateway.pid);
  const answered = clients.map(async (client) => {
    client.resumeReading();
    return (await client.answer()).status;
  });
  const statuses = new Set(await Promise.all(answered.map((status) => status.catch(() => "cut"))));
  expect([401, 502, 503, "cut"]).toEqual(expect.arrayContaining([...statuses]));
  expect(statuses).toContain(401);
  const grown = peakBytes - residentBytes;
  const allowed = FACTOR * MAX_BUFFERED + BETWEEN_LOOKS;
  recordFigure(
    "refusals of 1 MB that 600 clients do not read: growth of the memory",
    formatMegabytes(grown),
    formatMegabytes(allowed),
  );
  expect(grown).toBeLessThan(allowed);
});

test("messages of one address that the backend does not answer: a new client is kept out for some seconds at most", async () => {
  await using backend = await LedgerBackend.start({ respond: silent });
  await using gateway = await ProbedGateway.start({
    upstreams: [{ urlTemplate: backend.urlTemplate }],
    limits: { maxPendingUpgradesPerAddress: 1024 },
    websocket: { pingAfterMs: 3_600_000 },
  });
  const { residentBytes } = await readMemory(gateway.pid);
  const clients = await openClients(300, () => openMute(gateway.port));
  const message = encodeFrame({ opcode: OPCODE.binary, payload: Buffer.alloc(1_048_576, "a") });
  const flood = new AbortController();
  const floods = clients.map((client) => writeUntilEnd(client, message, "once", flood.signal));
  const startedAt = performance.now();
  // Long enough for all that the clients have sent to come in.
  await Bun.sleep(1000);
  const statuses = await within(knockUntilIn(gateway.port), "a new client to get in", 2 * DEADLINE_MS);
  const keptOutMs = performance.now() - startedAt;
  const { peakBytes } = await readMemory(gateway.pid);
  flood.abort();
  for (const client of clients) client.destroy();
  await within(Promise.all(floods), "the floods' end");
  expect(statuses.every((status) => status === 101 || status === 503)).toBeTrue();
  const grown = peakBytes - residentBytes;
  // While a message comes in, Bun has its parts.
  const allowed = FACTOR * MAX_BUFFERED + BETWEEN_LOOKS;
  recordFigure(
    "300 messages of 1 MiB of one address that the backend does not answer: growth of the memory",
    formatMegabytes(grown),
    formatMegabytes(allowed),
  );
  recordFigure("… until a new client gets in", `${(keptOutMs / 1000).toFixed(1)} s`, "10.0 s");
  expect(grown).toBeLessThan(allowed);
  if (IS_LONG) expect(keptOutMs).toBeLessThan(10_000);
  const { faults } = await gateway.probe();
  expect(faults).toEqual([]);
});
