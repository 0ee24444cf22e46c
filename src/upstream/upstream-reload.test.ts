import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Certificates, makeCertificates } from "../../test/support/certificates.ts";
import { within } from "../../test/support/deadline.ts";
import { needs } from "../../test/support/programs.ts";
import { type Exchange, RawBackend } from "../../test/support/raw-backend.ts";
import {
  connectEvent,
  disconnectEvent,
  messageEvent,
  startUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import type { UpstreamEntry } from "../config/schema.ts";

let first: RawBackend;
let second: RawBackend;

beforeEach(async () => {
  first = await RawBackend.start();
  second = await RawBackend.start();
});

afterEach(async () => {
  await first.stop();
  await second.stop();
});

const entryTo = (backend: RawBackend, over: Partial<UpstreamEntry> = {}) =>
  upstreamEntry(`${backend.url}/{event}`, over);

/** Makes a backend keep its next request unanswered; the promise gives the exchange. */
function hold(backend: RawBackend): Promise<Exchange> {
  const { promise, resolve } = Promise.withResolvers<Exchange>();
  const before = backend.onMessage;
  backend.onMessage = (exchange) => {
    backend.onMessage = before;
    resolve(exchange);
  };
  return within(promise, "the request that is held");
}

/** Makes a backend tell when the connection of its next request is closed by the gateway. */
function watchGone(backend: RawBackend): Promise<unknown> {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  const before = backend.onMessage;
  backend.onMessage = (exchange) => {
    backend.onMessage = before;
    void exchange.callerGone.then(resolve);
    return before(exchange);
  };
  return within(promise, "the connection to be closed");
}

describe("an entry that a reload replaces", () => {
  test("ends its call in flight, while the next event goes to the new entry", async () => {
    await using upstream = startUpstream([entryTo(first)]);
    const held = hold(first);
    const call = upstream.call(messageEvent("one"));
    const exchange = await held;
    upstream.reload([entryTo(second)]);
    expect(await upstream.call(messageEvent("two"))).toMatchObject({ kind: "answer", status: 200 });
    expect([first.requests.length, second.requests.length]).toEqual([1, 1]);
    exchange.reply(201);
    expect(await call).toMatchObject({ kind: "answer", status: 201 });
    await within(exchange.callerGone, "the replaced entry's socket to be closed");
  });

  test("ends its waiting calls too, each over its own backend", async () => {
    await using upstream = startUpstream([entryTo(first, { maxConcurrency: 1 })]);
    const held = hold(first);
    const calls = [
      upstream.call(messageEvent("1")),
      upstream.call(messageEvent("2")),
      upstream.call(messageEvent("3")),
    ];
    const exchange = await held;
    upstream.reload([entryTo(second)]);
    exchange.reply(200);
    for (const outcome of await Promise.all(calls)) expect(outcome).toMatchObject({ kind: "answer", status: 200 });
    expect([first.requests.length, second.requests.length]).toEqual([3, 0]);
    expect(first.connectionCount).toBe(1);
    await within(exchange.callerGone, "the replaced entry's socket to be closed");
  });

  test("closes its idle sockets at once", async () => {
    await using upstream = startUpstream([entryTo(first)]);
    const gone = watchGone(first);
    await upstream.call(messageEvent());
    upstream.reload([]);
    await gone;
    expect(await upstream.call(messageEvent())).toEqual({ kind: "unrouted" });
  });

  test("can still be abandoned, and is stopped with the rest", async () => {
    await using upstream = startUpstream([entryTo(first)]);
    const held = hold(first);
    const abandoned = upstream.call(messageEvent());
    await held;
    upstream.reload([entryTo(second)]);
    upstream.abandonMessages();
    expect(await abandoned).toMatchObject({ kind: "unknown", cause: "abandoned" });

    const heldAgain = hold(second);
    const stopped = upstream.call(messageEvent());
    const exchange = await heldAgain;
    upstream.reload([]);
    await upstream.stop();
    expect(await stopped).toMatchObject({ kind: "unknown", cause: "abandoned" });
    await within(exchange.callerGone, "the socket to be closed");
    upstream.reload([entryTo(first)]);
    expect(await upstream.call(messageEvent())).toEqual({ kind: "unrouted" });
  });
});

describe("a reload that writes hubs in another way", () => {
  const hubOf = (backend: RawBackend) => backend.requests.map((request) => request.header("X-ASRS-Hub"));
  const NEW = { hubSpellings: { chat: "CHAT" } };

  test("holds for the next event of every kind, over the same socket", async () => {
    const entry = upstreamEntry(`${first.url}/{hub}/{event}`);
    // What a message's request begins with is formed once for the facts of a connection and the keys.
    const keys = { primary: "primary-key", secondary: null };
    await using upstream = startUpstream([entry], { keys: () => keys });
    const events = [connectEvent(), messageEvent(), disconnectEvent()];
    const all = async () => {
      for (const event of events) await upstream.call(event);
    };
    await all();
    upstream.reload([entry], NEW);
    await all();
    upstream.reload([entry]);
    await all();
    const before = ["/Chat/connect", "/Chat/message", "/Chat/disconnect"];
    const after = ["/CHAT/connect", "/CHAT/message", "/CHAT/disconnect"];
    expect(first.requests.map(({ target }) => target)).toEqual([...before, ...after, ...after]);
    expect(hubOf(first)).toEqual(first.requests.map(({ target }) => target.split("/")[1]));
    expect(first.connectionCount).toBe(1);
  });

  test("holds for a call that waits in an entry that it replaces", async () => {
    await using upstream = startUpstream([entryTo(first, { maxConcurrency: 1 })]);
    const held = hold(first);
    const calls = [upstream.call(messageEvent()), upstream.call(messageEvent())];
    const exchange = await held;
    upstream.reload([entryTo(second)], NEW);
    exchange.reply(200);
    await Promise.all(calls);
    expect(hubOf(first)).toEqual(["Chat", "CHAT"]);
  });
});

describe("an entry that a reload leaves as it was", () => {
  test("keeps its sockets and its identity, at any position", async () => {
    const kept = () => entryTo(first, { eventPattern: ["message", "disconnect"] });
    await using upstream = startUpstream([kept(), entryTo(second)]);
    await upstream.call(messageEvent());
    const entry = upstream.entryFor("chat", "asrs");
    upstream.reload([entryTo(second, { hubPattern: ["other"] }), kept()]);
    await upstream.call(messageEvent());
    upstream.reload([kept()], { maxResponseBytes: 7 });
    await upstream.call(messageEvent());
    expect(upstream.entryFor("chat", "asrs")).toBe(entry);
    expect(entry?.label).toBe(`upstreams[0] ${first.url}/{event}`);
    expect([first.requests.length, first.connectionCount]).toEqual([3, 1]);
  });

  test("is told by its new place in the log", async () => {
    const failing = { breaker: { failureRatio: 0.5, minCalls: 1, windowMs: 10_000 } };
    await using upstream = startUpstream([entryTo(first, failing)]);
    upstream.reload([entryTo(second, { hubPattern: ["other"] }), entryTo(first, failing)]);
    first.onMessage = (exchange) => exchange.reply(500);
    await upstream.call(messageEvent());
    expect(upstream.reported).toEqual([`opened upstreams[1] ${first.url}/{event}`]);
  });

  test("keeps its open breaker; another entry's is its own", async () => {
    const failing = { breaker: { failureRatio: 0.5, minCalls: 1, windowMs: 10_000 } };
    await using upstream = startUpstream([entryTo(first, failing)]);
    first.onMessage = (exchange) => exchange.reply(500);
    await upstream.call(messageEvent());
    upstream.reload([entryTo(first, failing)]);
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "refused", cause: "breaker" });
    upstream.reload([entryTo(first, { ...failing, timeoutMs: 29_999 })]);
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 500 });
  });

  test("keeps its token, and asks for another when its credentials change", async () => {
    const tokens = await RawBackend.start();
    try {
      tokens.onOther = (exchange) =>
        exchange.reply(200, ["Content-Type: application/json"], '{"access_token":"t","token_type":"Bearer"}');
      const withSecret = (clientSecret: string) =>
        entryTo(first, {
          auth: { type: "oauth2", tokenUrl: `${tokens.url}/t`, clientId: "id", clientSecret, scope: null },
        });
      await using upstream = startUpstream([withSecret("old")]);
      await upstream.call(messageEvent());
      upstream.reload([withSecret("old")]);
      await upstream.call(messageEvent());
      expect(tokens.requests).toHaveLength(1);
      upstream.reload([withSecret("new")]);
      await upstream.call(messageEvent());
      expect(tokens.requests.map((request) => request.header("authorization"))).toEqual([
        `Basic ${btoa("id:old")}`,
        `Basic ${btoa("id:new")}`,
      ]);
    } finally {
      await tokens.stop();
    }
  });

  test("twice in the list is two entries with two lanes, before and after", async () => {
    const single = { maxConcurrency: 1, maxWaitMs: 0 };
    const twins = () => [
      entryTo(first, { ...single, hubPattern: ["a"] }),
      entryTo(first, { ...single, hubPattern: ["a"] }),
    ];
    await using upstream = startUpstream(twins());
    const entry = upstream.entryFor("a", "asrs");
    upstream.reload(twins());
    expect(upstream.entryFor("a", "asrs")).toBe(entry);
    expect(entry?.label).toStartWith("upstreams[0] ");
    upstream.reload(twins().slice(1));
    expect(upstream.entryFor("a", "asrs")).toBe(entry);
  });
});

