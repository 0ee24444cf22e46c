import { expect } from "bun:test";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Certificates, makeCertificates } from "../../test/support/certificates.ts";
import { needs } from "../../test/support/programs.ts";
import { type BackendTls, RawBackend, type Script } from "../../test/support/raw-backend.ts";
import {
  bodyOf,
  connectEvent,
  disconnectEvent,
  messageEvent,
  startUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import type { UpstreamTls } from "../config/schema.ts";

const { afterAll, afterEach, beforeAll, describe, test } = needs("openssl");

let certificates: Certificates;
let elsewhere: { cert: string; key: string };
let backend: RawBackend;

beforeAll(() => {
  certificates = makeCertificates();
  elsewhere = makeCertificateFor("elsewhere.example");
});

afterAll(() => certificates.remove());

afterEach(() => backend.stop());

/** A certificate of the trusted authority for a host that no test connects to. */
function makeCertificateFor(host: string): { cert: string; key: string } {
  const { authority } = certificates;
  const folder = dirname(authority.certFile);
  const at = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "pipe" });
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl("req", "-new", ...newKey, "-subj", `/CN=${host}`, "-keyout", at("else.key"), "-out", at("else.csr"));
  writeFileSync(at("else.ext"), `subjectAltName=DNS:${host}\n`);
  const signer = ["-CA", authority.certFile, "-CAkey", authority.keyFile, "-CAcreateserial", "-days", "2"];
  openssl("x509", "-req", "-in", at("else.csr"), ...signer, "-extfile", at("else.ext"), "-out", at("else.pem"));
  return { cert: readFileSync(at("else.pem"), "utf8"), key: readFileSync(at("else.key"), "utf8") };
}

async function startBackend(over: Partial<BackendTls> = {}): Promise<void> {
  const { cert, key } = certificates.server;
  backend = await RawBackend.start({ tls: { cert, key, ...over } });
}

function entryOf(tls: Partial<UpstreamTls>, url = backend.url) {
  const none: UpstreamTls = { caFile: null, certFile: null, keyFile: null };
  return upstreamEntry(`${url}/{event}`, { tls: { ...none, ...tls } });
}

const trusting = (): Partial<UpstreamTls> => ({ caFile: certificates.authority.certFile });

