import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { within } from "../../test/support/deadline.ts";
import { type Exchange as BackendExchange, never, RawBackend, unusedPort } from "../../test/support/raw-backend.ts";
import type { Exchange, HttpOutcome } from "./exchange.ts";
import { HttpClient, MAX_IDLE_MS } from "./http-client.ts";
import { formatRequest } from "./request-bytes.ts";
import { bodyOf } from "./testing/fixture.ts";
import { ManualClock } from "./testing/manual-clock.ts";
import { SYSTEM_TLS } from "./tls-files.ts";
import { parseOrigin } from "./url-template.ts";

const MAX_BODY = 100_000;

let backend: RawBackend;
let clock: ManualClock;
let client: HttpClient;

function startClient(url: string): HttpClient {
  const origin = parseOrigin(url);
  if (origin === null) throw new Error(`${url} has no origin`);
  return new HttpClient({ origin, tls: SYSTEM_TLS, maxBodyBytes: MAX_BODY, clock });
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
      formatRequest: () => requestTo("/again", options.body),
      onExchangeEnd: resolve,
    },
    requestTo(target, options.body),
  );
  return { exchange, ended: within(promise, `the answer to ${target}`) };
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
  clock = new ManualClock();
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
    clock.advance(idleMs - 1);
    await ask("/2");
    clock.advance(idleMs);
    await ask("/3");
    expect(seen()).toEqual(["0 /1", "0 /2", "1 /3"]);
  });

  test("closes idle sockets though nobody asks for them", async () => {
    const gone = firstConnectionGone((exchange) => exchange.reply(200));
    await ask("/1");
    clock.advance(MAX_IDLE_MS);
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

describe("what goes wrong", () => {
  test("is not-sent where nobody listens", async () => {
    client.stop();
    client = startClient(`http://127.0.0.1:${await unusedPort()}`);
    expect(await ask("/1")).toEqual({ kind: "not-sent", detail: "connecting failed: ECONNREFUSED" });
  });

  test("is not-sent where the name has no address", async () => {
    client.stop();
    client = startClient("http://nowhere.invalid");
    expect(await ask("/1")).toMatchObject({ kind: "not-sent" });
  });

  test.each([
    ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "reset", 200],
    ["HTTP/1.1 404 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n", "reset", 404],
    ["HTTP/1.1 200 OK\r\nX", "reset", 200],
    ["HTTP/1.1 2", "reset", null],
    ["garbage\r\n\r\n", "malformed", null],
    ["HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", "malformed", 200],
  ])("is unknown, with the status that was seen, after %j", async (answer, cause, status) => {
    backend.onOther = (exchange) => {
      exchange.raw(answer);
      exchange.end();
    };
    expect(await ask("/1")).toMatchObject({ kind: "unknown", cause, status });
  });

  test("is unknown where an answer up to the end of the connection is cut by a reset", async () => {
    backend.onOther = (exchange) => {
      exchange.raw("HTTP/1.1 200 OK\r\n\r\nhalf");
      setImmediate(() => exchange.reset());
    };
    expect(await ask("/1")).toMatchObject({ kind: "unknown", cause: "reset" });
  });

  test.each([
    [
      "declared",
      (exchange: BackendExchange) => exchange.raw(`HTTP/1.1 200 OK\r\nContent-Length: ${MAX_BODY + 1}\r\n\r\n`),
    ],
    ["endless", (exchange: BackendExchange) => flood(exchange, "HTTP/1.1 200 OK\r\n\r\n", "x".repeat(9999))],
    [
      "endless in chunks",
      (exchange: BackendExchange) =>
        flood(exchange, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", `2000\r\n${"x".repeat(0x2000)}\r\n`),
    ],
  ])("is too-large, and the socket destroyed, where a body is %s", async (_name, script) => {
    const gone = firstConnectionGone(script);
    expect(await ask("/1")).toMatchObject({
      kind: "unknown",
      status: 200,
      cause: "too-large",
    });
    await gone;
  });
});

/** Writes on until the client hangs up. */
function flood(exchange: BackendExchange, head: string, piece: string): void {
  const { socket } = exchange;
  const more = () => {
    while (!socket.destroyed && socket.writable && socket.write(piece));
  };
  socket.write(head);
  socket.on("drain", more);
  more();
}

describe("answers", () => {
  test("are the caller's own: a later one does not write over their bodies", async () => {
    backend.onOther = (exchange) => exchange.reply(200, [], exchange.request.target.repeat(100));
    const answers = [await ask("/1"), await ask("/2"), await ask("/3")];
    expect(answers.map((answer) => bodyOf(answer).toString())).toEqual([
      "/1".repeat(100),
      "/2".repeat(100),
      "/3".repeat(100),
    ]);
  });

  test("may have a body of the greatest length", async () => {
    backend.onOther = (exchange) => exchange.reply(200, [], "x".repeat(MAX_BODY));
    expect(bodyOf(await ask("/1"))).toHaveLength(MAX_BODY);
  });

  test("may have a hundred headers", async () => {
    backend.onOther = (exchange) =>
      exchange.reply(
        200,
        Array.from({ length: 100 }, (_, index) => `X-${index}: ${index}`),
      );
    const answer = await ask("/1");
    expect(answer.kind === "answer" && answer.headers.length).toBe(101);
  });

  test("are redirects too, which are not followed", async () => {
    const { url } = backend;
    backend.onOther = (exchange) => exchange.reply(307, [`Location: ${url}/elsewhere`]);
    expect(await ask("/1")).toMatchObject({ kind: "answer", status: 307 });
    expect(seen()).toEqual(["0 /1"]);
  });

  test("end the connection where they switch protocols", async () => {
    const gone = firstConnectionGone((exchange) => exchange.raw("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"));
    expect(await ask("/1")).toMatchObject({ kind: "answer", status: 101 });
    await gone;
  });

  test("do not come by way of HTTP_PROXY", async () => {
    const before = process.env["HTTP_PROXY"];
    process.env["HTTP_PROXY"] = `http://127.0.0.1:${await unusedPort()}`;
    try {
      expect(await ask("/1")).toMatchObject({ kind: "answer" });
    } finally {
      if (before === undefined) delete process.env["HTTP_PROXY"];
      else process.env["HTTP_PROXY"] = before;
    }
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

  test("says that nothing was written before it was connected", async () => {
    const { exchange } = begin("/1");
    expect(exchange.cut()).toEqual({ written: false, status: null });
    await ask("/2");
    expect(seen().map((line) => line.slice(2))).toEqual(["/2"]);
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
