import { expect, setDefaultTimeout } from "bun:test";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import { type Certificate, makeCertificates } from "../support/certificates.ts";
import { within } from "../support/deadline.ts";
import { startTestGateway } from "../support/gateway.ts";
import { needs } from "../support/programs.ts";
import { acceptAs, unusedPort } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { audienceOf, restToken } from "../support/rest-client.ts";
import { target } from "../support/rest-operations.ts";
import { connectionIdOf, Stack } from "../support/stack.ts";

const { afterAll, afterEach, beforeEach, describe, test, setup } = needs("openssl");

/** Certificates that are renewed while the gateway runs, decision 0041. Real certificates, real TLS, real files. */
setDefaultTimeout(60_000);

const made = setup(makeCertificates);
afterAll(() => made.remove());

const MODES = ["none", "optional", "require"] as const;
type Mode = (typeof MODES)[number];

let folder: string;
let files: { certFile: string; keyFile: string; clientCaFile: string };

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-renewed-"));
  files = { certFile: join(folder, "a.pem"), keyFile: join(folder, "a.key"), clientCaFile: join(folder, "ca.pem") };
  copyFileSync(made.authority.certFile, files.clientCaFile);
  install(made.server);
});
afterEach(() => rmSync(folder, { recursive: true }));

/** As certbot does: each file is replaced by rename, one after the other. */
function install({ certFile, keyFile }: { certFile: string; keyFile: string }): void {
  for (const [from, to] of [
    [certFile, files.certFile],
    [keyFile, files.keyFile],
  ] as const) {
    copyFileSync(from, `${to}.new`);
    renameSync(`${to}.new`, to);
  }
}

const tlsOf = (clientCert: Mode) => ({
  certFile: files.certFile,
  keyFile: files.keyFile,
  clientCert,
  ...(clientCert === "none" ? {} : { clientCaFile: files.clientCaFile }),
});

function start(clientCert: Mode, more: Readonly<Record<string, unknown>> = {}): Promise<Stack> {
  return Stack.start({ config: { listen: { host: "127.0.0.1", port: 0, tls: tlsOf(clientCert) }, ...more } });
}

function over(client: Certificate = made.client): { tls: ConnectionOptions } {
  return { tls: { ca: made.authority.cert, servername: "localhost", cert: client.cert, key: client.key } };
}

/** The name in the certificate that a new connection is shown. */
async function shown(port: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = connectTls({ host: "127.0.0.1", port, ...over().tls }, () => {
    resolve(String(socket.getPeerCertificate().subject.CN));
    socket.end();
  });
  socket.on("error", reject);
  return await within(promise, "a TLS handshake");
}

/** A call of the REST API over TLS on a connection of its own, or on one that is kept. */
async function call(port: number, path: string, kept?: RawWebSocket) {
  const caller = kept ?? (await RawWebSocket.dial({ port, ...over() }));
  const authorization = `Authorization: Bearer ${restToken(audienceOf(port, path).replace("http:", "https:"))}`;
  const lines = [`POST ${path} HTTP/1.1`, `Host: 127.0.0.1:${port}`, authorization];
  caller.write([...lines, "Content-Type: text/plain", "Content-Length: 5", "", "hello"].join("\r\n"));
  const answer = await caller.answer();
  if (kept === undefined) caller.destroy();
  return answer;
}

