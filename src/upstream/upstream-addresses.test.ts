import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { type Certificates, makeCertificates } from "../../test/support/certificates.ts";
import { Gate, within } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { needs } from "../../test/support/programs.ts";
import { RawBackend, unusedPort } from "../../test/support/raw-backend.ts";
import { connectEvent, messageEvent, startUpstream, upstreamEntry } from "../../test/support/upstream/fixture.ts";
import { ADDRESSES_KEPT_MS } from "./destination.ts";
import { NEXT_ADDRESS_AFTER_MS } from "./dialer.ts";

const METADATA = "169.254.169.254";

let backend: RawBackend;

beforeEach(async () => {
  backend = await RawBackend.start();
  backend.onMessage = (exchange) => exchange.reply(200, ["Connection: close"]);
});

afterEach(() => backend.stop());

/** A resolver that gives these answers in turn, the last one repeatedly, and keeps the names that it was asked for. */
function resolver(...answers: readonly (readonly string[])[]) {
  const asked: string[] = [];
  const resolve = async (hostname: string): Promise<readonly string[]> => {
    const answer = answers[Math.min(asked.length, answers.length - 1)] ?? [];
    asked.push(hostname);
    return answer;
  };
  return { asked, resolve };
}

const entryOf = (host = "backend.example", port = backend.port) => upstreamEntry(`http://${host}:${port}/{event}`);

