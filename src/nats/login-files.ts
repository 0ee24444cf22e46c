import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { credsAuthenticator } from "@nats-io/transport-node";
import { type Renewal, readTlsFiles, SYSTEM_TLS, type TlsFiles, type TlsPaths } from "../config/tls-files.ts";

/** Paths of the files that a connection to NATS is made with. */
export interface LoginPaths {
  readonly tls: TlsPaths | null;
  readonly credsFile: string | null;
}

/**
 * The files for TLS and login towards NATS, as they were when they last could be used.
 *
 * Errors: the constructor throws where one of them cannot be used, in words for the operator.
 */
export class LoginFiles {
  readonly #paths: LoginPaths;
  #tls: TlsFiles;
  #creds: Buffer;

  constructor(paths: LoginPaths) {
    this.#paths = paths;
    this.#tls = readTls(paths);
    this.#creds = readCreds(paths);
  }

  get tls(): TlsFiles {
    return this.#tls;
  }

  /** Empty where there is no file. */
  get creds(): Uint8Array {
    return this.#creds;
  }

  /** Reads them again. Files that have not changed are not named. */
  renew(): Renewal[] {
    return [
      ...tried("cluster.nats.tls", () => {
        const before = this.#tls;
        this.#tls = readTls(this.#paths);
        return !isDeepStrictEqual(before, this.#tls);
      }),
      ...tried("cluster.nats.credsFile", () => {
        const before = this.#creds;
        this.#creds = readCreds(this.#paths);
        return !before.equals(this.#creds);
      }),
    ];
  }
}

function readTls({ tls }: LoginPaths): TlsFiles {
  return tls === null ? SYSTEM_TLS : readTlsFiles(tls);
}

function readCreds({ credsFile }: LoginPaths): Buffer {
  if (credsFile === null) return Buffer.alloc(0);
  let creds: Buffer;
  try {
    creds = readFileSync(credsFile);
  } catch (error) {
    throw new Error(`credsFile: ${credsFile} cannot be read (${errorCode(error)})`);
  }
  try {
    // The client would find out at its next login only.
    credsAuthenticator(creds)("nonce");
  } catch {
    throw new Error(`credsFile: ${credsFile} contains no credentials, or is incomplete`);
  }
  return creds;
}

function errorCode(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "unknown";
}

function tried(where: string, renew: () => boolean): Renewal[] {
  try {
    return renew() ? [{ where, fault: null }] : [];
  } catch (error) {
    return [{ where, fault: error instanceof Error ? error.message : "cannot be used" }];
  }
}
