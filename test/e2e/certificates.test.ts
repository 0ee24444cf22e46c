import { expect, setDefaultTimeout } from "bun:test";
import type { ConnectionOptions } from "node:tls";
import { type Certificate, makeCertificates } from "../support/certificates.ts";
import { needs } from "../support/programs.ts";
import type { ClientOptions } from "../support/raw-websocket.ts";
import { jsonError, Stack } from "../support/stack.ts";

const { afterAll, describe, test, setup } = needs("openssl");

/** Section 3, rule 3 (client certificates) and the rules of trusted proxies. Real certificates, real TLS. */
setDefaultTimeout(60_000);

const made = setup(makeCertificates);
afterAll(() => made.remove());

function tlsStack(clientCert: "none" | "optional" | "require"): Promise<Stack> {
  const ca = clientCert === "none" ? {} : { clientCaFile: made.authority.certFile };
  const tls = { certFile: made.server.certFile, keyFile: made.server.keyFile, clientCert, ...ca };
  return Stack.start({ config: { listen: { host: "127.0.0.1", port: 0, tls } } });
}

function over(client?: Certificate): { tls: ConnectionOptions } {
  const own = client === undefined ? {} : { cert: client.cert, key: client.key };
  return { tls: { ca: made.authority.cert, servername: "localhost", ...own } };
}

/** Asks for an upgrade; undefined where the TLS layer or the gateway cut the connection without an answer. */
async function statusOver(stack: Stack, options: Omit<ClientOptions, "port">): Promise<number | undefined> {
  const client = await stack.request(options);
  return await client.answer().then(
    (answer) => answer.status,
    () => undefined,
  );
}

describe.each(["none", "optional", "require"] as const)("a TLS listener with clientCert: %s", (clientCert) => {
  test("a client with a good certificate is served, over many messages", async () => {
    await using stack = await tlsStack(clientCert);
    const { client, connect } = await stack.connect(over(made.client));
    expect(connect.header("X-ASRS-Client-Cert-Thumbprint")).toBe(
      clientCert === "none" ? undefined : made.client.thumbprint,
    );
    expect(connect.header("X-Forwarded-For")).toBe("127.0.0.1");
    const big = "x".repeat(300_000);
    for (const text of ["hello", big, "again"]) {
      client.text(text);
      expect(await client.nextText()).toBe(text);
    }
    client.close(1000);
    const disconnect = await stack.backend.next("disconnect");
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1000");
    expect(disconnect.header("X-ASRS-Client-Cert-Thumbprint")).toBeUndefined();
  });

  test("a client without a certificate", async () => {
    await using stack = await tlsStack(clientCert);
    const status = await statusOver(stack, over());
    if (clientCert === "require") {
      expect(status).not.toBe(101);
      expect(stack.backend.requests).toEqual([]);
      return;
    }
    expect(status).toBe(101);
    const connect = await stack.backend.next("connect");
    expect(connect.header("X-ASRS-Client-Cert-Thumbprint")).toBeUndefined();
  });

  test("a client with a certificate of a foreign authority never shows a thumbprint", async () => {
    await using stack = await tlsStack(clientCert);
    const status = await statusOver(stack, over(made.foreignClient));
    if (clientCert === "require") expect(status).not.toBe(101);
    for (const request of stack.backend.requests) {
      expect(request.header("X-ASRS-Client-Cert-Thumbprint")).toBeUndefined();
    }
    // And the listener serves on.
    await stack.open(over(made.client));
  });
});

test("a client that speaks no TLS to a TLS listener is cut, and others are served", async () => {
  await using stack = await tlsStack("optional");
  const plain = await stack.request();
  await plain.ended();
  await stack.open(over(made.client));
  expect(stack.backend.of("connect").length).toBe(1);
});

test("a client cannot set the thumbprint itself, with or without TLS", async () => {
  const lines = [`X-ASRS-Client-Cert-Thumbprint: ${"A".repeat(40)}`];
  await using plain = await Stack.start();
  expect((await plain.connect({ lines })).connect.header("X-ASRS-Client-Cert-Thumbprint")).toBeUndefined();
  await using secure = await tlsStack("optional");
  const { connect } = await secure.connect({ ...over(), lines });
  expect(connect.header("X-ASRS-Client-Cert-Thumbprint")).toBeUndefined();
});

