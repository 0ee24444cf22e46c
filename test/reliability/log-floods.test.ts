import { expect, setDefaultTimeout, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { within } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { startGatewayProcess } from "../support/process.ts";
import { RawBackend } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { UnreadGateway } from "../support/unread-gateway.ts";
import { IS_LONG, inForm, recordFigure } from "./support/form.ts";

/** What clients that are refused do to the log, and what a log that nobody reads does to the gateway. */
setDefaultTimeout(10 * 60_000);

const REQUESTS = inForm({ short: 6000, long: 120_000 });
/** Requests that are on their way at the same time, over one TCP connection. */
const ABREAST = 100;
const MIN_CHATS = inForm({ short: 50, long: 1000 });
const MAX_P99_MS = 100;

interface RefusalLine {
  readonly msg: string;
  readonly hub?: string;
  readonly count?: number;
  readonly clientAddress?: string;
}

/** Handshakes without a token over one TCP connection, each to the hub of its number; resolves with the seconds that it took. */
async function flood(port: number, hubOf: (index: number) => string): Promise<number> {
  const socket = connect(port, "127.0.0.1");
  const startedMs = performance.now();
  const ended = Promise.withResolvers<void>();
  let sent = 0;
  let answered = 0;
  const sendSome = () => {
    const upTo = Math.min(REQUESTS, answered + ABREAST);
    let text = "";
    for (; sent < upTo; sent++) text += requestTo(hubOf(sent), port);
    if (text !== "") socket.write(text);
  };
  socket.on("data", (bytes) => {
    answered += bytes.toString("latin1").split("HTTP/1.1 401").length - 1;
    if (answered >= REQUESTS) ended.resolve();
    else sendSome();
  });
  socket.on("close", () => ended.reject(new Error(`the flood's connection ended after ${answered} answers`)));
  sendSome();
  await within(ended.promise, "the answers to the flood", 5 * 60_000);
  endQuietly(socket);
  return (performance.now() - startedMs) / 1000;
}

function endQuietly(socket: Socket): void {
  socket.removeAllListeners("close");
  socket.destroy();
}

function requestTo(hub: string, port: number): string {
  const lines = [
    `GET /client/hubs/${hub} HTTP/1.1`,
    `Host: 127.0.0.1:${port}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
  ];
  return `${lines.join("\r\n")}\r\n\r\n`;
}

test.each([
  ["of one hub", () => "closed", 1],
  ["each of another hub", (index: number) => `h${index}`, 65],
])(
  `${REQUESTS} refused clients over one connection, %s: the log has bounded lines, which count all`,
  async (what, hubOf, most) => {
    await using gateway = await startGatewayProcess({
      through: "bin",
      config: { accessKeys: KEYS, anonymous: "deny" },
    });
    const seconds = await flood(gateway.port, hubOf);
    gateway.child.kill("SIGTERM");
    expect(await within(gateway.exited, "the exit")).toBe(0);
    const lines = gateway
      .stderr()
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as RefusalLine)
      .filter(({ msg }) => msg === "connection refused");
    expect(lines.reduce((sum, { count = 1 }) => sum + count, 0)).toBe(REQUESTS);
    expect(new Set(lines.map(({ clientAddress }) => clientAddress))).toEqual(new Set(["127.0.0.1"]));
    // The first at once, one each second, and what the end has not waited for.
    expect(lines.length).toBeLessThanOrEqual((seconds + 3) * most);
    recordFigure(
      `${REQUESTS} refused clients over one connection, ${what}: lines a second (refused a second)`,
      `${(lines.length / Math.max(1, seconds)).toFixed(1)} (${Math.round(REQUESTS / seconds)})`,
      `${most} and the first`,
    );
  },
);

test("a gateway whose standard error nobody reads carries messages while it refuses others", async () => {
  await using backend = await RawBackend.start();
  const limits = { maxLogBufferBytes: 65_536 };
  const upstreams = [{ urlTemplate: `${backend.url}/{hub}/api/{event}` }];
  await using gateway = await UnreadGateway.start({
    anonymous: "deny",
    hubs: { chat: { anonymous: "allow" } },
    limits,
    upstreams,
  });
  using client = await RawWebSocket.open({ port: gateway.port });
  const flooding = flood(gateway.port, (index) => `h${index}`);
  const tookMs: number[] = [];
  let isFlooding = true;
  void flooding.finally(() => {
    isFlooding = false;
  });
  while (isFlooding || tookMs.length < MIN_CHATS) {
    const startedMs = performance.now();
    client.text("hello");
    expect(await client.nextText()).toBe("hello");
    tookMs.push(performance.now() - startedMs);
  }
  const seconds = await flooding;
  const p99 = tookMs.toSorted((a, b) => a - b)[Math.floor(tookMs.length * 0.99)] ?? 0;
  if (IS_LONG) expect(p99).toBeLessThanOrEqual(MAX_P99_MS);
  const { code, text } = await gateway.end({ isRead: false });
  expect([code, text.trim()]).toEqual([0, ""]);
  recordFigure(
    `standard error that nobody reads, ${Math.round(REQUESTS / seconds)} refused a second: p99 of a message and its answer`,
    `${p99.toFixed(1)} ms`,
    `${MAX_P99_MS} ms`,
  );
});
