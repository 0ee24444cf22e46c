import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";

/** Paths of PEM files; null for a file that is not configured. */
export interface TlsPaths {
  readonly caFile: string | null;
  readonly certFile: string | null;
  readonly keyFile: string | null;
}

/** PEM texts; null where the system's authorities, or no certificate, will do. */
export interface TlsFiles {
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

/** The outcome for certificate files that were read again and have changed, or that cannot be used. */
export interface Renewal {
  /** The option that names the files. */
  readonly where: string;
  /** Why the previous files stay in use; null where the new files are in force. */
  readonly fault: string | null;
}

/** For a server that the system's authorities vouch for and that asks for no certificate. */
export const SYSTEM_TLS: TlsFiles = { ca: null, cert: null, key: null };

/**
 * Reads certificate, key and authorities, and checks that TLS can use them.
 *
 * Errors: throws where a file cannot be read, is incomplete, or not a PEM file, or where the key belongs to another certificate: such a file may be
 *         half written. The message names the option and the file, never what the file holds.
 */
export function readTlsFiles(paths: TlsPaths): TlsFiles {
  const files = {
    ca: readPem(paths.caFile, "tls.caFile"),
    cert: readPem(paths.certFile, "tls.certFile"),
    key: readPem(paths.keyFile, "tls.keyFile"),
  };
  try {
    createSecureContext({ ca: files.ca ?? undefined, cert: files.cert ?? undefined, key: files.key ?? undefined });
  } catch (error) {
    throw new Error(`tls: ${describeMisfit(errorCode(error))}`);
  }
  return files;
}

function readPem(path: string | null, option: string): string | null {
  if (path === null) return null;
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new Error(`${option}: ${path} cannot be read (${errorCode(error)})`);
  }
  // OpenSSL passes over a last block that is cut, and takes an empty file for none.
  if (!isWhole(text)) throw new Error(`${option}: ${path} is incomplete, or not a PEM file`);
  return text;
}

/** Whether every block that begins ends too, and there is one. */
function isWhole(text: string): boolean {
  const begun = countOf(text, "-----BEGIN ");
  return begun > 0 && begun === countOf(text, "-----END ");
}

function countOf(text: string, part: string): number {
  let count = 0;
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + part.length)) count++;
  return count;
}

function describeMisfit(code: string): string {
  if (code === "ERR_OSSL_X509_KEY_VALUES_MISMATCH") return "the key in keyFile belongs to another certificate";
  return `the files contain no matching certificate and key (${code})`;
}

function errorCode(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "malformed";
}