describe("an https template", () => {
  test("is called over TLS, by address and by name, over sockets that are used again", async () => {
    await startBackend();
    for (const host of ["127.0.0.1", "localhost"]) {
      const before = backend.connectionCount;
      await using upstream = startUpstream([entryOf(trusting(), `https://${host}:${backend.port}`)]);
      expect(await upstream.call(connectEvent())).toMatchObject({ kind: "answer", status: 200 });
      const payload = new Uint8Array(1_000_000).fill(7);
      expect(bodyOf(await upstream.call(messageEvent(payload))).equals(payload)).toBe(true);
      expect(backend.connectionCount - before).toBe(1);
    }
    expect(backend.requests[2]?.header("Host")).toBe(`localhost:${backend.port}`);
  });

  test("whose name ends with the root's dot asks for the name without it: certificates and proxies know that one", async () => {
    const asked: string[] = [];
    const SNICallback: BackendTls["SNICallback"] = (name, done) => {
      asked.push(name);
      done(null);
    };
    await startBackend({ SNICallback });
    const url = `https://localhost.:${backend.port}`;
    await using upstream = startUpstream([entryOf(trusting(), url)], { resolve: async () => ["127.0.0.1"] });
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "answer", status: 200 });
    expect(asked).toEqual(["localhost"]);
  });

  for (const death of ["end", "reset"] as const) {
    for (const event of [connectEvent(), messageEvent(), disconnectEvent()]) {
      test(`has ${event.name} sent again where its pooled socket dies without a byte of answer (${death})`, async () => {
        await startBackend();
        await using upstream = startUpstream([entryOf(trusting())]);
        await upstream.call(messageEvent());
        const script: Script = (exchange) => (exchange.request.ordinal === 1 ? exchange[death]() : exchange.reply(204));
        backend.onConnect = script;
        backend.onMessage = script;
        backend.onDisconnect = script;
        expect(await upstream.call(event)).toMatchObject({ kind: "answer", status: 204, wasRepeated: true });
        expect(backend.requests.map((request) => request.connection)).toEqual([0, 0, 1]);
      });
    }
  }

  test("sends nothing to a server that the system's authorities do not vouch for", async () => {
    await startBackend();
    await using upstream = startUpstream([entryOf({})]);
    expect(await upstream.call(messageEvent())).toMatchObject({
      kind: "not-sent",
      detail: "TLS: UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    });
    expect(backend.requests).toEqual([]);
  });

  test("sends nothing to a server of another authority than the configured one", async () => {
    await startBackend();
    await using upstream = startUpstream([entryOf({ caFile: certificates.foreignAuthority.certFile })]);
    expect(await upstream.call(messageEvent())).toMatchObject({
      kind: "not-sent",
      detail: "TLS: UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    });
    expect(backend.requests).toEqual([]);
  });

  test("sends nothing to a server whose certificate is for another host", async () => {
    await startBackend(elsewhere);
    for (const host of ["127.0.0.1", "localhost"]) {
      await using upstream = startUpstream([entryOf(trusting(), `https://${host}:${backend.port}`)]);
      expect(await upstream.call(messageEvent())).toMatchObject({
        kind: "not-sent",
        detail: "TLS: ERR_TLS_CERT_ALTNAME_INVALID",
      });
    }
    expect(backend.requests).toEqual([]);
  });

  test("fails where the server speaks no TLS", async () => {
    backend = await RawBackend.start();
    await using upstream = startUpstream([
      upstreamEntry(`https://127.0.0.1:${backend.port}/{event}`, { timeoutMs: 200 }),
    ]);
    expect(await upstream.call(messageEvent())).toMatchObject({ kind: "not-sent" });
    expect(backend.requests).toEqual([]);
  });
});

describe("a server that wants the client's certificate", () => {
  const wanting = () => ({ ca: certificates.authority.cert, requestCert: true, rejectUnauthorized: true });

  test("is shown the one of the entry", async () => {
    await startBackend(wanting());
    const { certFile, keyFile } = certificates.client;
    await using upstream = startUpstream([entryOf({ ...trusting(), certFile, keyFile })]);
    expect(await upstream.call(connectEvent())).toMatchObject({ kind: "answer", status: 200 });
  });

  test("gets no request from an entry without one, or with a foreign one", async () => {
    await startBackend(wanting());
    const { certFile, keyFile } = certificates.foreignClient;
    for (const shown of [{}, { certFile, keyFile }]) {
      await using upstream = startUpstream([entryOf({ ...trusting(), ...shown })]);
      const outcome = await upstream.call(connectEvent());
      expect(["not-sent", "unknown"]).toContain(outcome.kind);
    }
    expect(backend.requests).toEqual([]);
  });
});

describe("TLS files", () => {
  test("that cannot be read, or do not fit, are refused when the upstream is built", async () => {
    await startBackend();
    const { certFile } = certificates.client;
    const { keyFile } = certificates.server;
    const missing = join(dirname(certFile), "missing.pem");
    const text = join(dirname(certFile), "else.ext");
    expect(() => startUpstream([entryOf({ caFile: missing })])).toThrow(/^upstreams\[0\]: tls\.caFile: .*ENOENT/);
    expect(() => startUpstream([entryOf({ certFile, keyFile })])).toThrow(/^upstreams\[0\]: tls: /);
    expect(() => startUpstream([entryOf({ certFile: text, keyFile })])).toThrow(
      /^upstreams\[0\]: tls\.certFile: .*not a PEM file/,
    );
  });
});
