import { expect } from "bun:test";
import { once } from "node:events";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Certificates, makeCertificates } from "../../test/support/certificates.ts";
import { until } from "../../test/support/deadline.ts";
import { makeNatsCredentials } from "../../test/support/nats-creds.ts";
import { NatsServer } from "../../test/support/nats-server.ts";
import { hearing } from "../../test/support/notices.ts";
import { needs } from "../../test/support/programs.ts";
import type { NatsOptions } from "./connect-options.ts";
import { NatsLink } from "./link.ts";
import { LoginFiles } from "./login-files.ts";

const { afterAll, afterEach, beforeAll, describe, test } = needs("nats-server");

const NOTHING = { user: null, password: null, token: null, credsFile: null, tls: null } as const;

let folder: string;
const open: (NatsServer | { stop(): Promise<void> })[] = [];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-link-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});
afterEach(async () => {
  for (const one of open.splice(0).reverse())
    await (one instanceof NatsServer ? one[Symbol.asyncDispose]() : one.stop());
});

async function startServer(config = ""): Promise<NatsServer> {
  const server = await NatsServer.start({ config });
  open.push(server);
  return server;
}

/** A link, and what it reports: `up`, `down`, `refused`. */
function startLink(options: Partial<NatsOptions> & Pick<NatsOptions, "servers">): { link: NatsLink; said: string[] } {
  const said: string[] = [];
  const link = NatsLink.start(
    { ...NOTHING, ...options },
    hearing({
      "nats-up": () => void said.push("up"),
      "nats-down": ({ cause }) => void said.push(`down: ${cause}`),
      "nats-refused": ({ cause, unsaidCount }) => void said.push(`refused: ${cause} (${unsaidCount} unsaid)`),
    }),
  );
  open.push(link);
  return { link, said };
}

/** Waits until the server lets it do something. */
async function works({ link }: { link: NatsLink }): Promise<void> {
  // The server it had may be gone, and the loss not noticed yet.
  const isAnswered = async () =>
    link.isUp &&
    (await link.connection?.flush().then(
      () => true,
      () => false,
    )) === true;
  await until(isAnswered, "an answer");
}

describe("proving who asks", () => {
  const ways: readonly (readonly [string, string, Partial<NatsOptions>, Partial<NatsOptions>])[] = [
    ["a token", 'authorization { token: "t0ken" }', { token: "t0ken" }, { token: "other" }],
    [
      "user and password",
      'authorization { user: "hub", password: "pa ss" }',
      { user: "hub", password: "pa ss" },
      { user: "hub", password: "pass" },
    ],
  ];
  test.each(ways)(
    "by %s is let in; a wrong one is not, is told of once, and is let in when it is right",
    async (...way) => {
      const [, config, right, wrong] = way;
      const server = await startServer(config);
      await works(startLink({ servers: [server.url], ...right }));
      const refused = startLink({ servers: [server.url], ...wrong });
      await until(() => refused.said.length > 0, "the refusal");
      expect(refused.said.join()).toMatch(/^down: .*Authorization Violation/i);
      expect(refused.said.join()).not.toContain(Object.values(wrong).at(-1) ?? "?");
      expect(refused.link.connection).toBeNull();
      // The operator changes the configuration: a server on the same port accepts these credentials.
      await server.stop();
      const other = await NatsServer.start({ config: wrongConfig(config, wrong), port: server.port });
      open.push(other);
      await works(refused);
      expect(refused.said.filter((text) => text.startsWith("down"))).toHaveLength(1);
    },
  );

  test("by a password that is taken back is told of once, however often it is tried", async () => {
    const config = (password: string) => `authorization { user: "hub", password: "${password}" }`;
    const server = await startServer(config("old"));
    const one = startLink({ servers: [server.url], user: "hub", password: "old" });
    await works(one);
    await server.stop("SIGKILL");
    const other = await NatsServer.start({ config: config("new"), port: server.port });
    open.push(other);
    const refusals = () => other.output().split("authentication error").length - 1;
    await until(() => refusals() >= 4, "several refusals");
    const words = () => one.said.map((text) => text.split(":")[0]);
    expect(words()).toEqual(["up", "down", "refused"]);
    await other.stop("SIGKILL");
    await server.restart();
    await works(one);
    await server.stop("SIGKILL");
    await other.restart();
    await until(() => words().length >= 6, "the next refusal");
    expect(words()).toEqual(["up", "down", "refused", "up", "down", "refused"]);
  });

  function wrongConfig(config: string, { token, password }: Partial<NatsOptions>): string {
    return config.replace(/"t0ken"/, JSON.stringify(token ?? "")).replace(/"pa ss"/, JSON.stringify(password ?? ""));
  }

  test("by a credentials file is let in, without one not", async () => {
    const { config, creds } = makeNatsCredentials();
    const server = await startServer(config);
    const credsFile = join(folder, "hubwire.creds");
    writeFileSync(credsFile, creds);
    await works(startLink({ servers: [server.url], credsFile }));
    const without = startLink({ servers: [server.url] });
    await until(() => without.said.length > 0, "the refusal");
    expect(without.said[0]).toStartWith("down: ");
  });

  test("by a file that is not there throws at the start", () => {
    expect(() => startLink({ servers: ["127.0.0.1:1"], credsFile: join(folder, "none") })).toThrow("ENOENT");
  });

  test("by a file that is cut throws at the start; later, the file before stays in force", () => {
    const { creds } = makeNatsCredentials();
    const { creds: renewed } = makeNatsCredentials();
    const credsFile = join(folder, "renewed.creds");
    writeFileSync(credsFile, creds);
    const files = new LoginFiles({ tls: null, credsFile });
    const inForce = () => new TextDecoder().decode(files.creds);
    expect(files.renew()).toEqual([]);
    for (const bad of ["", creds.slice(0, creds.length - 60)]) {
      writeFileSync(credsFile, bad);
      const fault = `credsFile: ${credsFile} contains no credentials, or is incomplete`;
      expect(files.renew()).toEqual([{ where: "cluster.nats.credsFile", fault }]);
      expect(inForce()).toBe(creds);
      expect(() => new LoginFiles({ tls: null, credsFile })).toThrow(fault);
    }
    writeFileSync(credsFile, renewed);
    expect(files.renew()).toEqual([{ where: "cluster.nats.credsFile", fault: null }]);
    expect(inForce()).toBe(renewed);
  });
});