describe("a reload that fails", () => {
  test("changes nothing, though only the last entry is at fault", async () => {
    await using upstream = startUpstream([entryTo(first)]);
    await upstream.call(messageEvent());
    const entry = upstream.entryFor("chat", "asrs");
    const missing = { caFile: "/nonexistent/ca.pem", certFile: null, keyFile: null };
    const good = entryTo(second);
    const limits = { maxResponseBytes: 1, allowedUpstreamHosts: ["127.0.0.1"] };
    expect(() => upstream.reload([good, entryTo(second, { tls: missing })], limits)).toThrow(
      /^upstreams\[1\]: tls\.caFile: \/nonexistent\/ca\.pem cannot be read/,
    );
    expect(() => upstream.reload([good, upstreamEntry("http://169.254.169.254/")], limits)).toThrow(
      /^upstreams\[1\]: urlTemplate: its host/,
    );
    expect(() => upstream.reload([good], { allowedUpstreamHosts: ["backend.example"] })).toThrow(/^upstreams\[0\]/);
    expect(await upstream.call(messageEvent("more than a byte"))).toMatchObject({ kind: "answer", status: 200 });
    expect(upstream.entryFor("chat", "asrs")).toBe(entry);
    expect([first.requests.length, first.connectionCount, second.connectionCount]).toEqual([2, 1, 0]);
  });
});

