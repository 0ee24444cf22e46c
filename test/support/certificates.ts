import { execFileSync } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { requireProgram } from "./programs.ts";

/** A certificate with its key, as PEM and as files. */
export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: string;
  readonly key: string;
  /** SHA-1 over the DER form, 40 upper-case hex digits: what the seed calls the thumbprint. */
  readonly thumbprint: string;
}

/** Real certificates made by the openssl command: one authority, a server, a client, and the same of a foreign one. */
export interface Certificates {
  readonly authority: Certificate;
  /** For localhost and 127.0.0.1. */
  readonly server: Certificate;
  /** The same names, by the same authority, and another key: what a renewal brings. */
  readonly renewedServer: Certificate;
  readonly client: Certificate;
  readonly foreignAuthority: Certificate;
  /** Signed by the foreign authority. */
  readonly foreignClient: Certificate;
  remove(): void;
}

/** Makes them in a folder of their own; `remove` deletes it. */
export function makeCertificates(): Certificates {
  requireProgram("openssl");
  const folder = mkdtempSync(join(tmpdir(), "hubwire-certificates-"));
  const authority = makeAuthority(folder, "authority");
  const foreignAuthority = makeAuthority(folder, "foreign-authority");
  const names = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n";
  const clientUse = "extendedKeyUsage=clientAuth\n";
  return {
    authority,
    server: makeLeaf(folder, "server", authority, names),
    renewedServer: makeLeaf(folder, "renewed-server", authority, names),
    client: makeLeaf(folder, "client", authority, clientUse),
    foreignAuthority,
    foreignClient: makeLeaf(folder, "foreign-client", foreignAuthority, clientUse),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

function makeAuthority(folder: string, name: string): Certificate {
  const { certFile, keyFile } = filesOf(folder, name);
  openssl("req", "-x509", ...NEW_KEY, "-days", "2", "-subj", `/CN=${name}`, "-keyout", keyFile, "-out", certFile);
  return read(certFile, keyFile);
}

function makeLeaf(folder: string, name: string, authority: Certificate, extensions: string): Certificate {
  const { certFile, keyFile } = filesOf(folder, name);
  const requestFile = join(folder, `${name}.csr`);
  const extensionFile = join(folder, `${name}.ext`);
  writeFileSync(extensionFile, extensions);
  openssl("req", "-new", ...NEW_KEY, "-subj", `/CN=${name}`, "-keyout", keyFile, "-out", requestFile);
  const signer = ["-CA", authority.certFile, "-CAkey", authority.keyFile, "-CAcreateserial", "-days", "2"];
  openssl("x509", "-req", "-in", requestFile, ...signer, "-extfile", extensionFile, "-out", certFile);
  return read(certFile, keyFile);
}

function filesOf(folder: string, name: string): { certFile: string; keyFile: string } {
  return { certFile: join(folder, `${name}.pem`), keyFile: join(folder, `${name}.key`) };
}

function read(certFile: string, keyFile: string): Certificate {
  const cert = readFileSync(certFile, "utf8");
  const der = new X509Certificate(cert).raw;
  const thumbprint = createHash("sha1").update(der).digest("hex").toUpperCase();
  return { certFile, keyFile, cert, key: readFileSync(keyFile, "utf8"), thumbprint };
}

function openssl(...args: readonly string[]): void {
  execFileSync("openssl", args, { stdio: "pipe" });
}
