import { type Claim, formatClaims, MAX_CLAIMS_BYTES } from "../protocol/claims.ts";
import { type Refusal, refusal } from "../protocol/error-codes.ts";
import { isName, NAME_RULE } from "../protocol/names.ts";
import type { AccessKeys } from "./access-keys.ts";
import { type Endpoint, isClientAudience } from "./audience.ts";
import { claimValue, type TokenFault, timeFault, tokenRefusal, verifySignedToken } from "./signed-token.ts";

/** The facts that a valid token has about its bearer. */
export interface ClientIdentity {
  /** Null where the token names no user. */
  readonly userId: string | null;
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
 * Source: PROTOCOL.md, "Authentication of the client". `nowSeconds` is the time of day, Unix.
 */
export function verifyClientToken(
  token: string,
  endpoint: Endpoint,
  keys: AccessKeys,
  nowSeconds: number,
): ClientTokenResult {
  const signed = verifySignedToken(token, keys);
  if (typeof signed === "string") return refused(signed);
  const fault = timeFault(signed, nowSeconds);
  if (fault !== null) return refused(fault);
  const { claims } = signed;
  if (!isClientAudience(claimValue(claims, "aud"), endpoint)) return refused("token_audience");
  const [userId = ""] = ["sub", "nameid"].map((type) => claimValue(claims, type)).filter((id) => id !== undefined);
  return identify(claims, userId);
}

/** `named` is what the token has for its user. An empty text counts as no user; null means that it is not a text. */
function identify(claims: readonly Claim[], named: unknown): ClientTokenResult {
  if (typeof named !== "string") return refused("token_claims");
  const userId = named === "" ? null : named;
  if (userId !== null && !isName(userId)) {
    return {
      kind: "refused",
      refusal: refusal("bad_user", `the user id in the access token is invalid; it must be ${NAME_RULE}`, "sub"),
    };
  }
  const formatted = formatClaims(claims);
  if (formatted === null) {
    const sentence = `the access token's claims are over ${MAX_CLAIMS_BYTES} bytes as a header`;
    return { kind: "refused", refusal: refusal("claims_too_large", sentence, "access_token") };
  }
  return { kind: "identity", identity: { userId, claims: formatted } };
}

function refused(fault: TokenFault): ClientTokenResult {
  return { kind: "refused", refusal: tokenRefusal(fault) };
}
