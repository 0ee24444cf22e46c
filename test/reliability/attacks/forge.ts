import { createHmac } from "node:crypto";

/** Claims, or text in their place, unchanged. */
export type Claims = string | Readonly<Record<string, unknown>>;

export interface Forgery {
  /** Members of the header in their order, or its text. Default: HS256 and JWT. */
  readonly header?: Claims;
  /** The HMAC key. */
  readonly key: string | Uint8Array;
  /** Replaces the signature's text; gets the true bytes and the first two parts. */
  readonly seal?: (signature: Buffer, input: string) => string;
}

/** Makes a token whose every part can be wrong. */
export function forge(claims: Claims, { header = { alg: "HS256", typ: "JWT" }, key, seal }: Forgery): string {
  const input = `${part(header)}.${part(claims)}`;
  const signature = createHmac("sha256", key).update(input).digest();
  return `${input}.${seal === undefined ? signature.toString("base64url") : seal(signature, input)}`;
}

/** The claims as text, with some pairs put behind them once more: `exp` twice, and the like. */
export function repeated(claims: Readonly<Record<string, unknown>>, pairs: string): string {
  return `${JSON.stringify(claims).slice(0, -1)},${pairs}}`;
}

/** One part of a token. */
export function part(content: Claims): string {
  return Buffer.from(typeof content === "string" ? content : JSON.stringify(content)).toString("base64url");
}
