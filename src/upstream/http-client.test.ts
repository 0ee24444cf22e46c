import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { within } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { type Exchange as BackendExchange, never, RawBackend } from "../../test/support/raw-backend.ts";
import { bodyOf } from "../../test/support/upstream/fixture.ts";
import { SYSTEM_TLS } from "../config/tls-files.ts";
import { resolveBySystem } from "./destination.ts";
import type { Exchange, HttpOutcome } from "./exchange.ts";
import { HttpClient, KEEP_ALIVE_MS } from "./http-client.ts";
import { formatRequest } from "./request-bytes.ts";
import { parseOrigin } from "./url-template.ts";

const MAX_BODY = 100_000;

let backend: RawBackend;
let clock: FakeClock;
let client: HttpClient;

function startClient(url: string): HttpClient {
  const origin = parseOrigin(url);
  if (origin === null) throw new Error(`${url} has no origin`);
  const maxBodyBytes = () => MAX_BODY;
  return new HttpClient({ origin, tls: SYSTEM_TLS, allowed: null, resolve: resolveBySystem, maxBodyBytes, clock });
}

function requestTo(target: string, body: Uint8Array = new Uint8Array()): Buffer {
  return formatRequest({ method: "POST", target, headers: [], body }, "Host: test\r\n");
}

/** Sends a request and waits for its end. The second try of one that may repeat goes to `/again`. */
function ask(target: string, options: { mayRepeat?: boolean; body?: Uint8Array } = {}): Promise<HttpOutcome> {
  return begin(target, options).ended;
}

function begin(target: string, options: { mayRepeat?: boolean; body?: Uint8Array } = {}) {
  const { promise, resolve } = Promise.withResolvers<HttpOutcome>();
  const exchange: Exchange = client.send(
    {
      mayRepeat: options.mayRepeat ?? false,
      isEventId: () => true,
      readsBody: () => true,
      formatRequest: () => requestTo("/again", options.body),
      onExchangeEnd: resolve,
    },
    requestTo(target, options.body),
  );
  return {
    exchange,
    /** Waited for only where somebody asks: one that is cut has no end. */
    get ended() {
      return within(promise, `the answer to ${target}`);
    },
  };
}

/** What the backend saw: each request's target, and the connection that it came on. */
function seen(): string[] {
  return backend.requests.map((request) => `${request.connection} ${request.target}`);
}

/** Answers every request but the first, which is answered in order, by the script. */
function afterTheFirst(script: (exchange: BackendExchange) => void): void {
  backend.onOther = (exchange) => {
    if (exchange.request.ordinal === 0 || exchange.request.target === "/again") exchange.reply(200);
    else script(exchange);
  };
}

/** A promise of the moment when the client has closed the connection of the first request. */
function firstConnectionGone(script: (exchange: BackendExchange) => void): Promise<unknown> {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  backend.onOther = (exchange) => {
    if (exchange.request.ordinal === 0) void exchange.callerGone.then(resolve);
    script(exchange);
  };
  return within(promise, "the client to close its connection");
}

beforeEach(async () => {
  backend = await RawBackend.start();
  clock = new FakeClock();
  client = startClient(backend.url);
});

afterEach(async () => {
  client.stop();
  await backend.stop();
  expect(clock.timerCount).toBe(0);
});

