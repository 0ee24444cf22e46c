import { expect, setDefaultTimeout } from "bun:test";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { connect as connectTcp, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from "node:tls";
import type { ServerWebSocket } from "bun";
import { type Certificate, makeCertificates } from "../../test/support/certificates.ts";
import { recordingReport } from "../../test/support/core-stage.ts";
import { within } from "../../test/support/deadline.ts";
import { needs } from "../../test/support/programs.ts";
import { RawWebSocket } from "../../test/support/raw-websocket.ts";
import { startTlsFront, type TlsFront } from "./tls-front.ts";

const { afterAll, afterEach, describe, test, setup } = needs("openssl");

setDefaultTimeout(30_000);

const made = setup(makeCertificates);
afterAll(() => made.remove());

/** The front with a listener behind it that tells whom it sees, echoes messages and, asked by `?send=n`, pushes n bytes. */
function start(clientCert: "optional" | "require") {
  const report = recordingReport();
  let front: TlsFront | null = null;
  const ports: number[] = [];
  const closed: number[] = [];
  const sockets: ServerWebSocket<{ port: number; send: number }>[] = [];
  const inner = Bun.serve<{ port: number; send: number }>({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request, server) => {
      const port = server.requestIP(request)?.port ?? 0;
      ports.push(port);
      const send = Number(new URL(request.url).searchParams.get("send") ?? 0);
      if (server.upgrade(request, { data: { port, send } })) return undefined;
      return Response.json(front?.peerBehind(port) ?? null);
    },
    websocket: {
      maxPayloadLength: 64 << 20,
      backpressureLimit: 64 << 20,
      idleTimeout: 0,
      sendPings: false,
      open: (ws) => {
        sockets.push(ws);
        if (ws.data.send > 0) ws.send(new Uint8Array(ws.data.send));
      },
      message: (ws, message) => {
        if (message === "terminate") ws.terminate();
        else ws.send(message);
      },
      close: (ws) => void closed.push(ws.data.port),
    },
  });
  const files = { cert: made.server.cert, key: made.server.key, ca: made.authority.cert };
  const innerPort = () => inner.port ?? 0;
  front = startTlsFront({ host: "127.0.0.1", port: 0, tls: files, clientCert, innerPort }, report);
  const stage = {
    front,
    report,
    ports,
    closed,
    sockets,
    innerPort: innerPort(),
    [Symbol.asyncDispose]: async () => {
      front?.stop();
      await inner.stop(true);
    },
  };
  stages.push(stage);
  return stage;
}

const stages: AsyncDisposable[] = [];
afterEach(async () => {
  for (const stage of stages.splice(0)) await stage[Symbol.asyncDispose]();
});

function tls(client?: Certificate): ConnectionOptions {
  const own = client === undefined ? {} : { cert: client.cert, key: client.key };
  return { ca: made.authority.cert, servername: "localhost", ...own };
}

/** What the listener behind the front sees of a client; null where the client gets no answer. */
async function seen(front: TlsFront, client?: Certificate): Promise<unknown> {
  const socket = await RawWebSocket.dial({ port: front.port, tls: tls(client) });
  socket.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const answer = await socket.answer().catch(() => null);
  socket.destroy();
  return answer === null ? null : JSON.parse(answer.body.toString());
}

/** The thumbprint as the openssl command writes it, without its colons. */
function opensslThumbprint({ certFile }: Certificate): string {
  const line = execFileSync("openssl", ["x509", "-in", certFile, "-noout", "-fingerprint", "-sha1"], {
    encoding: "utf8",
  });
  return line.replace(/^.*=/, "").replaceAll(":", "").trim();
}