describe.each(MODES)("with clientCert: %s", (clientCert) => {
  test("a reload shows new connections the new certificate; those that are open stay, and count", async () => {
    await using stack = await start(clientCert, { limits: { maxConnections: 2 } });
    stack.backend.onConnect = acceptAs("alice", ["X-ASRS-Connection-Group: news"]);
    const { client: before, connectionId } = await stack.connect(over());
    expect(await shown(stack.port)).toBe("server");

    install(made.renewedServer);
    expect(stack.gateway.reload({ limits: { maxConnections: 2 } })).toEqual([]);
    for (let count = 0; count < 20; count++) expect(await shown(stack.port)).toBe("renewed-server");
    const { client: after, connectionId: newId } = await stack.connect(over());

    before.text("are you there?");
    expect(await before.nextText()).toBe("are you there?");
    const sends = [
      target("broadcast", "chat"),
      target("send to group", "chat", { group: "news" }),
      target("send to user", "chat", { user: "alice" }),
    ];
    for (const path of sends) {
      expect((await call(stack.port, path)).status).toBe(202);
      for (const client of [before, after]) expect(await client.nextText()).toBe("hello");
    }
    // Each came once: the next thing to come is the echo.
    for (const client of [before, after]) {
      client.text("nothing else?");
      expect(await client.nextText()).toBe("nothing else?");
    }
    expect(stack.gateway.connections().length).toBe(2);
    expect((await (await stack.request(over())).answer()).status).toBe(503);

    const stopping = stack.gateway.stop();
    for (const client of [before, after]) expect((await client.closed()).code).toBe(1012);
    await stopping;
    const ends = stack.backend.of("disconnect").map(connectionIdOf);
    expect(ends.toSorted()).toEqual([connectionId, newId].toSorted());
    await expect(shown(stack.port)).rejects.toThrow();
  });

  test("so do changed files, and a bad one keeps the certificate before", async () => {
    await using stack = await start(clientCert);
    const client = await stack.open(over());
    writeFileSync(files.certFile, readFileSync(made.renewedServer.certFile).subarray(0, 200));
    const cut = await stack.gateway.logged("certificate files cannot be used: the previous ones stay in use");
    expect(cut).toMatchObject({ level: 50, where: "listen.tls" });
    expect(String(cut["reason"])).toContain(`${files.certFile} is incomplete, or not a PEM file`);
    expect(await shown(stack.port)).toBe("server");
    const health = await RawWebSocket.request({ port: stack.port, path: "/api/health", ...over() });
    expect((await health.answer()).status).toBe(200);
    health.destroy();

    install(made.renewedServer);
    expect(await stack.gateway.logged("certificate files renewed")).toMatchObject({ level: 30, where: "listen.tls" });
    expect(await shown(stack.port)).toBe("renewed-server");
    client.text("still there?");
    expect(await client.nextText()).toBe("still there?");
  });

  test("connections that are made meanwhile are not cut", async () => {
    await using stack = await start(clientCert);
    const ends: string[] = [];
    let isOver = false;
    const connectOn = async () => {
      while (!isOver) ends.push(await shown(stack.port).catch((error) => String(error)));
    };
    const loops = Array.from({ length: 8 }, connectOn);
    for (let renewal = 0; renewal < 10; renewal++) {
      const next = renewal % 2 === 0 ? made.renewedServer : made.server;
      install(next);
      stack.gateway.reload({});
      const count = ends.length;
      while (ends.length < count + 16) await new Promise((resolve) => setImmediate(resolve));
      expect(await shown(stack.port)).toBe(next === made.server ? "server" : "renewed-server");
    }
    isOver = true;
    await Promise.all(loops);
    expect(new Set(ends)).toEqual(new Set(["server", "renewed-server"]));
  });
});

test("a connect event under way gets its 101 from the listener that it came to", async () => {
  await using stack = await start("none");
  const gate = Promise.withResolvers<void>();
  stack.backend.onConnect = async (exchange) => {
    await gate.promise;
    acceptAs("alice")(exchange);
  };
  const client = await stack.request(over());
  await stack.backend.next("connect");
  install(made.renewedServer);
  stack.gateway.reload({});
  expect(await shown(stack.port)).toBe("renewed-server");
  gate.resolve();
  await client.upgraded();
  client.text("in?");
  expect(await client.nextText()).toBe("in?");
});

test("a kept connection for REST calls is answered once more, and told to end", async () => {
  await using stack = await start("none");
  const kept = await RawWebSocket.dial({ port: stack.port, ...over() });
  const path = target("broadcast", "chat");
  expect((await call(stack.port, path, kept)).head.all("connection")).toEqual(["keep-alive"]);
  install(made.renewedServer);
  stack.gateway.reload({});
  const last = await call(stack.port, path, kept);
  expect(last.status).toBe(202);
  expect(last.head.all("connection")).toEqual(["close"]);
  await kept.ended();
});