describe("a name", () => {
  test("is looked up once, its address connected to, and stays the value of Host", async () => {
    const { asked, resolve } = resolver(["127.0.0.1"]);
    await using upstream = startUpstream([entryOf()], { resolve });
    await Promise.all([upstream.call(messageEvent()), upstream.call(messageEvent()), upstream.call(messageEvent())]);
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 200 });
    expect(asked).toEqual(["backend.example"]);
    expect(backend.requests[0]?.header("Host")).toBe(`backend.example:${backend.port}`);
  });

  test("is looked up again for a fresh socket once its addresses are old, and never for a kept one", async () => {
    const clock = new FakeClock();
    const { asked, resolve } = resolver(["127.0.0.1"]);
    await using upstream = startUpstream([entryOf()], { resolve, clock });
    await upstream.call(messageEvent());
    clock.advanceSync(ADDRESSES_KEPT_MS - 1);
    await upstream.call(messageEvent());
    expect(asked).toHaveLength(1);
    clock.advanceSync(1);
    backend.onMessage = (exchange) => exchange.reply(200, ["Keep-Alive: timeout=60"]);
    await upstream.call(messageEvent());
    expect(asked).toHaveLength(2);
    for (let i = 0; i < 4; i++) {
      clock.advanceSync(ADDRESSES_KEPT_MS / 2);
      await upstream.call(messageEvent());
    }
    expect(asked).toHaveLength(2);
    expect(backend.connectionCount).toBe(3);
  });

  test("that changes its mind after it was judged is connected to where it was judged", async () => {
    const clock = new FakeClock();
    const { asked, resolve } = resolver(["127.0.0.1"], [METADATA]);
    await using upstream = startUpstream([entryOf()], { resolve, clock });
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 200 });
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 200 });
    expect(asked).toHaveLength(1);
    clock.advanceSync(ADDRESSES_KEPT_MS);
    expect(await upstream.call(messageEvent())).toEqual({
      kind: "not-sent",
      detail:
        "refused: the host's address 169.254.169.254 is a link-local address, where clouds keep their metadata " +
        "(169.254.0.0/16); allowedUpstreamHosts must list it explicitly",
    });
    expect(backend.connectionCount).toBe(2);
  });

  test("is not connected to where only the system would find it", async () => {
    const { resolve } = resolver([METADATA]);
    await using upstream = startUpstream([entryOf("localhost")], { resolve });
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "not-sent" });
    expect(backend.connectionCount).toBe(0);
  });

  test("that has allowed and refused addresses is called at the allowed ones", async () => {
    const { resolve } = resolver([METADATA, "fe80::1%lo", "::ffff:169.254.169.254", "127.0.0.1"]);
    await using upstream = startUpstream([entryOf()], { resolve });
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 200 });
  });

  test.each([
    ["fe80::1%lo", "is a link-local address (fe80::/10)"],
    ["::ffff:169.254.169.254", "maps to a link-local address"],
    ["64:ff9b::a9fe:a9fe", "maps to a link-local address"],
    ["0.0.0.0", "is no host's address (0.0.0.0/8)"],
    ["nonsense", "is not an IP address"],
  ])("that resolves to %s is refused, in words that name address and rule", async (address, words) => {
    const { resolve } = resolver([address]);
    await using upstream = startUpstream([entryOf()], { resolve });
    const outcome = await upstream.call(messageEvent());
    expect(outcome).toMatchObject({ kind: "not-sent", detail: expect.stringContaining(`${address} ${words}`) });
    expect(backend.connectionCount).toBe(0);
  });

  test("may resolve to a refused address where that, or the exact name, is listed", async () => {
    // Nobody is at 0.0.0.0 by that name, but this machine answers there: a refused address that a test can connect to.
    const { resolve } = resolver(["0.0.0.0"]);
    const answers = async (...allowedUpstreamHosts: string[]) => {
      await using upstream = startUpstream([entryOf()], { resolve, allowedUpstreamHosts });
      return (await upstream.call(messageEvent())).kind;
    };
    expect(await answers("*")).toBe("not-sent");
    expect(await answers("*.example")).toBe("not-sent");
    expect(await answers("*.example", "0.0.0.0/0")).toBe("not-sent");
    expect(await answers("*.example", "0.0.0.0")).toBe("answer");
    expect(await answers("backend.example")).toBe("answer");
  });

  test("without an address is not-sent, with the resolver's code, and is asked for again", async () => {
    const codes = ["ENOTFOUND"];
    const resolve = async (): Promise<string[]> => {
      const code = codes.pop();
      if (code !== undefined) throw Object.assign(new Error("backend.example"), { code });
      return ["127.0.0.1"];
    };
    await using upstream = startUpstream([entryOf()], { resolve });
    expect(await upstream.call(messageEvent())).toMatchObject({
      kind: "not-sent",
      detail: "the host's address was not found: ENOTFOUND",
    });
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer" });
    await using empty = startUpstream([entryOf()], { resolve: async () => [] });
    expect(await empty.call(messageEvent())).toMatchObject({ kind: "not-sent", detail: "the host has no address" });
  });

  test("whose lookup takes too long is not-sent at the entry's time-out, and nothing connects afterwards", async () => {
    const clock = new FakeClock();
    const found = new Gate();
    const resolve = () => found.opened.then(() => ["127.0.0.1"]);
    await using upstream = startUpstream([entryOf()], { resolve, clock });
    const outcome = upstream.call(messageEvent());
    clock.advanceSync(30_050);
    expect(await outcome).toMatchObject({ kind: "not-sent", detail: "not connected within the entry's timeoutMs" });
    found.open();
    await found.opened;
    expect(await upstream.call(connectEvent())).toMatchObject({ kind: "answer" });
    expect(backend.requests.map(({ event }) => event)).toEqual(["connect"]);
    expect(backend.connectionCount).toBe(1);
  });
});

