import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { Gate, until, within } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { never, RawBackend, type Script, unusedPort } from "../../test/support/raw-backend.ts";
import {
  bodyOf,
  connectEvent,
  disconnectEvent,
  messageEvent,
  startUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import { SWEEP_INTERVAL_MS } from "./deadlines.ts";

let backend: RawBackend;
let clock: FakeClock;

beforeEach(async () => {
  backend = await RawBackend.start();
  clock = new FakeClock();
});

afterEach(async () => {
  await backend.stop();
  expect(clock.timerCount).toBe(0);
});

const reply =
  (status: number): Script =>
  (exchange) =>
    exchange.reply(status);

describe("a request", () => {
  test("is, byte for byte, what the seed says of a message", async () => {
    await using upstream = startUpstream([upstreamEntry(`${backend.url}/{hub}/api/{event}?code=c%2F`)]);
    await upstream.call(messageEvent("grüß"));
    const [request] = backend.requests;
    const hash = createHmac("sha256", "primary-key").update("c0nnecti0n_id-0123456789").digest("hex");
    const date = request?.header("Date") ?? "";
    expect(Math.abs(Date.now() - Date.parse(date))).toBeLessThan(60_000);
    expect(new Date(date).toUTCString()).toBe(date);
    expect(request?.head.bytes.toString("utf8")).toBe(
      [
        "POST /Chat/api/message?code=c%2F HTTP/1.1",
        `Host: 127.0.0.1:${backend.port}`,
        "User-Agent: hubwire/1.2.3",
        "Accept-Encoding: identity",
        "X-ASRS-Hub: Chat",
        "X-ASRS-Category: messages",
        "X-ASRS-Connection-Id: c0nnecti0n_id-0123456789",
        "X-ASRS-Event: message",
        "X-ASRS-User-Id: alice",
        "X-ASRS-User-Claims: sub: alice",
        `X-ASRS-Signature: sha256=${hash}`,
        "X-ASRS-Client-Query: room=7",
        "X-Forwarded-For: 192.0.2.7",
        `Date: ${date}`,
        "Content-Type: text/plain",
        "X-Hubwire-Event-Id: c0nnecti0n_id-0123456789.2",
        "Content-Length: 6",
        "\r\n",
      ].join("\r\n"),
    );
    expect(request?.body.toString("utf8")).toBe("grüß");
  });

  test("has a length of 0 and no type where the event has no body, and UTF-8 in its values", async () => {
    await using upstream = startUpstream([upstreamEntry(`${backend.url}/{category}/{event}`)]);
    await upstream.call(connectEvent({ userId: "zoë" }));
    await upstream.call(disconnectEvent());
    const [connect, disconnect] = backend.requests;
    expect(connect?.target).toBe("/connections/connect");
    expect(disconnect?.target).toBe("/connections/disconnect");
    expect(connect?.head.utf8("X-ASRS-User-Id")).toBe("zoë");
    for (const request of [connect, disconnect]) {
      expect(request?.header("Content-Length")).toBe("0");
      expect(request?.header("Content-Type")).toBeUndefined();
    }
  });

  test("carries the bytes of a binary message unchanged", async () => {
    await using upstream = startUpstream([upstreamEntry(`${backend.url}/{event}`)]);
    const payload = Uint8Array.from({ length: 256 }, (_, index) => index);
    const outcome = await upstream.call(messageEvent(payload));
    expect(backend.requests[0]?.header("Content-Type")).toBe("application/octet-stream");
    expect(bodyOf(outcome)).toEqual(Buffer.from(payload));
  });

  test("names the connect event as its entry says", async () => {
    const entry = upstreamEntry(`${backend.url}/{event}`, { connectEventName: "connect" });
    await using upstream = startUpstream([entry]);
    await upstream.call(connectEvent());
    expect(backend.requests[0]?.header("X-ASRS-Event")).toBe("connect");
  });

  test("is signed with the keys in force when it is sent", async () => {
    let secondary: string | null = null;
    const keys = () => ({ primary: "p", secondary });
    await using upstream = startUpstream([upstreamEntry(`${backend.url}/{event}`)], { keys });
    await upstream.call(connectEvent());
    secondary = "s";
    await upstream.call(disconnectEvent());
    const lengths = backend.requests.map((request) => request.header("X-ASRS-Signature")?.split(",").length);
    expect(lengths).toEqual([1, 2]);
  });

  test("is never sent with a value that would begin another line: that is a bug, and the place is given back", async () => {
    await using upstream = startUpstream([upstreamEntry(`${backend.url}/{event}`, { maxConcurrency: 1 })]);
    const forged = upstream.call(connectEvent({ userId: "a\r\nX-ASRS-Hub: other" }));
    await expect(forged).rejects.toThrow("X-ASRS-User-Id");
    expect(await upstream.call(connectEvent())).toMatchObject({ kind: "answer" });
    expect(backend.requests).toHaveLength(1);
  });
});

describe("routing", () => {
  test("takes the first entry that matches, and says where none does", async () => {
    await using upstream = startUpstream([
      upstreamEntry(`${backend.url}/first/{event}`, { hubPattern: ["chat"], eventPattern: ["connect"] }),
      upstreamEntry(`${backend.url}/second/{event}`, { categoryPattern: ["connections"] }),
    ]);
    await upstream.call(connectEvent({ hub: "CHAT" }));
    await upstream.call(connectEvent({ hub: "news" }));
    await upstream.call(disconnectEvent({ hub: "chat" }));
    expect(await upstream.call(messageEvent())).toEqual({ kind: "unrouted" });
    const targets = backend.requests.map((request) => request.target);
    expect(targets).toEqual(["/first/connect", "/second/connect", "/second/disconnect"]);
  });
});

describe("timeoutMs", () => {
  const entryOf = (url: string) => upstreamEntry(`${url}/{event}`, { timeoutMs: 1000 });

  test("ends a call that got no answer, and not before", async () => {
    backend.onMessage = never;
    await using upstream = startUpstream([entryOf(backend.url)], { clock });
    let isSettled = false;
    const outcome = upstream.call(messageEvent()).finally(() => {
      isSettled = true;
    });
    await backend.next("message");
    clock.advanceSync(999);
    await Promise.resolve();
    expect(isSettled).toBe(false);
    clock.advanceSync(SWEEP_INTERVAL_MS);
    expect(await outcome).toMatchObject({ kind: "unknown", cause: "timeout", status: null });
  });

  test("covers the body too, and tells the status that was seen", async () => {
    const { promise: sent, resolve } = Promise.withResolvers<void>();
    const { promise: gone, resolve: onGone } = Promise.withResolvers<unknown>();
    const server = createServer((socket) => {
      socket.on("close", onGone);
      socket.once("data", () => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", () => resolve()));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    await using upstream = startUpstream([entryOf(`http://127.0.0.1:${port}`)], { clock });
    const outcome = upstream.call(connectEvent());
    await sent;
    // The half answer is on its way to us; a request and answer through the same loop is behind it.
    await (await fetch(`${backend.url}/other`)).text();
    clock.advanceSync(1000 + SWEEP_INTERVAL_MS);
    expect(await outcome).toMatchObject({ kind: "unknown", cause: "timeout", status: 200 });
    await within(gone, "the late connection to be closed");
    server.close();
  });

  test("covers connecting, where nothing was sent yet", async () => {
    const connected = Promise.withResolvers<Socket>();
    const server = createServer((socket) => connected.resolve(socket));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    // A server that never answers the TLS handshake.
    await using upstream = startUpstream([entryOf(`https://127.0.0.1:${port}`)], { clock });
    const outcome = upstream.call(messageEvent());
    const socket = await connected.promise;
    clock.advanceSync(1000 + SWEEP_INTERVAL_MS);
    expect(await outcome).toMatchObject({ kind: "not-sent" });
    socket.destroy();
    server.close();
  });
});

describe("maxConcurrency", () => {
  const entryOf = (maxWaitMs: number) => upstreamEntry(`${backend.url}/{event}`, { maxConcurrency: 1, maxWaitMs });
  const refused = { kind: "refused", cause: "concurrency", retryAfterSeconds: 1 } as const;

  test("lets calls wait for a place, first come, first served", async () => {
    const gate = new Gate();
    backend.onConnect = async (exchange) => {
      await gate.opened;
      exchange.reply(204);
    };
    await using upstream = startUpstream([entryOf(5000)], { clock });
    const calls = ["1", "2", "3"].map((hub) => upstream.call(connectEvent({ hub })));
    await backend.next("connect");
    expect(backend.requests).toHaveLength(1);
    gate.open();
    await Promise.all(calls);
    expect(backend.requests.map((request) => request.header("X-ASRS-Hub"))).toEqual(["1", "2", "3"]);
    expect(backend.connectionCount).toBe(1);
  });

  test("refuses every event after maxWaitMs", async () => {
    const gate = new Gate();
    backend.onConnect = async (exchange) => {
      await gate.opened;
      exchange.reply(204);
    };
    await using upstream = startUpstream([entryOf(5000)], { clock });
    const first = upstream.call(connectEvent());
    const waiting = [connectEvent(), messageEvent(), disconnectEvent()].map((event) => upstream.call(event));
    await backend.next("connect");
    clock.advanceSync(5000 + SWEEP_INTERVAL_MS);
    expect(await Promise.all(waiting)).toEqual([refused, refused, refused]);
    gate.open();
    expect(await first).toMatchObject({ kind: "answer" });
  });

  test("refuses at once with a maxWaitMs of 0", async () => {
    backend.onConnect = never;
    await using upstream = startUpstream([entryOf(0)], { clock });
    void upstream.call(connectEvent());
    expect(await upstream.call(disconnectEvent())).toEqual(refused);
  });

  test("leaves other addresses a quarter, and says which of the two limits refused a call", async () => {
    const gate = new Gate();
    backend.onConnect = async (exchange) => {
      await gate.opened;
      exchange.reply(204);
    };
    const entry = upstreamEntry(`${backend.url}/{event}`, { maxConcurrency: 4, maxWaitMs: 5000 });
    await using upstream = startUpstream([entry], { clock });
    const connectOf = (forwardedFor: string) => upstream.call(connectEvent({ forwardedFor }));
    const atShare = ["1", "2", "3", "4"].map(() => connectOf("192.0.2.1"));
    const others = ["1", "2"].map(() => connectOf("192.0.2.2"));
    await until(() => backend.requests.length === 4, "four calls");
    clock.advanceSync(5000 + SWEEP_INTERVAL_MS);
    expect(await atShare[3]).toEqual({ ...refused, cause: "address-concurrency" });
    expect(await others[1]).toEqual(refused);
    gate.open();
    expect((await Promise.all([...atShare.slice(0, 3), ...others.slice(0, 1)])).map(({ kind }) => kind)).toEqual(
      new Array(4).fill("answer"),
    );
  });

  test("holds for each entry separately", async () => {
    backend.onConnect = never;
    const connects = upstreamEntry(`${backend.url}/{event}`, { maxConcurrency: 1, eventPattern: ["connect"] });
    await using upstream = startUpstream([connects, entryOf(0)]);
    void upstream.call(connectEvent());
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer" });
  });
});

describe("the breaker", () => {
  const breaker = { failureRatio: 0.5, minCalls: 2, windowMs: 10_000 };
  const refused = { kind: "refused", cause: "breaker", retryAfterSeconds: 1 } as const;
  const start = (url = backend.url) =>
    startUpstream([upstreamEntry(`${url}/{hub}/{event}?code=s3cret`, { breaker, maxConcurrency: 2 })], { clock });

  test("opens after failures, refuses every event, and closes by one that gets through", async () => {
    backend.onMessage = reply(500);
    await using upstream = start();
    await upstream.call(messageEvent());
    await upstream.call(messageEvent());
    const label = `upstreams[0] ${backend.url}/{hub}/{event}`;
    expect(upstream.reported).toEqual([`opened ${label}`]);
    expect(await upstream.call(messageEvent())).toEqual(refused);
    expect(await upstream.call(connectEvent())).toEqual(refused);
    expect(await upstream.call(disconnectEvent())).toEqual(refused);
    clock.advanceSync(1000);
    expect(await upstream.call(disconnectEvent())).toMatchObject({ kind: "answer" });
    expect(upstream.reported).toEqual([`opened ${label}`, `closed ${label}`]);
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 500 });
  });

  test("stays open where the probe fails", async () => {
    backend.onMessage = reply(503);
    await using upstream = start();
    await upstream.call(messageEvent());
    await upstream.call(messageEvent());
    clock.advanceSync(1000);
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 503 });
    expect(await upstream.call(messageEvent())).toEqual(refused);
    expect(upstream.reported).toHaveLength(1);
  });

  test("counts calls without an answer, and no 4xx", async () => {
    await using healthy = start();
    backend.onMessage = reply(404);
    for (let i = 0; i < 4; i++) await healthy.call(messageEvent());
    expect(healthy.reported).toEqual([]);
    await using dead = start(`http://127.0.0.1:${await unusedPort()}`);
    for (let i = 0; i < 2; i++) await dead.call(messageEvent());
    expect(dead.reported).toHaveLength(1);
  });

  test("refuses those who waited for a place when it opens, all at once", async () => {
    const gate = new Gate();
    backend.onMessage = async (exchange) => {
      await gate.opened;
      exchange.reply(500);
    };
    await using upstream = start();
    const calls = Array.from({ length: 50 }, () => upstream.call(messageEvent()));
    await backend.next("message");
    await backend.next("message");
    gate.open();
    const outcomes = await Promise.all(calls);
    expect(outcomes.filter((outcome) => outcome.kind === "refused").length).toBeGreaterThanOrEqual(47);
    expect(backend.requests.length).toBeLessThanOrEqual(3);
  });
});