describe("the pool", () => {
  test("uses a socket again once its answer is whole", async () => {
    await ask("/1");
    await ask("/2");
    expect(seen()).toEqual(["0 /1", "0 /2"]);
  });

  test("opens a socket of its own for every request under way, and never pipelines", async () => {
    await Promise.all([ask("/1"), ask("/2"), ask("/3")]);
    expect(backend.connectionCount).toBe(3);
    await ask("/4");
    expect(backend.connectionCount).toBe(3);
  });

  test.each(["Connection: close", "Keep-Alive: timeout=1"])("does not use a socket again after %s", async (line) => {
    const gone = firstConnectionGone((exchange) => exchange.reply(200, [line]));
    await ask("/1");
    await gone;
    await ask("/2");
    expect(seen()).toEqual(["0 /1", "1 /2"]);
  });

  test.each([
    ["no Keep-Alive", [], 4000],
    ["Keep-Alive: timeout=60", ["Keep-Alive: timeout=60"], 4000],
    ["Keep-Alive: timeout=3", ["Keep-Alive: timeout=3"], 2000],
  ])("does not use a socket that has been idle for too long (%s)", async (_name, lines, idleMs) => {
    backend.onOther = (exchange) => exchange.reply(200, lines);
    await ask("/1");
    clock.advanceSync(idleMs - 1);
    await ask("/2");
    clock.advanceSync(idleMs);
    await ask("/3");
    expect(seen()).toEqual(["0 /1", "0 /2", "1 /3"]);
  });

  test("closes idle sockets though nobody asks for them", async () => {
    const gone = firstConnectionGone((exchange) => exchange.reply(200));
    await ask("/1");
    clock.advanceSync(KEEP_ALIVE_MS);
    await gone;
  });

  test("does not use a socket that the server has closed in the meantime", async () => {
    const gone = firstConnectionGone((exchange) => {
      exchange.reply(200);
      if (exchange.request.ordinal === 0) exchange.end();
    });
    await ask("/1");
    await gone;
    expect(await ask("/2")).toMatchObject({ kind: "answer" });
    expect(seen()).toEqual(["0 /1", "1 /2"]);
  });

  test("closes a socket on which the server speaks unasked, so that it is nobody's answer", async () => {
    let speak = () => {};
    const gone = firstConnectionGone((exchange) => {
      exchange.reply(200, [], String(exchange.request.ordinal));
      if (exchange.request.ordinal === 0) speak = () => exchange.reply(200, [], "unasked");
    });
    await ask("/1");
    speak();
    await gone;
    expect(bodyOf(await ask("/2")).toString()).toBe("1");
  });

  test("does not send over a socket on which the server speaks unasked in that very moment", async () => {
    const scripts = new Map<string, BackendExchange>();
    backend.onOther = (exchange) => {
      scripts.set(exchange.request.target, exchange);
      if (exchange.request.ordinal > 1) exchange.reply(200, [], "asked");
    };
    const second = Promise.withResolvers<HttpOutcome>();
    const owner = {
      mayRepeat: false,
      isEventId: () => true,
      readsBody: () => true,
      formatRequest: () => requestTo("/again"),
    };
    // As soon as the first answer is there, while what came with it over the other socket is still unread.
    const sendSecond = () => client.send({ ...owner, onExchangeEnd: second.resolve }, requestTo("/2"));
    const idle = ask("/idle");
    client.send({ ...owner, onExchangeEnd: sendSecond }, requestTo("/1"));
    await Promise.all([backend.next("other"), backend.next("other")]);
    scripts.get("/idle")?.reply(200);
    await idle;
    // The kernel reports a socket first that it has just reported; after a turn without news it goes by the order of writing.
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    scripts.get("/1")?.reply(200, ["Connection: close"]);
    scripts.get("/idle")?.reply(200, [], "unasked");
    expect(bodyOf(await second.promise).toString()).toBe("asked");
    expect(backend.requests.slice(2).map((request) => request.connection)).toEqual([2]);
  });

  test("takes an answer that a server gives before it was asked anything", async () => {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.end("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    });
    client = await clientOf(server);
    expect(await ask("/1")).toMatchObject({ kind: "answer", status: 503 });
  });

  test("closes its sockets when it is stopped, ends what is under way, and may be stopped twice", async () => {
    const gone = firstConnectionGone(() => {});
    const { ended } = begin("/1");
    await backend.next("other");
    client.stop();
    client.stop();
    await gone;
    expect(await ended).toMatchObject({ kind: "unknown", cause: "abandoned" });
    expect(await ask("/2")).toMatchObject({ kind: "not-sent" });
  });
});

describe("a pooled socket that dies without a byte of answer", () => {
  test.each(["end", "reset"] as const)("has its request repeated once over a fresh one (%s)", async (how) => {
    afterTheFirst((exchange) => exchange[how]());
    await ask("/1");
    expect(await ask("/2", { mayRepeat: true })).toMatchObject({ kind: "answer", status: 200 });
    expect(seen()).toEqual(["0 /1", "0 /2", "1 /again"]);
  });

  test.each(["end", "reset"] as const)("leaves a request unknown that may not be repeated (%s)", async (how) => {
    afterTheFirst((exchange) => exchange[how]());
    await ask("/1");
    expect(await ask("/2")).toMatchObject({ kind: "unknown", cause: "reset", status: null });
    expect(seen()).toEqual(["0 /1", "0 /2"]);
  });

  test("is not followed by a third try", async () => {
    backend.onOther = (exchange) => (exchange.request.ordinal === 0 ? exchange.reply(200) : exchange.reset());
    await ask("/1");
    expect(await ask("/2", { mayRepeat: true })).toMatchObject({ kind: "unknown", cause: "reset" });
    expect(seen()).toEqual(["0 /1", "0 /2", "1 /again"]);
  });

  test("leaves the request unknown where the second try cannot connect, since the first was sent", async () => {
    const server = createServer((socket) => {
      socket.once("data", () => {
        socket.write("HTTP/1.1 204 Told\r\n\r\n");
        socket.once("data", () => server.close(() => {}) && socket.destroy());
      });
    });
    client = await clientOf(server);
    await ask("/1");
    expect(await ask("/2", { mayRepeat: true })).toMatchObject({ kind: "unknown", cause: "reset", status: null });
  });

  test("is no reason to repeat once a byte of answer came", async () => {
    afterTheFirst((exchange) => {
      exchange.raw("H");
      exchange.end();
    });
    await ask("/1");
    expect(await ask("/2", { mayRepeat: true })).toMatchObject({ kind: "unknown", cause: "reset", status: null });
    expect(backend.requests).toHaveLength(2);
  });

  test("is no reason to repeat where the socket was fresh", async () => {
    backend.onOther = (exchange) => exchange.reset();
    expect(await ask("/1", { mayRepeat: true })).toMatchObject({ kind: "unknown", cause: "reset" });
    expect(seen()).toEqual(["0 /1"]);
  });
});

describe("large requests", () => {
  const body = new Uint8Array(16_000_000).map((_, index) => index % 251);

  test("arrive whole at a server that reads slowly", async () => {
    expect(await ask("/1", { body })).toMatchObject({ kind: "answer" });
    expect(backend.requests[0]?.body.equals(body)).toBe(true);
  });

  test("may be answered before they were read; the answer counts, and the socket is not used again", async () => {
    const closed: Promise<unknown>[] = [];
    const server = createServer((socket) => {
      closed.push(new Promise((resolve) => socket.once("close", resolve)));
      socket.on("error", () => {});
      socket.once("data", () => {
        socket.pause();
        socket.write("HTTP/1.1 413 Too large\r\nContent-Length: 2\r\n\r\nno", () =>
          setImmediate(() => socket.resume()),
        );
      });
    });
    client = await clientOf(server);
    expect(await ask("/1", { body })).toMatchObject({ kind: "answer", status: 413 });
    await within(Promise.all(closed), "the client to close its connection");
    expect(closed).toHaveLength(1);
  });
});

describe("an exchange that is cut", () => {
  test("is dropped with its socket, and says that it was written", async () => {
    backend.onOther = never;
    const gone = firstConnectionGone((exchange) => exchange.raw("HTTP/1.1 200 OK\r\n\r\npart"));
    const { exchange } = begin("/1");
    await backend.next("other");
    expect(exchange.cut().written).toBe(true);
    await gone;
  });

  test("says that nothing was written before it was connected, and leaves no connection behind", async () => {
    const gone = Promise.withResolvers<void>();
    const bytes: (Buffer | string)[] = [];
    client = await clientOf(
      createServer((socket) => {
        socket.on("data", (piece) => bytes.push(piece));
        socket.on("error", () => {});
        socket.on("close", () => gone.resolve());
      }),
    );
    const { exchange } = begin("/1");
    expect(exchange.cut()).toEqual({ written: false, seen: null });
    await within(gone.promise, "the client to close its connection");
    expect(bytes).toEqual([]);
  });
});

const servers: { server: Server; sockets: Set<Socket> }[] = [];

/** Starts a server that is no RawBackend, and a client for it. */
async function clientOf(server: Server): Promise<HttpClient> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket));
  servers.push({ server, sockets });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  client.stop();
  return startClient(`http://127.0.0.1:${address.port}`);
}

afterEach(() => {
  for (const { server, sockets } of servers.splice(0)) {
    server.close();
    for (const socket of sockets) socket.destroy();
  }
});
