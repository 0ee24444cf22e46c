import { afterEach, describe, expect, setDefaultTimeout } from "bun:test";
import { within } from "../support/deadline.ts";
import { ForeignBackend, PSGI, WSGI } from "../support/foreign-backend.ts";
import { startTestGateway, type TestGateway } from "../support/gateway.ts";
import { needs } from "../support/programs.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";

/** Servers that backends run on, each as Debian packages it. Tests whose program is missing are skipped. */

setDefaultTimeout(60_000);

const clients: RawWebSocket[] = [];
afterEach(() => {
  for (const client of clients.splice(0)) client.destroy();
});

function startGateway(backend: ForeignBackend, entry: Readonly<Record<string, unknown>> = {}): Promise<TestGateway> {
  return startTestGateway({ upstreams: [{ urlTemplate: `${backend.url}/{hub}/{event}`, ...entry }] });
}

async function openClients(gateway: TestGateway, count: number): Promise<RawWebSocket[]> {
  const opened = Array.from({ length: count }, async () => {
    const client = await RawWebSocket.request({ port: gateway.port, path: "/ws/client/hubs/chat" });
    clients.push(client);
    await client.upgraded(40_000);
    return client;
  });
  return await Promise.all(opened);
}

/** Sends a message and waits for its answer; returns the process that gave it. */
async function ask(client: RawWebSocket, text: string): Promise<string> {
  client.text(text);
  const [worker = "", ...rest] = (await client.nextText()).split(" ");
  expect(rest.join(" ")).toBe(text);
  return worker;
}

/** Chats until `isOver` says so; returns the number of answers. */
async function chat(client: RawWebSocket, isOver: (count: number, worker: string) => boolean): Promise<number> {
  for (let count = 1; ; count++) {
    const worker = await ask(client, `message ${count}`);
    if (isOver(count, worker)) return count;
  }
}

describe("gunicorn with threads", () => {
  const { test } = needs("gunicorn");
  const command = (address: string) =>
    [
      "gunicorn",
      "--worker-class",
      "gthread",
      "--workers",
      "2",
      "--threads",
      "8",
      "--bind",
      address,
      "app:app",
    ] as const;

  test("replaces its workers twice under HUP while 40 clients chat, and none of them is closed", async () => {
    await using backend = await ForeignBackend.start({ command, files: { "app.py": WSGI } });
    await using gateway = await startGateway(backend);
    const all = await openClients(gateway, 40);
    for (let round = 0; round < 2; round++) {
      const old = new Set(await Promise.all(all.map((client) => ask(client, "who are you?"))));
      const chats = all.map((client) => chat(client, (_count, worker) => !old.has(worker)));
      backend.signal("SIGHUP");
      await within(Promise.all(chats), "an answer of a new worker for each client", 40_000);
    }
    expect(gateway.logLines().filter((line) => line["level"] === 50)).toEqual([]);
  });
});

describe("uWSGI with --http-socket", () => {
  const { test } = needs("uwsgi_python3");
  const command = (address: string) =>
    [
      "uwsgi_python3",
      "--http-socket",
      address,
      "--wsgi-file",
      "app.py",
      "--callable",
      "app",
      "--master",
      "--processes",
      "2",
    ] as const;

  test("closes each connection without a word, and 1,000 messages of ten clients are answered", async () => {
    await using backend = await ForeignBackend.start({ command, files: { "app.py": WSGI } });
    await using gateway = await startGateway(backend);
    const all = await openClients(gateway, 10);
    const counts = await Promise.all(all.map((client) => chat(client, (count) => count === 100)));
    expect(counts).toEqual(new Array(10).fill(100));
  });
});

describe("Starman with five workers", () => {
  const { test } = needs("starman");
  const command = (address: string) =>
    ["starman", "--listen", address, "--workers", "5", "--keepalive-timeout", "60", "app.psgi"] as const;

  test("lets 50 clients in at once, though an idle socket holds its worker for longer than timeoutMs", async () => {
    await using backend = await ForeignBackend.start({ command, files: { "app.psgi": PSGI } });
    await using gateway = await startGateway(backend, { keepAliveMs: 60_000, timeoutMs: 20_000 });
    const all = await openClients(gateway, 50);
    const counts = await Promise.all(all.map((client) => chat(client, (count) => count === 5)));
    expect(counts).toEqual(new Array(50).fill(5));
  });
});
