import { type Refusal, refusal } from "../protocol/error-codes.ts";
import { isSamePath, parseRestPath, type RestPath } from "../protocol/rest-path.ts";
import type { AccessKeys } from "./access-keys.ts";
import { audienceUrls } from "./audience.ts";
import { claimValue, type SignedToken, timeFault, tokenRefusal, verifySignedToken } from "./signed-token.ts";

/** Tokens whose signature is remembered. Cost: about 1 kB each. */
const MAX_REMEMBERED = 10_000;

/**
 * Verifies the tokens of REST calls.
 *
 * Shape:  `aud` must hold the request's URL: one of the hosts, the same path, the same hub. A client's token names
 *         another path, so it is no REST token.
 * Cost:   a signature is checked once for each token and keys; a backend that uses a token again pays for a look-up.
 * Source: spec section 6.
 */
export class RestTokens {
  readonly #remembered = new Map<string, SignedToken>();
  #keys: AccessKeys | null = null;

  /** Null where the call may go on. `nowSeconds` is the time of day, Unix. */
  async check(
    authorization: string | null,
    call: { path: RestPath; hosts: readonly string[]; keys: AccessKeys; nowSeconds: number },
  ): Promise<Refusal | null> {
    const token = /^bearer +(\S+)$/i.exec(authorization?.trim() ?? "")?.[1];
    if (token === undefined) {
      return refusal("token_required", "send Authorization: Bearer and a token for this URL", "Authorization", {
        "WWW-Authenticate": "Bearer",
      });
    }
    const signed = await this.#verify(token, call.keys);
    if (typeof signed === "string") return tokenRefusal(signed);
    const fault = timeFault(signed, call.nowSeconds);
    if (fault !== null) return tokenRefusal(fault);
    return isRestAudience(claimValue(signed.claims, "aud"), call) ? null : tokenRefusal("token_audience");
  }

  async #verify(token: string, keys: AccessKeys): ReturnType<typeof verifySignedToken> {
    if (this.#keys !== keys) {
      this.#remembered.clear();
      this.#keys = keys;
    }
    const known = this.#remembered.get(token);
    if (known !== undefined) return known;
    const signed = await verifySignedToken(token, keys);
    if (typeof signed === "string" || this.#keys !== keys) return signed;
    if (this.#remembered.size >= MAX_REMEMBERED) this.#forgetOldest();
    this.#remembered.set(token, signed);
    return signed;
  }

  #forgetOldest(): void {
    for (const oldest of this.#remembered.keys()) {
      this.#remembered.delete(oldest);
      return;
    }
  }
}

/**
 * A step up or none in a path, as a backend writes it that puts the name `..` into an URL (decision 0008).
 *
 * Source: the URL standard, to which a backslash is a slash.
 */
const DOT_SEGMENT = /[/\\](?:\.|%2e){1,2}(?:[/\\?#]|$)/i;

/** What URL parsers leave out before they look: tabs and line ends anywhere, controls and spaces at the end. */
const LEFT_OUT = /[\t\r\n]|[\u0000-\u0020]+$/g;

function isRestAudience(audience: unknown, call: { path: RestPath; hosts: readonly string[] }): boolean {
  const names: unknown[] = Array.isArray(audience) ? audience : [audience];
  // URL parsers take dots out of a path, here and on the request's way. What the token's maker wrote still has them.
  const plain = names.filter((name) => typeof name === "string" && !DOT_SEGMENT.test(name.replace(LEFT_OUT, "")));
  return audienceUrls(plain, call.hosts).some((url) => {
    const path = parseRestPath(url.pathname, url.search.slice(1));
    return path !== null && isSamePath(path, call.path);
  });
}