describe("limits", () => {
  test("of an answer's length change for entries that stay, from the next request on", async () => {
    await using upstream = startUpstream([entryTo(first)], { maxResponseBytes: 5 });
    const answerTo = async (payload: string) => (await upstream.call(messageEvent(payload))).kind;
    expect([await answerTo("12345"), await answerTo("123456")]).toEqual(["answer", "unknown"]);
    upstream.reload([entryTo(first)], { maxResponseBytes: 6 });
    expect([await answerTo("123456"), await answerTo("1234567")]).toEqual(["answer", "unknown"]);
    upstream.reload([entryTo(first)]);
    expect([await answerTo("123456"), await answerTo("1234567")]).toEqual(["answer", "unknown"]);
  });

  test("of hosts change for entries that stay: no socket outlives its permission", async () => {
    const named = upstreamEntry(`http://backend.example:${first.port}/{event}`);
    // This machine answers at 0.0.0.0, which has to be listed.
    const resolve = async () => ["0.0.0.0"];
    const listed = ["*", "0.0.0.0"];
    await using upstream = startUpstream([named], { resolve, allowedUpstreamHosts: listed });
    const gone = watchGone(first);
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer" });
    upstream.reload([named], { allowedUpstreamHosts: ["*"] });
    await gone;
    expect(await upstream.call(messageEvent())).toMatchObject({
      kind: "not-sent",
      detail: expect.stringContaining("0.0.0.0"),
    });
    upstream.reload([named]);
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "not-sent" });
    upstream.reload([named], { allowedUpstreamHosts: listed });
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer" });
  });
});

