import { createHmac, createSign } from "node:crypto";

/** Seconds since 1970, moved by an offset: what `exp`, `nbf` and `iat` are written in. */
export function secondsFromNow(offset: number): number {
  return Math.floor(Date.now() / 1000) + offset;
}

export interface TokenOptions {
  /** The key's text, used as its UTF-8 bytes. */
  readonly key: string;
  /** The algorithm in the header; the signature is HMAC of that size, and empty for `none`. Default: HS256. */
  readonly alg?: string;
  /** Further members of the header. */
  readonly header?: Readonly<Record<string, unknown>>;
}

/**
 * Makes a JWT by hand, good or bad.
 *
 * Shape: `claims` as a string is used as it is, so that numbers and the order of members stay exactly as written.
 */
export function signToken(claims: string | Readonly<Record<string, unknown>>, options: TokenOptions): string {
  const alg = options.alg ?? "HS256";
  const header = base64url(JSON.stringify({ alg, typ: "JWT", ...options.header }));
  const payload = base64url(typeof claims === "string" ? claims : JSON.stringify(claims));
  const input = `${header}.${payload}`;
  if (alg === "none") return `${input}.`;
  // "RS256 confused" tokens too are signed by HMAC: a verifier that trusts the header might take the key for a public one.
  const hash = alg.endsWith("512") ? "sha512" : alg.endsWith("384") ? "sha384" : "sha256";
  return `${input}.${createHmac(hash, options.key).update(input).digest("base64url")}`;
}

/** Makes a JWT that is truly signed by an RSA key, which no access key ever is. */
export function signRsaToken(claims: Readonly<Record<string, unknown>>, privateKeyPem: string): string {
  const input = `${base64url(JSON.stringify({ alg: "RS256", typ: "JWT" }))}.${base64url(JSON.stringify(claims))}`;
  return `${input}.${createSign("RSA-SHA256").update(input).sign(privateKeyPem, "base64url")}`;
}

function base64url(text: string): string {
  return Buffer.from(text, "utf8").toString("base64url");
}

/** The value of `X-ASRS-Signature` for a connection, one entry per key. Source: PROTOCOL.md, "Signature". */
export function expectedSignature(connectionId: string, ...keys: readonly string[]): string {
  return keys.map((key) => `sha256=${createHmac("sha256", key).update(connectionId).digest("hex")}`).join(",");
}
