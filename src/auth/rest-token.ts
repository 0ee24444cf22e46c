import { type Refusal, refusal } from "../protocol/error-codes.ts";
import { isSamePath, parseRestPath, type RestPath } from "../protocol/rest-path.ts";
import type { AccessKeys } from "./access-keys.ts";
import { audienceUrls } from "./audience.ts";
import { claimValue, timeFault, tokenRefusal, verifySignedToken } from "./signed-token.ts";

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
 *         another path, so it is not a REST token.
 * Cost:   a signature is checked once for each token and keys; a backend that uses a token again pays for a look-up.
 * Source: PROTOCOL.md, "REST API".
 */
export class RestTokens {
  /** By the whole `Authorization` line, so that it need not be taken apart again. */
  readonly #remembered = new Map<string, KnownToken>();
  #keys: AccessKeys | null = null;

  /** Null where the call may go on. At once, so that pipelined calls can be answered in turn. */
  check(authorization: string | null, call: CheckedCall): Refusal | null {
    if (this.#keys !== call.keys) {
      this.#remembered.clear();
      this.#keys = call.keys;
    }
    const known = authorization === null ? undefined : this.#remembered.get(authorization);
    return known === undefined ? this.#checkNew(authorization, call) : checkKnown(known, call);
  }

  #checkNew(authorization: string | null, call: CheckedCall): Refusal | null {
    const token = /^bearer +(\S+)$/i.exec(authorization?.trim() ?? "")?.[1];
    if (authorization === null || token === undefined) {
      return refusal("token_required", "send Authorization: Bearer and a token for this URL", "Authorization", {
        "WWW-Authenticate": "Bearer",
      });
    }
    const signed = verifySignedToken(token, call.keys);
    if (typeof signed === "string") return tokenRefusal(signed);
    const { expiresAt, notBefore } = signed;
    const made = { expiresAt, notBefore, audiences: readAudiences(claimValue(signed.claims, "aud")) };
    if (this.#remembered.size >= MAX_REMEMBERED) this.#forgetOldest();
    this.#remembered.set(authorization, made);
    return checkKnown(made, call);
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
