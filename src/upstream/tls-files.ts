import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import type { UpstreamTls } from "../config/schema.ts";

/** PEM texts; null where the system's authorities, or no client certificate, will do. */
export interface TlsFiles {
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

/** For a server that the system's authorities vouch for and that asks for no certificate. */
export const SYSTEM_TLS: TlsFiles = { ca: null, cert: null, key: null };

/**
 * Reads the files of an entry's `tls`.
 *
 * Errors: throws where a file cannot be read, or holds nothing that TLS can use: better at the start than at the first
 *         call. The message names the file, never what it holds.
 */
export function readTlsFiles(paths: UpstreamTls): TlsFiles {
  const files = {
    ca: readPem(paths.caFile, "tls.caFile"),
    cert: readPem(paths.certFile, "tls.certFile"),
    key: readPem(paths.keyFile, "tls.keyFile"),
  };
  try {
    createSecureContext({ ca: files.ca ?? undefined, cert: files.cert ?? undefined, key: files.key ?? undefined });
  } catch (error) {
    throw new Error(`tls: the files hold no certificate and key that fit (${errorCode(error)})`);
  }
  return files;
}

function readPem(path: string | null, option: string): string | null {
  if (path === null) return null;
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new Error(`${option}: ${path} cannot be read (${errorCode(error)})`);
  }
}

function errorCode(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "malformed";
}