describe("TLS", () => {
  const { afterAll, beforeAll, test } = needs("nats-server", "openssl");
  let certificates: Certificates;
  beforeAll(() => {
    certificates = makeCertificates();
  });
  afterAll(() => certificates.remove());

  function tlsConfig(verify: boolean): string {
    const { server, authority } = certificates;
    return `tls { cert_file: "${server.certFile}", key_file: "${server.keyFile}", ca_file: "${authority.certFile}", verify: ${verify} }`;
  }

  test("with a private authority that is named is trusted, without it is not", async () => {
    const server = await startServer(tlsConfig(false));
    const tls = { caFile: certificates.authority.certFile, certFile: null, keyFile: null };
    await works(startLink({ servers: [server.url], tls }));
    await works(startLink({ servers: [server.url.replace("nats:", "tls:")], tls }));
    const foreign = startLink({
      servers: [server.url],
      tls: { ...tls, caFile: certificates.foreignAuthority.certFile },
    });
    const unnamed = startLink({ servers: [server.url.replace("nats:", "tls:")] });
    for (const { said } of [foreign, unnamed]) await until(() => said.length > 0, "the refusal");
    expect([foreign.link.connection, unnamed.link.connection]).toEqual([null, null]);
  });

  test("that asks for a client certificate lets in who has one, and nobody else", async () => {
    const server = await startServer(tlsConfig(true));
    const caFile = certificates.authority.certFile;
    const { certFile, keyFile } = certificates.client;
    await works(startLink({ servers: [server.url], tls: { caFile, certFile, keyFile } }));
    const without = startLink({ servers: [server.url], tls: { caFile, certFile: null, keyFile: null } });
    await until(() => without.said.length > 0, "the refusal");
    expect(without.link.connection).toBeNull();
  });

  test("takes a renewed client certificate at the next connection, and never one that is cut", async () => {
    const at = (name: string) => join(folder, name);
    const [serverCa, caFile, certFile, keyFile] = [at("server-ca"), at("ca"), at("cert"), at("key")];
    const { authority, foreignAuthority, server: own, client, foreignClient } = certificates;
    copyFileSync(authority.certFile, serverCa);
    copyFileSync(authority.certFile, caFile);
    const install = (which: { certFile: string; keyFile: string }) => {
      copyFileSync(which.certFile, certFile);
      copyFileSync(which.keyFile, keyFile);
    };
    install(client);
    const server = await startServer(
      `tls { cert_file: "${own.certFile}", key_file: "${own.keyFile}", ca_file: "${serverCa}", verify: true }`,
    );
    const started = startLink({ servers: [server.url], tls: { caFile, certFile, keyFile } });
    await works(started);
    writeFileSync(certFile, foreignClient.cert.slice(0, 100));
    const cut = `tls.certFile: ${certFile} is incomplete, or not a PEM file`;
    expect(started.link.renewCertificates()).toEqual([{ where: "cluster.nats.tls", fault: cut }]);
    await server.stop("SIGKILL");
    await until(() => !started.link.isUp, "the loss");
    await server.restart();
    await works(started);

    // From now on the server trusts the other authority alone.
    await server.stop("SIGKILL");
    await until(() => !started.link.isUp, "the loss");
    copyFileSync(foreignAuthority.certFile, serverCa);
    install(foreignClient);
    expect(started.link.renewCertificates()).toEqual([{ where: "cluster.nats.tls", fault: null }]);
    await server.restart();
    await works(started);
  });

  test("that is asked for is not done without", async () => {
    const server = await startServer();
    const asked = startLink({ servers: [server.url.replace("nats:", "tls:")] });
    await until(() => asked.said.length > 0, "the refusal");
    expect(asked.link.connection).toBeNull();
  });
});