async function waitFor(what: string, isSo: () => boolean, deadlineMs = 15_000): Promise<void> {
  const endMs = Date.now() + deadlineMs;
  while (!isSo()) {
    if (Date.now() > endMs) throw new Error(`waited ${deadlineMs} ms for ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Resolves when a socket has closed, for any reason. */
function closeOf(socket: Socket): Promise<void> {
  socket.on("error", () => {});
  return new Promise((resolve) => socket.once("close", () => resolve()));
}

/** Waits until what a socket has to send stays the same above 0: every buffer on the way to the client is full. */
async function stuck(socketOf: () => ServerWebSocket<unknown> | undefined): Promise<void> {
  let before = 0;
  let turnsAlike = 0;
  await waitFor("a backlog that stays the same", () => {
    const backlog = socketOf()?.getBufferedAmount() ?? 0;
    turnsAlike = backlog > 0 && backlog === before ? turnsAlike + 1 : 0;
    before = backlog;
    return turnsAlike > 20_000;
  });
}

describe("optional", () => {
  test("a good certificate is known by the thumbprint that openssl gives it", async () => {
    const { front } = start("optional");
    const certThumbprint = opensslThumbprint(made.client);
    expect(certThumbprint).toMatch(/^[0-9A-F]{40}$/);
    expect(await seen(front, made.client)).toEqual({ address: "127.0.0.1", certThumbprint });
  });

  test("a client without one is let through, with none", async () => {
    const { front } = start("optional");
    expect(await seen(front)).toEqual({ address: "127.0.0.1", certThumbprint: null });
  });

  test("one of a foreign authority is cut, and nothing reaches the listener", async () => {
    const { front, ports } = start("optional");
    expect(await seen(front, made.foreignClient)).toBeNull();
    expect(ports).toEqual([]);
    expect(await seen(front)).not.toBeNull();
  });
});

describe("require", () => {
  test("a good certificate is let through", async () => {
    const { front } = start("require");
    expect(await seen(front, made.client)).toMatchObject({ certThumbprint: made.client.thumbprint });
  });

  test("none, or one of a foreign authority, is cut, and nothing reaches the listener", async () => {
    const { front, ports } = start("require");
    expect(await seen(front)).toBeNull();
    expect(await seen(front, made.foreignClient)).toBeNull();
    expect(ports).toEqual([]);
    expect(await seen(front, made.client)).not.toBeNull();
  });
});

test("TLS 1.2 and 1.3 both show the certificate", async () => {
  const { front } = start("require");
  for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
    const options = { ...tls(made.client), minVersion: version, maxVersion: version };
    const socket = await RawWebSocket.dial({ port: front.port, tls: options });
    socket.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    expect(JSON.parse((await socket.answer()).body.toString())).toMatchObject({
      certThumbprint: made.client.thumbprint,
    });
  }
});

test("a resumed session shows the certificate of the first", async () => {
  const { front } = start("require");
  const sessionFile = `${made.client.certFile}.session`;
  const asks = async (...session: readonly string[]) => {
    const files = ["-CAfile", made.authority.certFile, "-cert", made.client.certFile, "-key", made.client.keyFile];
    const command = ["openssl", "s_client", "-connect", `127.0.0.1:${front.port}`, ...files, "-tls1_2", ...session];
    const client = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "ignore" });
    // Its input stays open, since it would leave at the end of it; the answer's end ends it.
    client.stdin.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    client.stdin.flush();
    return await within(new Response(client.stdout).text(), "the answer");
  };
  expect(await asks("-sess_out", sessionFile)).toContain(made.client.thumbprint);
  const resumed = await asks("-sess_in", sessionFile);
  expect(resumed).toContain("Reused, TLSv1.2");
  expect(resumed).toContain(made.client.thumbprint);
});

test("many clients at once are told apart", async () => {
  const { front } = start("optional");
  const clients = Array.from({ length: 40 }, (_unused, i) => (i % 2 === 0 ? made.client : undefined));
  const answers = await Promise.all(clients.map((client) => seen(front, client)));
  expect(answers.map((answer) => (answer as { certThumbprint: string | null }).certThumbprint)).toEqual(
    clients.map((client) => client?.thumbprint ?? null),
  );
});

test("a connection past the front, straight to the inner port, is nobody's", async () => {
  const { front, innerPort } = start("optional");
  const direct = await fetch(`http://127.0.0.1:${innerPort}/`);
  expect(await direct.json()).toBeNull();
  expect(front.peerBehind(1)).toBeNull();
});

test("the table forgets a client that has gone", async () => {
  const { front, ports } = start("optional");
  const client = await RawWebSocket.open({ port: front.port, tls: tls(made.client) });
  const [port = 0] = ports;
  expect(front.peerBehind(port)).not.toBeNull();
  client.destroy();
  await waitFor("the table to forget", () => front.peerBehind(port) === null);
});

test("large messages go through both ways unchanged", async () => {
  const { front } = start("optional");
  using client = await RawWebSocket.open({ port: front.port, tls: tls(made.client) });
  const message = Buffer.alloc(8 << 20);
  for (let i = 0; i < message.length; i += 4) message.writeUInt32LE((i * 2_654_435_761) >>> 0, i);
  client.binary(message);
  const { payload } = await client.nextMessage();
  expect(Buffer.compare(payload, message)).toBe(0);
});

test("a client that reads late gets every byte", async () => {
  const { front, closed, sockets } = start("optional");
  using client = await RawWebSocket.request({ port: front.port, path: `/?send=${24 << 20}`, tls: tls() });
  client.pauseReading();
  await stuck(() => sockets[0]);
  expect(closed).toEqual([]);
  client.resumeReading();
  await client.upgraded();
  const { payload } = await client.nextMessage();
  expect(payload.length).toBe(24 << 20);
});

test("a client that reads nothing is cut once the inner connection has ended, and the table forgets it", async () => {
  const { front, ports, sockets } = start("optional");
  using client = await RawWebSocket.request({ port: front.port, path: `/?send=${24 << 20}`, tls: tls() });
  client.pauseReading();
  await stuck(() => sockets[0]);
  sockets[0]?.terminate();
  const [port = 0] = ports;
  await waitFor("the table to forget", () => front.peerBehind(port) === null, 25_000);
});

test("the end of the inner connection ends the client's, behind what was sent", async () => {
  const { front } = start("optional");
  using client = await RawWebSocket.open({ port: front.port, tls: tls() });
  client.text("first", "terminate");
  expect(await client.nextText()).toBe("first");
  expect(await client.ended()).toBe("fin");
});

describe("a client that does no TLS as it should", () => {
  test("is cut when it never finishes its handshake, within 12 s", async () => {
    const { front, ports } = start("optional");
    const silent = connectTcp({ host: "127.0.0.1", port: front.port });
    const begun = Date.now();
    await within(closeOf(silent), "the cut", 15_000);
    expect(Date.now() - begun).toBeLessThan(12_000);
    expect(ports).toEqual([]);
  });

  test("is cut for garbage, half a hello, a reset or an early end, and the next one is served", async () => {
    const { front, report } = start("require");
    for (const write of ["GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x00\xff", ""]) {
      for (const leave of ["resetAndDestroy", "end", "destroy"] as const) {
        const socket = connectTcp({ host: "127.0.0.1", port: front.port });
        const gone = closeOf(socket);
        await once(socket, "connect");
        socket.write(write, "latin1");
        socket[leave]();
        await within(gone, "the end");
      }
    }
    expect(await seen(front, made.client)).not.toBeNull();
    expect(report.faults).toEqual([]);
  });
});

test("a client that leaves right after its handshake leaves nothing behind", async () => {
  const { front, report, closed, ports } = start("optional");
  for (let i = 0; i < 20; i++) {
    const socket: TLSSocket = connectTls({ host: "127.0.0.1", port: front.port, ...tls(made.client) });
    socket.on("error", () => {});
    await within(once(socket, "secureConnect"), "the handshake");
    socket.destroy();
  }
  expect(await seen(front, made.client)).not.toBeNull();
  expect([report.faults, closed, ports.length]).toEqual([[], [], 1]);
});

test("stop cuts everybody and frees the port", async () => {
  const { front } = start("optional");
  using client = await RawWebSocket.open({ port: front.port, tls: tls() });
  front.stop();
  await client.ended();
  const late = connectTcp({ host: "127.0.0.1", port: front.port });
  const failed = await within(once(late, "error"), "the refusal");
  expect(String(failed[0])).toContain("ECONNREFUSED");
});

test("stopAccepting lets those who are there go on", async () => {
  const { front } = start("optional");
  using client = await RawWebSocket.open({ port: front.port, tls: tls() });
  front.stopAccepting();
  client.text("still there?");
  expect(await client.nextText()).toBe("still there?");
});
