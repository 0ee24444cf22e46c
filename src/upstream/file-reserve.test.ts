import { afterEach, expect, test } from "bun:test";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { until, within } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { RawBackend } from "../../test/support/raw-backend.ts";
import { resolveBySystem } from "./destination.ts";
import type { HttpOutcome } from "./exchange.ts";
import { FileReserve } from "./file-reserve.ts";
import { HttpClient } from "./http-client.ts";
import { formatRequest } from "./request-bytes.ts";
import { parseOrigin } from "./url-template.ts";

const SIZE = 8;
let stops: (() => unknown)[] = [];

afterEach(async () => {
  for (const stop of stops.toReversed()) await stop();
  stops = [];
});

function openFiles(): number {
  return readdirSync("/proc/self/fd").length;
}

function startClient(url: string, files: FileReserve): (target: string) => Promise<HttpOutcome> {
  const origin = parseOrigin(url);
  if (origin === null) throw new Error(`${url} has no origin`);
  const tls = { ca: null, cert: null, key: null };
  const client = new HttpClient({
    origin,
    tls,
    allowed: null,
    resolve: resolveBySystem,
    maxBodyBytes: () => 1000,
    clock: new FakeClock(),
    keepAliveMs: 0,
    files,
  });
  stops.push(() => client.stop());
  return (target) => {
    const { promise, resolve } = Promise.withResolvers<HttpOutcome>();
    const bytes = () =>
      formatRequest({ method: "POST", target, headers: [], body: new Uint8Array() }, "Host: test\r\n");
    const owner = { mayRepeat: false, isEventId: () => true, readsBody: () => true };
    client.send({ ...owner, formatRequest: bytes, onExchangeEnd: resolve }, bytes());
    return within(promise, `the end of ${target}`);
  };
}

function makeReserve(): FileReserve {
  const files = new FileReserve();
  files.resize(SIZE);
  stops.push(() => files.resize(0));
  return files;
}

test("a size holds so many files, and another size as many more or less", () => {
  const files = new FileReserve();
  const before = openFiles();
  files.resize(SIZE);
  expect(openFiles()).toBe(before + SIZE);
  files.resize(3);
  expect(openFiles()).toBe(before + 3);
  files.take();
  expect([files.free, files.inUse]).toEqual([2, 1]);
  files.resize(0);
  expect(openFiles()).toBe(before);
  files.giveBack();
  expect([files.free, files.inUse]).toEqual([0, 0]);
});

test("a socket has the file of a placeholder for as long as it is open", async () => {
  const backend = await RawBackend.start();
  stops.push(() => backend.stop());
  const files = makeReserve();
  const during: number[][] = [];
  backend.onOther = (exchange) => {
    during.push([files.free, files.inUse]);
    exchange.reply(200);
  };
  const ask = startClient(backend.url, files);
  expect((await ask("/one")).kind).toBe("answer");
  expect(during).toEqual([[SIZE - 1, 1]]);
  await ask("/two");
  await until(() => files.inUse === 0, "the sockets to close");
  expect(files.free).toBe(SIZE);
});

test("a file comes back from a socket that is refused, reset, without TLS, or dropped before it is open", async () => {
  const files = makeReserve();
  const backend = await RawBackend.start();
  backend.onOther = (exchange) => exchange.reset();
  const ask = startClient(backend.url, files);
  expect((await ask("/reset")).kind).toBe("unknown");
  await backend.stop();
  expect((await ask("/refused")).kind).toBe("not-sent");
  await until(() => files.inUse === 0, "the sockets to close");

  // It ends each connection once it has read something.
  const listener = createServer((socket) => socket.on("error", () => {}).once("data", () => socket.end("no TLS")));
  await once(listener.listen(0, "127.0.0.1"), "listening");
  stops.push(() => listener.close());
  const { port } = listener.address() as AddressInfo;
  expect((await startClient(`https://127.0.0.1:${port}`, files)("/no-tls")).kind).toBe("not-sent");
  await until(() => files.inUse === 0, "the socket without TLS to close");
  const dropped = startClient(`http://127.0.0.1:${port}`, files)("/dropped");
  stops.pop()?.();
  expect((await dropped).kind).toBe("not-sent");
  await until(() => files.inUse === 0, "the dropped socket to close");
  expect(files.free).toBe(SIZE);
});