describe("several addresses", () => {
  const servers: Server[] = [];

  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
  });

  /** Listens on ::1 only, and answers every connection. */
  async function listenOnIpv6(port = 0): Promise<number> {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.end("HTTP/1.1 202 Six\r\nContent-Length: 0\r\n\r\n");
    });
    servers.push(server);
    server.listen({ host: "::1", port, ipv6Only: true });
    await once(server, "listening");
    const address = server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  }

  test.each([
    ["the first", ["127.0.0.1", "::1"]],
    ["the last", ["::1", "127.0.0.1"]],
    ["one between", ["127.0.0.2", "127.0.0.1", "::1"]],
  ])("are tried until one accepts, where only %s does", async (_name, addresses) => {
    const { resolve } = resolver(addresses);
    await using upstream = startUpstream([entryOf("localhost")], { resolve });
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 200 });
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 200 });
  });

  test("are tried where the server listens on IPv6 alone", async () => {
    const port = await listenOnIpv6();
    const { resolve } = resolver(["127.0.0.1", "::1"]);
    await using upstream = startUpstream([entryOf("localhost", port)], { resolve });
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 202 });
  });

  test("are tried in their order", async () => {
    await listenOnIpv6(backend.port);
    for (const [addresses, status] of [
      [["::1", "127.0.0.1"], 202],
      [["127.0.0.1", "::1"], 200],
    ] as const) {
      await using upstream = startUpstream([entryOf("localhost")], { resolve: resolver(addresses).resolve });
      expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status });
    }
  });

  test("that are slow are tried at the same time: the first to connect is used, and the others are closed", async () => {
    const clock = new FakeClock();
    const { resolve } = resolver(["127.0.0.1", "127.0.0.1"]);
    const gone = new Gate();
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.on("close", () => gone.open());
      socket.on("data", () => socket.write("HTTP/1.1 202 Told\r\nContent-Length: 0\r\n\r\n"));
    });
    const sockets: unknown[] = [];
    server.on("connection", (socket) => sockets.push(socket));
    servers.push(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    await using upstream = startUpstream([entryOf("backend.example", port)], { resolve, clock });
    const outcome = upstream.call(messageEvent());
    // Not a turn of the event loop passes until both are under way: so neither is connected yet.
    while (clock.timerCount < 2) await Promise.resolve();
    clock.advanceSync(NEXT_ADDRESS_AFTER_MS);
    expect(await outcome).toMatchObject({ kind: "answer", status: 202 });
    await within(gone.opened, "the slower connection to be closed");
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 202 });
    expect(sockets).toHaveLength(2);
  });

  test("of localhost, as the system knows it, are tried", async () => {
    await using upstream = startUpstream([entryOf("localhost")]);
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 200 });
  });

  test("that all refuse are not-sent, and the name is looked up again for the next call", async () => {
    const port = await unusedPort();
    const { asked, resolve } = resolver(["::1", "127.0.0.1"]);
    await using upstream = startUpstream([entryOf("backend.example", port)], { resolve });
    const refused = { kind: "not-sent", detail: "connecting failed: ECONNREFUSED" };
    expect(await upstream.call(messageEvent())).toMatchObject(refused);
    const moved = await RawBackend.start({ port });
    try {
      expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer" });
      expect(asked).toHaveLength(2);
    } finally {
      await moved.stop();
    }
  });
});

describe("an address in the URL", () => {
  test("is connected to without a lookup", async () => {
    const { asked, resolve } = resolver([METADATA]);
    await using upstream = startUpstream([entryOf("127.0.0.1"), entryOf("0x7f.1")], { resolve });
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer" });
    expect(asked).toEqual([]);
  });

  test.each([METADATA, "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518", "[::ffff:a9fe:a9fe]"])(
    "is refused when the upstream is built where it is link-local: %s",
    (host) => {
      expect(() => startUpstream([upstreamEntry(`http://${host}/{event}?code=s3cret`)])).toThrow(
        /^upstreams\[0\]: urlTemplate: its host (is|maps to) a link-local address[^?]*$/,
      );
    },
  );

  test("or a name that is not listed is refused when the upstream is built", () => {
    const allowedUpstreamHosts = ["other.example"];
    for (const host of ["backend.example", "10.0.0.1"]) {
      expect(() => startUpstream([entryOf(host)], { allowedUpstreamHosts })).toThrow(
        "upstreams[0]: urlTemplate: its host is not listed in allowedUpstreamHosts",
      );
    }
  });
});