describe("abandonMessages", () => {
  test("ends messages, those that wait too, and nothing else", async () => {
    backend.onMessage = never;
    await using upstream = startUpstream([upstreamEntry(`${backend.url}/{event}`, { maxConcurrency: 1 })], { clock });
    const messages = [upstream.call(messageEvent()), upstream.call(messageEvent()), upstream.call(messageEvent())];
    const disconnect = upstream.call(disconnectEvent());
    await backend.next("message");
    upstream.abandonMessages();
    for (const outcome of await Promise.all(messages)) {
      expect(outcome).toMatchObject({ kind: "unknown", cause: "abandoned", status: null });
    }
    expect(await disconnect).toMatchObject({ kind: "answer" });
    expect(backend.of("message")).toHaveLength(1);
    // One for the first message and one for the disconnect: those that waited were not even begun.
    expect(backend.connectionCount).toBe(2);
  });
});

describe("stop", () => {
  test("ends what is under way, sends nothing more, and may be called twice", async () => {
    backend.onConnect = never;
    await using upstream = startUpstream([upstreamEntry(`${backend.url}/{event}`)], { clock });
    const call = upstream.call(connectEvent());
    await backend.next("connect");
    await upstream.stop();
    await upstream.stop();
    expect(await call).toMatchObject({ kind: "unknown", cause: "abandoned" });
    expect(await upstream.call(disconnectEvent())).toMatchObject({ kind: "not-sent" });
    await upstream.stop();
    expect(backend.requests).toHaveLength(1);
  });
});

test("no outcome and no report names what the template's query holds", async () => {
  const entry = (url: string) =>
    upstreamEntry(`${url}/{event}?code=s3cret`, { breaker: { failureRatio: 0.1, minCalls: 1, windowMs: 10_000 } });
  backend.onMessage = (exchange) => exchange.raw("garbage s3cret\r\n\r\n");
  await using broken = startUpstream([entry(backend.url)]);
  await using dead = startUpstream([entry(`http://127.0.0.1:${await unusedPort()}`)]);
  const told = [];
  for (const upstream of [broken, dead]) told.push(await upstream.call(messageEvent()), upstream.reported);
  expect(broken.reported).toHaveLength(1);
  expect(dead.reported).toHaveLength(1);
  expect(JSON.stringify(told)).not.toContain("s3cret");
});
