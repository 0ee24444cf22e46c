import { compactVerify, errors } from "jose";
import { type Claim, parseClaims } from "../protocol/claims.ts";
import { type Refusal, refusal } from "../protocol/error-codes.ts";
import type { AccessKeys } from "./access-keys.ts";

/** How far the clocks of the token's maker and ours may be apart. Source: spec section 3.2. */
const LEEWAY_SECONDS = 60;

const utf8 = new TextEncoder();
const utf8Reader = new TextDecoder("utf-8", { fatal: true });

/** Three parts of base64url, nothing else: decoders forgive padding and spaces, and one token would have many spellings. */
const JWS = /^[\w-]+\.[\w-]+\.[\w-]*$/;

/** The last of the 43 characters of a SHA-256: its two lowest bits are none of the hash's, and zero. */
const LAST_OF_SIGNATURE = /[AEIMQUYcgkosw048]$/;
const SIGNATURE_CHARS = 43;

/** A token whose signature is good: its claims, and when it holds. */
export interface SignedToken {
  readonly claims: readonly Claim[];
  /** Unix seconds. */
  readonly expiresAt: number;
  /** Unix seconds; negative infinity where the token does not say. */
  readonly notBefore: number;
}

/** Which check of a token failed. */
export type TokenFault =
  | "token_malformed"
  | "token_signature"
  | "token_claims"
  | "token_expired"
  | "token_not_yet_valid"
  | "token_audience";

/**
 * Verifies form, algorithm and signature of a token, and that its claims of time are numbers. It does not look at the time.
 *
 * Source: spec section 3.2: HS256 over the UTF-8 bytes of the primary or secondary key, `exp` required.
 */
export async function verifySignedToken(token: string, keys: AccessKeys): Promise<SignedToken | TokenFault> {
  const payload = await verifySignature(token, keys);
  if (typeof payload === "string") return payload;
  const claims = readClaims(payload);
  if (claims === null) return "token_malformed";
  const expiresAt = claimValue(claims, "exp");
  const given = claimValue(claims, "nbf");
  const notBefore = given === undefined ? Number.NEGATIVE_INFINITY : given;
  if (typeof expiresAt !== "number" || typeof notBefore !== "number") return "token_claims";
  // What no clock will ever show is a mistake, or a way round the end that is required.
  if (expiresAt > Number.MAX_SAFE_INTEGER) return "token_claims";
  return { claims, expiresAt, notBefore };
}

/** Whether a token holds at a time, in Unix seconds; null where it does. */
export function timeFault(token: Pick<SignedToken, "expiresAt" | "notBefore">, nowSeconds: number): TokenFault | null {
  if (token.expiresAt + LEEWAY_SECONDS <= nowSeconds) return "token_expired";
  return token.notBefore - LEEWAY_SECONDS > nowSeconds ? "token_not_yet_valid" : null;
}

/** A claim's value; of a repeated claim the last, as JSON parsers have it. */
export function claimValue(claims: readonly Claim[], type: string): unknown {
  return claims.findLast((claim) => claim.type === type)?.value;
}

/** The payload's bytes, or the code of what is wrong. */
async function verifySignature(
  token: string,
  keys: AccessKeys,
): Promise<Uint8Array | "token_malformed" | "token_signature"> {
  if (!isWellFormed(token)) return "token_malformed";
  for (const key of [keys.primary, keys.secondary]) {
    if (key === null) continue;
    try {
      const { payload, protectedHeader } = await compactVerify(token, utf8.encode(key), { algorithms: ["HS256"] });
      // What must be understood to read the token is nothing that we know; RFC 7797 forbids its one known use in a JWT.
      return protectedHeader.crit === undefined ? payload : "token_malformed";
    } catch (error) {
      if (error instanceof errors.JWSSignatureVerificationFailed) continue;
      if (error instanceof errors.JOSEError) return "token_malformed";
      throw error;
    }
  }
  return "token_signature";
}

function isWellFormed(token: string): boolean {
  if (!JWS.test(token)) return false;
  const signature = token.slice(token.lastIndexOf(".") + 1);
  return signature.length !== SIGNATURE_CHARS || LAST_OF_SIGNATURE.test(signature);
}

function readClaims(payload: Uint8Array): Claim[] | null {
  try {
    return parseClaims(utf8Reader.decode(payload));
  } catch {
    return null;
  }
}

const SENTENCES: Readonly<Record<TokenFault, readonly [message: string, target: string]>> = {
  token_malformed: ["the access token is no JWT signed with HS256", "access_token"],
  token_signature: ["the access token was not signed with an access key in force", "access_token"],
  token_claims: [
    "the access token lacks a claim, or one is of the wrong type: exp and aud are required",
    "access_token",
  ],
  token_expired: ["the access token has expired", "exp"],
  token_not_yet_valid: ["the access token is not valid yet", "nbf"],
  token_audience: ["the access token was made for another endpoint or hub", "aud"],
};

/** The 401 for a fault; it holds neither token, claim nor key. */
export function tokenRefusal(fault: TokenFault): Refusal {
  const [message, target] = SENTENCES[fault];
  return refusal(fault, message, target);
}
