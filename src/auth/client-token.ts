import { compactVerify, errors } from "jose";
import { type Claim, formatClaims, MAX_CLAIMS_BYTES, parseClaims } from "../protocol/claims.ts";
import { type Refusal, refusal } from "../protocol/error-codes.ts";
import { isName } from "../protocol/names.ts";
import type { AccessKeys } from "./access-keys.ts";
import { type Endpoint, isClientAudience } from "./audience.ts";

/** How far the clocks of the token's maker and ours may be apart. Source: spec section 3.2. */
const LEEWAY_SECONDS = 60;

const utf8 = new TextEncoder();
const utf8Reader = new TextDecoder("utf-8", { fatal: true });

/** What a good token says of its bearer. */
export interface ClientIdentity {
  /** Empty where the token names no user. */
  readonly userId: string;
  /** Formatted for `X-ASRS-User-Claims`. */
  readonly claims: string;
}

export type ClientTokenResult =
  | { readonly kind: "identity"; readonly identity: ClientIdentity }
  | { readonly kind: "refused"; readonly refusal: Refusal };

/**
 * Verifies a client's token.
 *
 * Errors: a refusal whose code says which check failed; it never holds the token, a claim or a key.
 * Order:  form and algorithm, signature, `exp` and `nbf`, `aud`, then the user id (400) and the size of the claims (431).
 * Source: spec section 3.2. `nowSeconds` is the time of day, Unix.
 */
export async function verifyClientToken(
  token: string,
  endpoint: Endpoint,
  keys: AccessKeys,
  nowSeconds: number,
): Promise<ClientTokenResult> {
  const verified = await verifySignature(token, keys);
  if (typeof verified === "string") return refused(verified);
  const claims = readClaims(verified);
  if (claims === null) return refused("token_malformed");
  const value = (type: string) => claims.findLast((claim) => claim.type === type)?.value;

  const expiry = value("exp");
  const notBefore = value("nbf");
  if (typeof expiry !== "number") return refused("token_claims");
  if (notBefore !== undefined && typeof notBefore !== "number") return refused("token_claims");
  if (expiry + LEEWAY_SECONDS <= nowSeconds) return refused("token_expired");
  if (notBefore !== undefined && notBefore - LEEWAY_SECONDS > nowSeconds) return refused("token_not_yet_valid");
  if (!isClientAudience(value("aud"), endpoint)) return refused("token_audience");
  return identify(claims, value("sub") ?? value("nameid") ?? "");
}

function identify(claims: readonly Claim[], userId: unknown): ClientTokenResult {
  if (typeof userId !== "string") return refused("token_claims");
  if (userId !== "" && !isName(userId)) return refused("bad_user");
  const formatted = formatClaims(claims);
  // Percent-encoding leaves ASCII only, so characters are bytes.
  if (formatted.length > MAX_CLAIMS_BYTES) return refused("claims_too_large");
  return { kind: "identity", identity: { userId, claims: formatted } };
}

/** The payload's bytes, or the code of what is wrong. */
async function verifySignature(
  token: string,
  keys: AccessKeys,
): Promise<Uint8Array | "token_malformed" | "token_signature"> {
  for (const key of [keys.primary, keys.secondary]) {
    if (key === null) continue;
    try {
      const { payload } = await compactVerify(token, utf8.encode(key), { algorithms: ["HS256"] });
      return payload;
    } catch (error) {
      if (error instanceof errors.JWSSignatureVerificationFailed) continue;
      if (error instanceof errors.JOSEError) return "token_malformed";
      throw error;
    }
  }
  return "token_signature";
}

function readClaims(payload: Uint8Array): Claim[] | null {
  try {
    return parseClaims(utf8Reader.decode(payload));
  } catch {
    return null;
  }
}

const SENTENCES = {
  token_malformed: ["the access token is no JWT signed with HS256", "access_token"],
  token_signature: ["the access token was not signed with an access key in force", "access_token"],
  token_claims: [
    "the access token lacks a claim, or one is of the wrong type: exp and aud are required",
    "access_token",
  ],
  token_expired: ["the access token has expired", "exp"],
  token_not_yet_valid: ["the access token is not valid yet", "nbf"],
  token_audience: ["the access token was made for another endpoint or hub", "aud"],
  bad_user: [
    "the access token names a user that is no user id: 1 to 512 bytes, no control characters, no space at either end",
    "sub",
  ],
  claims_too_large: [`the access token's claims are over ${MAX_CLAIMS_BYTES} bytes as a header`, "access_token"],
} as const;

function refused(code: keyof typeof SENTENCES): ClientTokenResult {
  const [message, target] = SENTENCES[code];
  return { kind: "refused", refusal: refusal(code, message, target) };
}