describe("clientCertHeader behind a proxy", () => {
  const config = { trustedProxies: ["127.0.0.2", "127.0.1.0/24"], clientCertHeader: "X-Client-Sha1" };
  const bare = "0123456789abcdef0123456789ABCDEF01234567";
  const colons = bare.match(/../g)?.join(":") ?? "";

  test.each([
    ["127.0.0.2", bare, bare.toUpperCase()],
    ["127.0.0.2", colons, bare.toUpperCase()],
    ["127.0.1.77", colons, bare.toUpperCase()],
    ["127.0.0.1", bare, undefined],
    ["127.0.0.3", "nonsense", undefined],
    ["127.0.0.2", undefined, undefined],
  ])("from %s with %p: %p", async (localAddress, value, expected) => {
    await using stack = await Stack.start({ config });
    const lines = value === undefined ? [] : [`X-Client-Sha1: ${value}`];
    const { connect } = await stack.connect({ localAddress, lines });
    expect(connect.header("X-ASRS-Client-Cert-Thumbprint")).toBe(expected);
  });

  test.each(["nonsense", bare.slice(1), `${bare}0`, `g${bare.slice(1)}`])(
    "%s from a trusted proxy is 400",
    async (value) => {
      await using stack = await Stack.start({ config });
      const client = await stack.request({ localAddress: "127.0.0.2", lines: [`X-Client-Sha1: ${value}`] });
      const answer = await client.answer();
      expect(answer.status).toBe(400);
      jsonError(answer.body);
      expect(stack.backend.requests).toEqual([]);
    },
  );
});

describe("X-Forwarded-For", () => {
  const config = { trustedProxies: ["127.0.0.2"] };
  test.each([
    ["127.0.0.3", [], "127.0.0.3"],
    ["127.0.0.3", ["X-Forwarded-For: 1.2.3.4"], "127.0.0.3"],
    ["127.0.0.2", [], "127.0.0.2"],
    ["127.0.0.2", ["X-Forwarded-For: 1.2.3.4"], "1.2.3.4, 127.0.0.2"],
    ["127.0.0.2", ["X-Forwarded-For: 1.2.3.4, 5.6.7.8"], "1.2.3.4, 5.6.7.8, 127.0.0.2"],
    ["127.0.0.2", ["X-Forwarded-For: 1.2.3.4", "X-Forwarded-For: 5.6.7.8"], "1.2.3.4, 5.6.7.8, 127.0.0.2"],
    ["127.0.0.2", ["X-Forwarded-For: 2001:db8::1"], "2001:db8::1, 127.0.0.2"],
  ])("from %s with %j: %s", async (localAddress, lines, expected) => {
    await using stack = await Stack.start({ config });
    const { connect } = await stack.connect({ localAddress, lines });
    expect(connect.header("X-Forwarded-For")).toBe(expected);
  });

  test("an IPv4 client of an IPv6 listener is written as IPv4", async () => {
    await using stack = await Stack.start({ config: { listen: { host: "::", port: 0 } } });
    const { connect } = await stack.connect({ host: "127.0.0.1" });
    expect(connect.header("X-Forwarded-For")).toBe("127.0.0.1");
  });

  test("an IPv6 client is written without a port or brackets", async () => {
    await using stack = await Stack.start({ config: { listen: { host: "::1", port: 0 } } });
    const { connect } = await stack.connect({ host: "::1" });
    expect(connect.header("X-Forwarded-For")).toBe("::1");
  });

  test("limits count the first address from the right that is not trusted", async () => {
    await using stack = await Stack.start({ config: { ...config, limits: { connectsPerSecondPerAddress: 1 } } });
    const statuses: number[] = [];
    for (let i = 0; i < 10; i++) {
      // The values further left are the client's own invention and must not help it.
      const lines = [`X-Forwarded-For: 9.9.9.${i}, 1.2.3.4`];
      statuses.push((await (await stack.request({ localAddress: "127.0.0.2", lines })).answer()).status);
    }
    expect(statuses[0]).toBe(101);
    expect(statuses).toContain(429);
    const other = { localAddress: "127.0.0.2", lines: ["X-Forwarded-For: 1.2.3.5"] };
    expect((await (await stack.request(other)).answer()).status).toBe(101);
  });
});

/** Past 1.5 times `maxBufferedBytes` clients are cut by what has come of them beyond whole messages (`core/memory-watch.ts`). */
describe.skipIf(process.platform !== "linux")("of a client that has sent a thousand messages and is silent", () => {
  test.each([
    ["TLSv1.2", "none"],
    ["TLSv1.3", "none"],
    ["TLSv1.3", "optional"],
  ] as const)("nothing counts as part of another one: %s, clientCert: %s", async (version, clientCert) => {
    await using stack = await tlsStack(clientCert);
    const client = await stack.open({ tls: { ...over().tls, minVersion: version, maxVersion: version } });
    for (let i = 0; i < 1000; i++) {
      client.text("echo");
      expect(await client.nextText()).toBe("echo");
    }
    const [connection] = stack.gateway.connections();
    const received = connection?.socket?.readTraffic()?.received ?? Number.NaN;
    expect(received).toBeGreaterThan(10_000);
    expect(received - (connection?.frameBytes ?? 0)).toBeLessThan(16_384);
  });
});