describe("token servers", () => {
  const withToken = (tokenUrl: string) =>
    upstreamEntry(`${backend.url}/{event}`, {
      auth: { type: "oauth2", tokenUrl, clientId: "id", clientSecret: "s3cret", scope: null },
    });

  test("are held to the same list when the upstream is built", () => {
    expect(() => startUpstream([withToken(`http://${METADATA}/token`)])).toThrow(
      /^upstreams\[0\]: auth\.tokenUrl: its host is a link-local/,
    );
    expect(() => startUpstream([withToken("https://login.example/")], { allowedUpstreamHosts: ["127.0.0.1"] })).toThrow(
      "upstreams[0]: auth.tokenUrl: its host is not listed in allowedUpstreamHosts",
    );
  });

  test("are held to it when their name is resolved, and get no secret otherwise", async () => {
    const { resolve } = resolver([METADATA]);
    await using upstream = startUpstream([withToken(`https://login.example/token`)], { resolve });
    const outcome = await upstream.call(messageEvent());
    expect(outcome).toMatchObject({
      kind: "not-sent",
      detail: expect.stringContaining("the token server: refused: the host's address 169.254.169.254 is a link-local"),
    });
    expect(backend.connectionCount).toBe(0);
  });

  test("that redirect are not followed", async () => {
    const tokenServer = await RawBackend.start();
    try {
      tokenServer.onOther = (exchange) => exchange.reply(307, [`Location: ${backend.url}/stolen`]);
      await using upstream = startUpstream([withToken(`${tokenServer.url}/token`)]);
      expect(await upstream.call(messageEvent())).toMatchObject({ kind: "not-sent" });
      expect([tokenServer.requests.length, backend.connectionCount]).toEqual([1, 0]);
    } finally {
      await tokenServer.stop();
    }
  });

  test("of a managed identity are exempt: they are a metadata address on purpose", async () => {
    const { resolve } = resolver(["0.0.0.0"]);
    backend.onOther = (exchange) => exchange.reply(200, [], '{"access_token":"t0ken","expires_in":"3600"}');
    const auth = { type: "managedIdentity", resource: "r" } as const;
    const metadataBaseUrl = `http://metadata.example:${backend.port}`;
    const entry = upstreamEntry(`${backend.url}/{event}`, { auth });
    const allowedUpstreamHosts = ["127.0.0.1"];
    await using upstream = startUpstream([entry], { resolve, metadataBaseUrl, allowedUpstreamHosts });
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer" });
    expect(backend.of("message")[0]?.header("Authorization")).toBe("Bearer t0ken");
  });
});

describe("over TLS", () => {
  const { afterEach, beforeEach, test } = needs("openssl");
  let certificates: Certificates;

  beforeEach(() => {
    certificates = makeCertificates();
  });

  afterEach(() => certificates.remove());

  test("the certificate must be for the name in the URL, for every address of that name", async () => {
    const { cert, key } = certificates.server;
    const secure = await RawBackend.start({ tls: { cert, key } });
    const { resolve } = resolver(["127.0.0.1"]);
    const call = async (host: string) => {
      const tls = { caFile: certificates.authority.certFile, certFile: null, keyFile: null };
      await using upstream = startUpstream([upstreamEntry(`https://${host}:${secure.port}/{event}`, { tls })], {
        resolve,
      });
      return await within(upstream.call(messageEvent()), `an outcome of ${host}`);
    };
    try {
      expect(await call("localhost")).toMatchObject({ kind: "answer", status: 200 });
      expect(await call("localhost.")).toMatchObject({ kind: "answer", status: 200 });
      // The certificate is good for 127.0.0.1 too, but that is not whom the URL names.
      expect(await call("backend.example")).toMatchObject({
        kind: "not-sent",
        detail: "TLS: ERR_TLS_CERT_ALTNAME_INVALID",
      });
      expect(secure.requests).toHaveLength(2);
    } finally {
      await secure.stop();
    }
  });
});