describe("a server that goes away", () => {
  test("and comes back is told of, each time once, listeners in the order in which they came", async () => {
    const server = await startServer();
    const { link, said } = startLink({ servers: [server.url] });
    const heard: string[] = [];
    for (const name of ["a", "b"]) link.onChange((isUp) => void heard.push(`${name} ${isUp}`));
    await works({ link });
    for (let time = 0; time < 2; time++) {
      await server.stop("SIGKILL");
      await until(() => !link.isUp, "the loss");
      await server.restart();
      await works({ link });
    }
    expect(said.map((text) => text.split(":")[0])).toEqual(["up", "down", "up", "down", "up"]);
    expect(heard).toEqual(["true", "false", "true", "false", "true"].flatMap((isUp) => [`a ${isUp}`, `b ${isUp}`]));
    link.onChange((isUp) => void heard.push(`late ${isUp}`));
    expect(heard.at(-1)).toBe("late true");
  });

  test("without a word is found out, and the link is back when it answers again", async () => {
    const server = await startServer();
    const { link } = startLink({ servers: [server.url] });
    await works({ link });
    await server.freeze();
    await until(() => !link.isUp, "the silence to be noticed");
    server.thaw();
    await works({ link });
  });

  test("for good is followed by the next of the list", async () => {
    const [first, second] = [await startServer(), await startServer()];
    const { link } = startLink({ servers: [first.url, second.url] });
    await works({ link });
    for (const server of [first, second]) {
      await server.stop("SIGKILL");
      await works({ link });
      await server.restart();
    }
  });

  test("while the client gives up is reached again by another client", async () => {
    const server = await startServer();
    const { link, said } = startLink({ servers: [server.url] });
    await works({ link });
    const before = link.connection;
    await before?.close();
    await until(() => link.connection !== before && link.isUp, "another connection");
    await works({ link });
    expect(said.map((text) => text.split(":")[0])).toEqual(["up", "down", "up"]);
    await server.stop("SIGKILL");
    await link.connection?.close();
    await until(() => said.length > 3, "the loss");
    await server.restart();
    await works({ link });
    expect(said.map((text) => text.split(":")[0])).toEqual(["up", "down", "up", "down", "up"]);
  });
});

test("a thousand refusals while it is up are told of once, not one line each", async () => {
  const server = await startServer(
    'authorization { users: [{ user: u, password: p, permissions: { subscribe: "ok.>" } }] }',
  );
  const { link, said } = startLink({ servers: [server.url], user: "u", password: "p" });
  await works({ link });
  for (let index = 0; index < 1000; index++) link.connection?.subscribe(`no.${index}`, { callback: () => {} });
  await link.connection?.flush();
  await until(() => said.length > 1, "the first");
  await link.connection?.flush();
  expect(said.map((text) => text.split(":")[0])).toEqual(["up", "refused"]);
  expect(said[1]).toContain("no.0");
});

describe("a server that takes connections and says nothing", () => {
  /** Its sockets that are open. */
  async function startMute(): Promise<{ url: string; sockets: Set<Socket>; accepted: () => number }> {
    const sockets = new Set<Socket>();
    let count = 0;
    const server = createServer((socket) => {
      count++;
      sockets.add(socket.resume());
      socket.on("error", () => {});
      socket.on("close", () => sockets.delete(socket));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    open.push({
      stop: async () => {
        for (const socket of sockets) socket.destroy();
        server.close();
      },
    });
    const url = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    return { url, sockets, accepted: () => count };
  }

  test("costs no socket for each try, and does not keep from the next of the list", async () => {
    const mute = await startMute();
    const { said } = startLink({ servers: [mute.url] });
    await until(() => mute.accepted() >= 3, "three tries");
    expect(mute.sockets.size).toBeLessThanOrEqual(1);
    expect(said).toEqual(["down: timeout"]);
    const server = await startServer();
    await works(startLink({ servers: [mute.url, server.url] }));
  });

  test("while it is waited for is left by stop, before that resolves", async () => {
    const mute = await startMute();
    const { link, said } = startLink({ servers: [mute.url] });
    await until(() => mute.sockets.size > 0, "the client");
    await link.stop();
    await until(() => mute.sockets.size === 0, "its end");
    expect([mute.accepted(), said, link.connection]).toEqual([1, [], null]);
  });
});

test("stop ends a link that never was, and one that is; it may be called twice", async () => {
  const never = startLink({ servers: ["127.0.0.1:1"] });
  await until(() => never.said.length > 0, "the first failure");
  await never.link.stop();
  const server = await startServer();
  const { link, said } = startLink({ servers: [server.url] });
  await works({ link });
  const stopping = link.stop();
  expect(link.stop()).toBe(stopping);
  await stopping;
  await link.stop();
  expect(link.isUp).toBe(false);
  expect(link.connection?.isClosed()).toBe(true);
  expect(said).toEqual(["up"]);
});
