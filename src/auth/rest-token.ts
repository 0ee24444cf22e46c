import { type Refusal, refusal } from "../protocol/error-codes.ts";
import { isSamePath, parseRestPath, type RestPath } from "../protocol/rest-path.ts";
import type { AccessKeys } from "./access-keys.ts";
import { audienceUrls } from "./audience.ts";
import { claimValue, type TokenFault, timeFault, tokenRefusal, verifySignedToken } from "./signed-token.ts";

/** Tokens whose signature is remembered. Cost: about 1 kB each. */
const MAX_REMEMBERED = 10_000;

/** The call for which a token is checked. */
export interface CheckedCall {
  readonly path: RestPath;
  readonly hosts: readonly string[];
  readonly keys: AccessKeys;
  /** The time of day, Unix. */
  readonly nowSeconds: number;
}

/** A path for which a token holds, on a host in lower case. */
interface Audience {
  readonly host: string;
  readonly path: RestPath;
}

/** A token whose signature is good, as far as a call needs it. Times as in `SignedToken`. */
interface KnownToken {
  readonly expiresAt: number;
  readonly notBefore: number;
  readonly audiences: readonly Audience[];
}

/**
 * Verifies the tokens of REST calls.
 *
 * Shape:  `aud` must hold the request's URL: one of the hosts, the same path, the same hub. A client's token names
 *         another path, so it is no REST token.
 * Cost:   a signature is checked once for each token and keys; a backend that uses a token again pays for a look-up.
 * Source: spec section 6.
 */
export class RestTokens {
  /** By the whole `Authorization` line, so that it need not be taken apart again. */
  readonly #remembered = new Map<string, KnownToken>();
  #keys: AccessKeys | null = null;

  /** As `check`, at once; undefined where the signature has not been checked before. */
  checkRemembered(authorization: string | null, call: CheckedCall): Refusal | null | undefined {
    if (this.#keys !== call.keys || authorization === null) return undefined;
    const known = this.#remembered.get(authorization);
    return known === undefined ? undefined : checkKnown(known, call);
  }

  /** Null where the call may go on. */
  async check(authorization: string | null, call: CheckedCall): Promise<Refusal | null> {
    const token = /^bearer +(\S+)$/i.exec(authorization?.trim() ?? "")?.[1];
    if (authorization === null || token === undefined) {
      return refusal("token_required", "send Authorization: Bearer and a token for this URL", "Authorization", {
        "WWW-Authenticate": "Bearer",
      });
    }
    const known = await this.#verify(authorization, token, call.keys);
    return typeof known === "string" ? tokenRefusal(known) : checkKnown(known, call);
  }

  async #verify(authorization: string, token: string, keys: AccessKeys): Promise<KnownToken | TokenFault> {
    if (this.#keys !== keys) {
      this.#remembered.clear();
      this.#keys = keys;
    }
    const known = this.#remembered.get(authorization);
    if (known !== undefined) return known;
    const signed = await verifySignedToken(token, keys);
    if (typeof signed === "string") return signed;
    const { expiresAt, notBefore } = signed;
    const made = { expiresAt, notBefore, audiences: readAudiences(claimValue(signed.claims, "aud")) };
    if (this.#keys !== keys) return made;
    if (this.#remembered.size >= MAX_REMEMBERED) this.#forgetOldest();
    this.#remembered.set(authorization, made);
    return made;
  }

  #forgetOldest(): void {
    for (const oldest of this.#remembered.keys()) {
      this.#remembered.delete(oldest);
      return;
    }
  }
}

function readAudiences(audience: unknown): Audience[] {
  return audienceUrls(audience).flatMap((url) => {
    const path = parseRestPath(url.pathname, url.search.slice(1));
    return path === null ? [] : [{ host: url.hostname.toLowerCase(), path }];
  });
}

function checkKnown(known: KnownToken, { path, hosts, nowSeconds }: CheckedCall): Refusal | null {
  const fault = timeFault(known, nowSeconds);
  if (fault !== null) return tokenRefusal(fault);
  for (const audience of known.audiences) {
    if (hosts.includes(audience.host) && isSamePath(audience.path, path)) return null;
  }
  return tokenRefusal("token_audience");
}