test("the exchanged link of a Kubernetes Secret is a change, and no restart is asked for", async () => {
  const at = (name: string) => join(folder, name);
  for (const [name, { certFile, keyFile }] of [
    ["one", made.server],
    ["two", made.renewedServer],
  ] as const) {
    mkdirSync(at(name));
    copyFileSync(certFile, join(at(name), "tls.crt"));
    copyFileSync(keyFile, join(at(name), "tls.key"));
  }
  symlinkSync("one", at("..data"));
  for (const name of ["tls.crt", "tls.key"]) symlinkSync(join("..data", name), at(name));
  const tls = { certFile: at("tls.crt"), keyFile: at("tls.key") };
  await using stack = await Stack.start({ config: { listen: { host: "127.0.0.1", port: 0, tls } } });
  expect(await shown(stack.port)).toBe("server");
  symlinkSync("two", at("..data_tmp"));
  renameSync(at("..data_tmp"), at("..data"));
  await stack.gateway.logged("certificate files renewed");
  expect(await shown(stack.port)).toBe("renewed-server");
});

test("a key of another certificate is refused by name, and nothing changes until the certificate is there too", async () => {
  await using stack = await start("none");
  copyFileSync(made.renewedServer.keyFile, files.keyFile);
  stack.gateway.reload({});
  const line = await stack.gateway.logged("certificate files cannot be used: the previous ones stay in use");
  expect(line["reason"]).toBe("listen.tls: the key in keyFile belongs to another certificate");
  expect(await shown(stack.port)).toBe("server");
  copyFileSync(made.renewedServer.certFile, files.certFile);
  stack.gateway.reload({});
  expect(await shown(stack.port)).toBe("renewed-server");
});

test("the REST API's own listener is renewed too, with its clients' authorities", async () => {
  const listen = { host: "127.0.0.1", port: 0, tls: tlsOf("require"), api: { port: 0 } };
  await using stack = await Stack.start({ config: { listen } });
  const { apiPort } = stack.gateway;
  const path = target("broadcast", "chat");
  expect((await call(apiPort, path)).status).toBe(202);
  install(made.renewedServer);
  copyFileSync(made.foreignAuthority.certFile, files.clientCaFile);
  stack.gateway.reload({});
  const foreign = over(made.foreignClient);
  for (const port of [stack.port, apiPort]) {
    const client = await RawWebSocket.request({ port, path: "/api/health", ...foreign });
    expect((await client.answer()).status).toBe(200);
    client.destroy();
    const stranger = await RawWebSocket.request({ port, path: "/api/health", ...over() });
    expect(
      await stranger.answer().then(
        ({ status }) => status,
        () => "cut",
      ),
    ).toBe("cut");
    stranger.destroy();
  }
});

describe("a listener with TLS", () => {
  const listenAt = (port: number, clientCert: Mode) => ({ host: "127.0.0.1", port, tls: tlsOf(clientCert) });

  test.each(MODES)(
    "with clientCert %s shares its port with no other gateway that was given it by mistake",
    async (mode) => {
      const port = await unusedPort();
      await using gateway = await startTestGateway({ listen: listenAt(port, mode) });
      install(made.renewedServer);
      gateway.reload({});
      await expect(startTestGateway({ listen: listenAt(port, mode) })).rejects.toThrow(String(port));
      expect(await shown(port)).toBe("renewed-server");
    },
  );

  test("that shares its port on purpose is renewed, each gateway for itself", async () => {
    const port = await unusedPort();
    const listen = { ...listenAt(port, "none"), reusePort: true };
    await using one = await startTestGateway({ listen });
    await using two = await startTestGateway({ listen });
    install(made.renewedServer);
    one.reload({});
    two.reload({});
    for (let count = 0; count < 40; count++) expect(await shown(port)).toBe("renewed-server");
  });
});