describe("TLS files", () => {
  const { afterEach, beforeEach, test } = needs("openssl");
  let certificates: Certificates;
  let folder: string;

  beforeEach(() => {
    certificates = makeCertificates();
    folder = mkdtempSync(join(tmpdir(), "hubwire-reload-"));
  });

  afterEach(() => {
    certificates.remove();
    rmSync(folder, { recursive: true });
  });

  test("are read again: other contents are another entry, the same contents are not", async () => {
    const { cert, key } = certificates.server;
    const secure = await RawBackend.start({ tls: { cert, key } });
    try {
      const caFile = join(folder, "ca.pem");
      const put = (authority: { certFile: string }) => copyFileSync(authority.certFile, caFile);
      const entry = () => entryTo(secure, { tls: { caFile, certFile: null, keyFile: null } });
      put(certificates.authority);
      await using upstream = startUpstream([entry()]);
      await upstream.call(messageEvent());
      put(certificates.authority);
      upstream.reload([entry()]);
      expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer" });
      expect(secure.connectionCount).toBe(1);
      put(certificates.foreignAuthority);
      upstream.reload([entry()]);
      expect(await upstream.call(messageEvent())).toMatchObject({
        kind: "not-sent",
        detail: "TLS: UNABLE_TO_VERIFY_LEAF_SIGNATURE",
      });
      rmSync(caFile);
      expect(() => upstream.reload([entry()])).toThrow(/tls\.caFile/);
    } finally {
      await secure.stop();
    }
  });

  test("are read again without a reload: an entry whose files changed is built anew, a bad one goes on as it was", async () => {
    const { cert, key } = certificates.server;
    const secure = await RawBackend.start({ tls: { cert, key } });
    try {
      const caFiles = ["one", "two"].map((name) => join(folder, `${name}.pem`));
      const entryWith = (caFile: string, hub: string) =>
        entryTo(secure, { hubPattern: [hub], tls: { caFile, certFile: null, keyFile: null } });
      for (const caFile of caFiles) copyFileSync(certificates.authority.certFile, caFile);
      await using upstream = startUpstream([entryWith(caFiles[0] ?? "", "a"), entryWith(caFiles[1] ?? "", "b")]);
      const call = (hub: string) => upstream.call(messageEvent(undefined, { hub }));
      for (const hub of ["a", "b"]) expect(await call(hub)).toMatchObject({ kind: "answer" });
      expect(upstream.renewCertificates()).toEqual([]);

      copyFileSync(certificates.foreignAuthority.certFile, caFiles[0] ?? "");
      writeFileSync(caFiles[1] ?? "", "-----BEGIN CERTIFICATE-----");
      expect(upstream.renewCertificates()).toEqual([
        { where: "upstreams[0].tls", fault: null },
        { where: "upstreams[1].tls", fault: `tls.caFile: ${caFiles[1]} is incomplete, or not a PEM file` },
      ]);
      expect(await call("a")).toMatchObject({ kind: "not-sent", detail: "TLS: UNABLE_TO_VERIFY_LEAF_SIGNATURE" });
      expect(await call("b")).toMatchObject({ kind: "answer" });
      // Two sockets and one refused handshake: the entry with the bad file has kept its socket.
      expect(secure.connectionCount).toBeLessThanOrEqual(3);

      copyFileSync(certificates.authority.certFile, caFiles[0] ?? "");
      copyFileSync(certificates.authority.certFile, caFiles[1] ?? "");
      expect(upstream.renewCertificates()).toEqual([{ where: "upstreams[0].tls", fault: null }]);
      for (const hub of ["a", "b"]) expect(await call(hub)).toMatchObject({ kind: "answer" });
    } finally {
      await secure.stop();
    }
  });
});
